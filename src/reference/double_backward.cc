// Double backward of the specification (docs/numerics.md, "Double backward").
#include "reference/reference.h"
#include "reference/row.h"

namespace isonorm::reference {
namespace {

template <class F>
void DoubleBackwardGroup(const Call& call, Group<F>& group, const ColumnSums& sums) {
  group.UseSavedOrCompute();
  const int64_t n = call.group_cols;
  const bool weighted = call.weight_type != Type::kNone;
  const auto dy = [&](int64_t j) { return group.Load(kDy, j); };
  const auto c = [&](int64_t j) { return group.C(j); };
  const auto g = [&](int64_t j) { return weighted ? dy(j) * group.Weight(j) : dy(j); };
  const auto dd = [&](int64_t j) {
    return call.ddweight == nullptr ? F(0)
                                    : LoadScalar<F>(call.ddweight, call.ddweight_type, call.At(kDdweight, group.index(), j));
  };
  // Of a scaled row r is r' * 2^-e: the power of two comes in two halves around r', which neither overflow nor vanish.
  const int exponent = group.norm().exponent, half = -exponent / 2;
  const auto times_r = [&](F v) { return std::ldexp(std::ldexp(v, half) * group.norm().r, -exponent - half); };
  const auto p = [&](int64_t j) { return group.has(kDdx) ? times_r(group.Load(kDdx, j)) : F(0); };
  const auto t = [&](int64_t j) { return dd(j) * dy(j); };
  const auto mean = [&](auto left, auto right) {
    return Mean(Sum<F>(n, call.ranks, [&](F sum, int64_t j) { return std::fma(left(j), right(j), sum); }) + F(0), n);
  };
  const F a = mean(g, c), b = mean(p, c), q = mean(p, g), tau = mean(t, c);
  const F s = tau + std::fma(F(-3), a * b, q);
  for (int64_t j = 0; j < n; ++j) {
    const F k = std::fma(-c(j), b, p(j));
    if (sums.dweight != nullptr) {
      F& sum = static_cast<F*>(sums.dweight)[group.column(j)];
      sum = std::fma(dy(j), k, sum);
    }
    F v = std::fma(-a, p(j), t(j));
    v = std::fma(-b, g(j), v);
    v = std::fma(-c(j), s, v);
    const F dx = times_r(v);
    const F ddy = std::fma(dd(j), group.RoundedC(j), weighted ? group.Weight(j) * k : k);
    // dx and ddy may lie over inputs: both are stored after everything at this place was read.
    if (group.has(kDx)) group.Store(kDx, j, dx);
    if (group.has(kDdy)) group.Store(kDdy, j, ddy);
  }
}

template <class F>
void DoubleBackward(const Call& call, const Run& run, const ColumnSums& sums) {
  for (int64_t row = 0; row < run.count; ++row) {
    for (int64_t g = 0; g < call.groups; ++g) {
      Group<F> group(call, run, row, g);
      DoubleBackwardGroup(call, group, sums);
    }
  }
}

}  // namespace

void AddDoubleBackward(Target& target) {
  target.kernels[k_double_backward_plain_cast_any_any_any] = DoubleBackward<float>;
  target.kernels[k_double_backward_plain_cast_f64_f64_f64] = DoubleBackward<double>;
}

}  // namespace isonorm::reference
