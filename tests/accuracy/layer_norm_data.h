// Rows whose mean is many times their deviation.
#pragma once

#include "accuracy/data.h"
#include "accuracy/metrics.h"

namespace isonorm_test {

inline Problem MakeFar(double ratio, int64_t cols, Type type) {
  Problem problem;
  problem.contract = ISONORM_CONTRACT_LAYER_NORM;
  problem.eps = 1e-12;
  Random random(static_cast<uint64_t>(std::fabs(ratio)) + static_cast<uint64_t>(cols));
  problem.x =
      Tensor(type, {20, cols}).Fill([&](int64_t) { return random.Plain() + ratio * 1.1547; });  // its deviation is 1.1547
  return problem;
}

// Relative to the row's scale: the results have a deviation of 1, so values below 1 are held against 1.
inline Errors ScaledErrors(const Tensor& got, const Values& want) {
  Errors errors;
  for (int64_t i = 0; i < got.size(); ++i) {
    const long double value = want[static_cast<size_t>(i)];
    errors.Add(Distance(got[i], value, std::fmax(1.0L, std::fabs(value))));
  }
  return errors;
}

}  // namespace isonorm_test
