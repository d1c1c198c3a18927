#include "accuracy/double_backward.h"

namespace isonorm_test {
namespace {

// A number and its derivative.
struct Dual {
  long double value = 0, slope = 0;
};
Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.slope + b.slope}; }
Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.slope - b.slope}; }
Dual operator*(Dual a, Dual b) { return {a.value * b.value, a.slope * b.value + a.value * b.slope}; }
Dual InvSqrt(Dual a) {
  const long double r = 1 / std::sqrt(a.value);
  return {r, -r * r * r * a.slope / 2};
}

// The inputs of one group, as long double or as dual numbers.
template <class T>
struct Group {
  std::vector<T> x, w, dy, u, dd;  // w with its offset
};

Group<long double> GroupOf(const DoubleProblem& problem, int64_t first) {
  const Problem& plain = problem.plain;
  Group<long double> group;
  for (int64_t i = first; i < first + plain.group_cols(); ++i) {
    const int64_t col = i % plain.cols();
    group.x.push_back(plain.x[i]);
    group.w.push_back(plain.weight.present() ? plain.weight[col] + static_cast<long double>(plain.contract.weight_offset) : 1);
    group.dy.push_back(plain.dy[i]);
    group.u.push_back(problem.ddx.present() ? problem.ddx[i] : 0);
    group.dd.push_back(problem.ddweight.present() ? problem.ddweight[col] : 0);
  }
  return group;
}

long double EpsOf(const Problem& problem) {
  return RoundTo(problem.x.type() == Type::kF64 ? Type::kF64 : Type::kF32, problem.eps);
}

DoubleAnswer Empty(const DoubleProblem& problem) {
  const auto size = static_cast<size_t>(problem.plain.x.size()), cols = static_cast<size_t>(problem.plain.cols());
  DoubleAnswer answer;
  for (Values* each : {&answer.dx, &answer.ddy, &answer.dx_terms, &answer.ddy_terms}) each->resize(size);
  for (Values* each : {&answer.dweight, &answer.dweight_terms}) each->resize(cols);
  return answer;
}

// sum(ddx * dx) + sum(ddweight * dweight) with dx and dweight as backward computes them.
Dual LossOfBackward(const Group<Dual>& group, long double eps) {
  const size_t n = group.x.size();
  const Dual share = {1 / static_cast<long double>(n), 0};
  Dual squares, product, loss;
  for (const Dual& x : group.x) squares = squares + x * x;
  const Dual rstd = InvSqrt(squares * share + Dual{eps, 0});
  for (size_t j = 0; j < n; ++j) product = product + group.dy[j] * group.w[j] * group.x[j] * rstd;
  for (size_t j = 0; j < n; ++j) {
    const Dual c = group.x[j] * rstd;
    loss = loss + group.u[j] * rstd * (group.dy[j] * group.w[j] - c * (product * share));
    loss = loss + group.dd[j] * group.dy[j] * c;
  }
  return loss;
}

}  // namespace

DoubleOutputs RunDoubleBackward(DoubleProblem& problem, Tensor* saved_rstd) {
  Problem& plain = problem.plain;
  DoubleOutputs out;
  out.dx = Tensor(plain.x.type(), plain.x.shape());
  out.ddy = Tensor(plain.dy.type(), plain.x.shape());
  if (plain.weight.present()) out.dweight = Tensor(plain.weight.type(), {plain.cols()});
  isonorm_double_backward_args args{};
  args.struct_size = sizeof(args);
  args.dy = plain.dy.abi();
  args.x = plain.x.abi();
  args.weight = plain.weight.abi();
  args.rstd = saved_rstd == nullptr ? nullptr : saved_rstd->abi();
  args.ddx = problem.ddx.abi();
  args.ddweight = problem.ddweight.abi();
  args.dx = out.dx.abi();
  args.dweight = out.dweight.abi();
  args.ddy = out.ddy.abi();
  args.groups = plain.groups;
  size_t bytes = 0;
  isonorm_status status = isonorm_double_backward_workspace(&plain.contract, plain.eps, &args, &bytes);
  std::vector<uint8_t> workspace(bytes, 0xff);  // NaN in every type: whoever reads before writing shows
  args.workspace = workspace.data();
  args.workspace_size = bytes;
  if (status == ISONORM_OK) status = isonorm_double_backward(&plain.contract, plain.eps, &args);
  if (status != ISONORM_OK) out.error = isonorm_last_error();
  return out;
}

