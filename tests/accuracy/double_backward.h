// Double backward: a computation as data, what the library makes of it, what it should be, and how far the two may be apart.
#pragma once

#include "accuracy/bounds.h"

namespace isonorm_test {

struct DoubleProblem {
  Problem plain;         // x, weight, dy, eps, groups; no bias, residual or gate
  Tensor ddx, ddweight;  // one of them may be absent
};

struct DoubleOutputs {
  Tensor dx, dweight, ddy;
  std::string error;  // "" if the call succeeded
};

// Every output that the problem allows is asked for. saved: the rstd of forward to hand in, or null.
DoubleOutputs RunDoubleBackward(DoubleProblem& problem, Tensor* saved_rstd = nullptr);

// The closed form in long double, and the size of the terms that are added, for error bounds.
struct DoubleAnswer {
  Values dx, ddy;  // rows x cols
  Values dweight;  // cols
  Values dx_terms, ddy_terms, dweight_terms;
};
DoubleAnswer SolveDouble(const DoubleProblem& problem);

// The same gradients without a closed form: dual numbers carry each derivative through the formulas of backward, one input
// after the other.
DoubleAnswer DifferentiateBackward(const DoubleProblem& problem);

// Roundings counted, as in bounds.h.
struct DoubleBounds {
  double dx, dweight, ddy;
};
inline DoubleBounds DoubleBoundsOf(const DoubleProblem& problem) {
  const double sum = SumRoundings(problem.plain.group_cols());
  const double f64 = problem.plain.x.type() == Type::kF64 ? 1 : 0;  // 1 / sqrt is two roundings there
  const double rstd = (sum + 2) / 2 + 1 + f64;
  const double c = rstd + 1, p = rstd + 1, g = 2, t = 1;  // g: weight + offset, times dy
  const double a = sum + g + c + 1, b = sum + p + c + 1, q = sum + p + g + 1, tau = sum + t + c + 1;
  const double s = std::fmax(std::fmax(tau, q + 1), a + b + 2) + 1;  // tau + (q - 3 * (a * b))
  const double v = std::fmax(std::fmax(t + 3, a + p + 3), std::fmax(b + g + 2, s + c + 1));
  const double k = std::fmax(p, b + c) + 1;
  const double ddy = std::fmax(k + 2, c) + 1;  // fma(ddweight, c, w' * k)
  return {Likely(v + rstd + 1), Likely(RowRoundings(problem.plain.rows()) + k), Likely(ddy)};
}

}  // namespace isonorm_test
