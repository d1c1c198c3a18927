// What a computation should give: the formulas of the norms in long double, with compensated sums, with no storage rounding
// in between and none of the library's order or code. Its error, below 2^-60 relative, cannot show beside f32 or f64.
#pragma once

#include <vector>

#include "accuracy/problem.h"

namespace isonorm_test {

using Values = std::vector<long double>;

struct Answer {
  Values y;               // rows x cols
  Values rstd;            // rows x groups
  Values dx, dgate;       // rows x cols
  Values dweight, dbias;  // cols
  // For error bounds: how large the terms are whose sum is the result. With s = 1 for LayerNorm, where an error of the mean
  // moves every c by a part of the row's rms however small that c is, and s = 0 otherwise:
  Values y_terms;  // (|c| + s) * |w'| + |bias|; of a rotated pair (a, b): |a cos| + |b sin|, and alike below for dy
  Values
      dx_terms;  // rstd * (|g| + s * mean |g| + |c| * mean |g * c| + s * (|c| + 1) * mean |g| + s * mean |g * c|) + |dresidual|
  Values dgate_terms;
  Values dweight_terms, dbias_terms;  // sum of |dy| * (|c| + s), sum of |dy|
};

// The sum of rounded storage is part of what `stored` means; everything else is exact.
Answer Solve(const Problem& problem);

// The loss sum(dy * y) + sum(dresidual * x), for numerical differentiation, with x, weight, bias and gate replaced.
long double Loss(const Problem& problem, const Values& x, const Values& weight, const Values& bias, const Values& gate);

long double SiluOf(long double z);
long double SigmoidOf(long double z);
long double SiluSlopeOf(long double z);  // derivatives
long double SigmoidSlopeOf(long double z);

// Neumaier's sum: the error does not grow with the number of terms.
class Sum {
 public:
  void Add(long double value) {
    const long double total = total_ + value;
    rest_ += std::fabs(total_) >= std::fabs(value) ? (total_ - total) + value : (value - total) + total_;
    total_ = total;
  }
  long double value() const { return std::isfinite(total_) ? total_ + rest_ : total_; }

 private:
  long double total_ = 0, rest_ = 0;
};

}  // namespace isonorm_test