DoubleAnswer SolveDouble(const DoubleProblem& problem) {
  const Problem& plain = problem.plain;
  DoubleAnswer answer = Empty(problem);
  std::vector<Sum> dweight(answer.dweight.size()), dweight_size(answer.dweight.size());
  const long double n = static_cast<long double>(plain.group_cols());
  for (int64_t first = 0; first < plain.x.size(); first += plain.group_cols()) {
    const Group<long double> in = GroupOf(problem, first);
    // A mean of products, and the mean of their sizes.
    struct Mean {
      long double value, size;
    };
    const auto mean = [&](const Values& left, const Values& right) -> Mean {
      Sum sum, size;
      for (size_t j = 0; j < left.size(); ++j) sum.Add(left[j] * right[j]), size.Add(std::fabs(left[j] * right[j]));
      return {sum.value() / n, size.value() / n};
    };
    const long double r = 1 / std::sqrt(mean(in.x, in.x).value + EpsOf(plain));
    Values c, g, p, t;
    for (size_t j = 0; j < in.x.size(); ++j) {
      c.push_back(in.x[j] * r);
      g.push_back(in.dy[j] * in.w[j]);
      p.push_back(in.u[j] * r);
      t.push_back(in.dd[j] * in.dy[j]);
    }
    const Mean a = mean(g, c), b = mean(p, c), q = mean(p, g), tau = mean(t, c);
    const long double s = tau.value + q.value - 3 * a.value * b.value, s_size = tau.size + q.size + 3 * a.size * b.size;
    for (size_t j = 0; j < in.x.size(); ++j) {
      const size_t i = static_cast<size_t>(first) + j, col = i % dweight.size();
      answer.dx[i] = r * (t[j] - a.value * p[j] - b.value * g[j] - c[j] * s);
      answer.dx_terms[i] =
          r * (std::fabs(t[j]) + a.size * std::fabs(p[j]) + b.size * std::fabs(g[j]) + std::fabs(c[j]) * s_size);
      const long double k = p[j] - c[j] * b.value, k_size = std::fabs(p[j]) + std::fabs(c[j]) * b.size;
      answer.ddy[i] = in.w[j] * k + in.dd[j] * c[j];
      answer.ddy_terms[i] = std::fabs(in.w[j]) * k_size + std::fabs(in.dd[j] * c[j]);
      dweight[col].Add(in.dy[j] * k);
      dweight_size[col].Add(std::fabs(in.dy[j]) * k_size);
    }
  }
  for (size_t j = 0; j < dweight.size(); ++j) {
    answer.dweight[j] = dweight[j].value();
    answer.dweight_terms[j] = dweight_size[j].value();
  }
  return answer;
}

DoubleAnswer DifferentiateBackward(const DoubleProblem& problem) {
  const Problem& plain = problem.plain;
  DoubleAnswer answer = Empty(problem);
  for (int64_t first = 0; first < plain.x.size(); first += plain.group_cols()) {
    const Group<long double> in = GroupOf(problem, first);
    Group<Dual> group;
    for (size_t j = 0; j < in.x.size(); ++j) {
      group.x.push_back({in.x[j], 0});
      group.w.push_back({in.w[j], 0});
      group.dy.push_back({in.dy[j], 0});
      group.u.push_back({in.u[j], 0});
      group.dd.push_back({in.dd[j], 0});
    }
    const auto slope = [&](Dual& input) {
      input.slope = 1;
      const long double result = LossOfBackward(group, EpsOf(plain)).slope;
      input.slope = 0;
      return result;
    };
    for (size_t j = 0; j < in.x.size(); ++j) {
      const size_t i = static_cast<size_t>(first) + j;
      answer.dx[i] = slope(group.x[j]);
      answer.ddy[i] = slope(group.dy[j]);
      answer.dweight[i % answer.dweight.size()] += slope(group.w[j]);
    }
  }
  return answer;
}

}  // namespace isonorm_test
