// From sums of squares to reciprocals, many rows in one vector operation (docs/numerics.md §2, steps 1 and 2).
#if defined(ISONORM_CPU_RSTD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_RSTD_INL_H_
#undef ISONORM_CPU_RSTD_INL_H_
#else
#define ISONORM_CPU_RSTD_INL_H_
#endif

#include "cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

// Rows that the tuned loops take through a step together.
constexpr int64_t kBlockRows = 16;

// r[i] of sums[i], for all kBlockRows entries; those past the last row may hold anything.
// 1 / sqrt in f64 and one rounding is the correctly rounded f32 result for every input.
HWY_INLINE void RstdOfSums(const float* HWY_RESTRICT sums, int64_t count, float eps, bool eps_outside, float* HWY_RESTRICT r) {
  const hn::CappedTag<double, 8> dd;
  const hn::Rebind<float, decltype(dd)> df;
  const auto n = hn::Set(dd, static_cast<double>(count)), one = hn::Set(dd, 1.0);
  const auto add = hn::Set(df, eps);
  for (size_t i = 0; i < kBlockRows; i += hn::Lanes(dd)) {
    const auto mean = hn::DemoteTo(df, hn::Div(hn::PromoteTo(dd, hn::LoadU(df, sums + i)), n));
    if (eps_outside) {
      const auto root = hn::Add(hn::Sqrt(mean), add);
      hn::StoreU(hn::Div(hn::Set(df, 1.0f), root), df, r + i);
    } else {
      const auto v = hn::PromoteTo(dd, hn::Add(mean, add));
      hn::StoreU(hn::DemoteTo(df, hn::Div(one, hn::Sqrt(v))), df, r + i);
    }
  }
}

// What is wrong with none of the tuned loops' rows: below, or where they are not, a row takes the general path, which knows
// the scaled redo, infinities and NaN (docs/numerics.md §3).
struct PlainRange {
  PlainRange(double eps, bool eps_outside) : low(eps < (eps_outside ? 0x1p-48 : 0x1p-120) ? 0x1p-96f : 0.0f) {}
  bool Holds(float sum) const { return sum >= low && sum <= std::numeric_limits<float>::max(); }
  float low;
};

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_RSTD_INL_H_
