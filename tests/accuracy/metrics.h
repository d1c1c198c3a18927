// How far results are from the oracle. Whatever is not a number, or not where the oracle is, counts as infinitely far.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

#include "accuracy/oracle.h"

namespace isonorm_test {

// The worst and the mean of some errors.
class Errors {
 public:
  void Add(long double error) {
    if (!(error >= 0)) error = HUGE_VALL;  // NaN too
    if (!(error <= worst_)) worst_ = error;
    sum_ += error;
    ++count_;
  }
  long double worst() const { return count_ == 0 ? HUGE_VALL : worst_; }  // nothing compared is no success
  long double mean() const { return count_ == 0 ? HUGE_VALL : sum_ / static_cast<long double>(count_); }
  int64_t count() const { return count_; }

 private:
  long double worst_ = 0, sum_ = 0;
  int64_t count_ = 0;
};

// |got - want| in units; 0 where both are the same infinity.
inline long double Distance(long double got, long double want, long double unit) {
  if (got == want) return 0;
  const long double distance = std::fabs(got - want) / unit;
  return std::isnan(distance) ? HUGE_VALL : distance;
}

inline long double UlpError(Type type, long double got, long double want) {
  // Past the largest number, infinity is the right answer from half an ulp on.
  if (std::isinf(got) && RoundTo(type, want) == got) return 0;
  return Distance(got, want, Ulp(type, want));
}

// In ulp of the tensor's type.
inline Errors UlpErrors(const Tensor& got, const Values& want) {
  Errors errors;
  if (static_cast<size_t>(got.size()) != want.size()) errors.Add(HUGE_VALL);
  for (int64_t i = 0; i < got.size() && static_cast<size_t>(i) < want.size(); ++i) {
    errors.Add(UlpError(got.type(), got[i], want[static_cast<size_t>(i)]));
  }
  return errors;
}

// In units of 2^-24 (or 2^-53 for f64) of the size of the terms that were added, less the half ulp of the store, which is that
// of the larger of the two values: what was stored may lie in the next binade.
inline Errors TermErrors(const Tensor& got, const Values& want, const Values& terms) {
  Errors errors;
  if (static_cast<size_t>(got.size()) != want.size() || want.size() != terms.size()) errors.Add(HUGE_VALL);
  const long double unit = got.type() == Type::kF64 ? 0x1p-53L : 0x1p-24L;
  for (int64_t i = 0; i < got.size() && static_cast<size_t>(i) < want.size(); ++i) {
    const auto at = static_cast<size_t>(i);
    const long double off = std::fabs(got[i] - want[at]), larger = std::max(std::fabs(got[i]), std::fabs(want[at]));
    const long double store = Ulp(got.type(), larger) / 2;
    errors.Add(off <= store ? 0 : Distance(off, store, terms[at] * unit));
  }
  return errors;
}

}  // namespace isonorm_test
