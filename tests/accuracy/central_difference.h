// Numerical derivatives of the oracle's loss, each with an honest estimate of its own error.
#pragma once

#include <cmath>
#include <limits>

#include "accuracy/oracle.h"

namespace isonorm_test {

enum class Input { kX, kWeight, kBias, kGate };

inline int64_t SizeOf(const Problem& problem, Input input) {
  const Tensor& tensor = input == Input::kX        ? problem.x
                         : input == Input::kWeight ? problem.weight
                         : input == Input::kBias   ? problem.bias
                                                   : problem.gate;
  return tensor.present() ? tensor.size() : 0;
}

struct Difference {
  long double value;
  long double doubt;
};

// The error of a central difference of step h is h^2/6 * f''' + the rounding of f over h. The step 2^-18 of values around 1
// keeps both below 1e-9 in 64 bits of precision. Steps h and 2h differ by three times the first part, so their difference
// bounds it with room; the second is at most 2^-62 of the size of the terms, over h.
inline Difference Differ(const Problem& problem, Input input, int64_t index) {
  Values parts[] = {problem.x.values(), problem.weight.values(), problem.bias.values(), problem.gate.values()};
  long double& value = parts[static_cast<int>(input)][static_cast<size_t>(index)];
  const long double at = value;
  const auto loss = [&](long double step) {
    value = at + step;
    return Loss(problem, parts[0], parts[1], parts[2], parts[3]);
  };
  const long double h = 0x1p-18L;
  const long double near = (loss(h) - loss(-h)) / (2 * h), far = (loss(2 * h) - loss(-2 * h)) / (4 * h);
  long double size = 0;
  const Answer answer = Solve(problem);
  for (size_t i = 0; i < answer.y.size(); ++i) {
    size += std::fabs(problem.dy[static_cast<int64_t>(i)]) * answer.y_terms[i];
    if (problem.dresidual.present())
      size += std::fabs(problem.dresidual[static_cast<int64_t>(i)] * problem.x[static_cast<int64_t>(i)]);
  }
  return {near, std::fabs(far - near) + size * std::ldexp(1.0L, 2 - std::numeric_limits<long double>::digits) / h};
}

}  // namespace isonorm_test
