// silu, sigmoid and their slopes as the library computes them: a row of ones without eps has rstd 1 exactly, so that a gate
// after the norm gives f(gate), and its gradient for dy = 1 gives the slope.
#pragma once

#include <string>
#include <vector>

#include "accuracy/data.h"

namespace isonorm_test {

struct GateSample {
  Tensor z, value, slope;
  std::string error;
};

inline GateSample SampleGate(int32_t function, const std::vector<long double>& arguments) {
  GateSample sample;
  sample.z = Tensor::Of(Type::kF32, arguments);
  Problem problem;
  problem.contract.gate_place = ISONORM_GATE_AFTER;
  problem.contract.gate_function = function;
  problem.eps = 0;
  problem.gate = sample.z;
  problem.x = problem.dy = Tensor(Type::kF32, {sample.z.size()}).Fill([](int64_t) { return 1; });
  const Outputs forward = RunForward(problem, Type::kF32), backward = RunBackward(problem);
  sample.value = forward.y;
  sample.slope = backward.dgate;
  sample.error = forward.error + backward.error;
  return sample;
}

// Both signs: 256 mantissas of every exponent from 2^-40 to 2^8, below which silu(z) is z / 2; and a grid to +-160.
inline std::vector<long double> GateArguments() {
  Random random(5);
  std::vector<long double> arguments;
  for (int exponent = -40; exponent <= 7; ++exponent) {
    for (int i = 0; i < 256; ++i) {
      const long double size = std::ldexp(1 + (i + 0.999L * random.Between(0, 1000) / 1000) / 256, exponent);
      arguments.push_back(size);
      arguments.push_back(-size);
    }
  }
  for (int i = -20000; i <= 20000; ++i) arguments.push_back(i * 0.008L);
  return arguments;
}

}  // namespace isonorm_test
