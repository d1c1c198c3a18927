// The shapes that a computation can have: statistic, place of eps, window, groups, gate, residual. Small tests try all.
#pragma once

#include <vector>

#include "accuracy/data.h"

namespace isonorm_test {

struct Variant {
  const char* name;
  isonorm_contract contract;
  double eps;
  int64_t groups;
  int64_t window_divisor;  // the window is cols / groups / this; 0: none
  bool bias;
  bool residual_gradient;  // dresidual
};

inline isonorm_contract With(isonorm_contract contract, int32_t gate_place, double offset) {
  contract.scaled_rounding = ISONORM_ROUND_NONE;
  contract.gate_place = gate_place;
  contract.weight_offset = offset;
  return contract;
}

inline isonorm_contract WithSigmoid(isonorm_contract contract) {
  contract.gate_function = ISONORM_GATE_SIGMOID;
  return contract;
}

inline std::vector<Variant> Variants() {
  const isonorm_contract torch = ISONORM_CONTRACT_TORCH, paper = ISONORM_CONTRACT_PAPER, layer = ISONORM_CONTRACT_LAYER_NORM;
  isonorm_contract layer_outside = layer;
  layer_outside.eps_place = ISONORM_EPS_OUTSIDE;
  return {
      {"rms", torch, 1e-6, 1, 0, false, false},
      {"rms, large eps", torch, 0.25, 1, 0, true, true},
      {"rms, window", torch, 1e-6, 1, 3, true, false},
      {"rms, groups", torch, 1e-6, 4, 0, false, true},
      {"rms, groups and window", torch, 1e-3, 2, 2, true, true},
      {"rms, offset 1", With(torch, ISONORM_GATE_NONE, 1), 1e-6, 1, 0, false, false},
      {"paper", paper, 1e-6, 1, 0, true, false},
      {"paper, large eps and window", paper, 0.5, 1, 4, true, true},
      {"layer norm", layer, 1e-5, 1, 0, true, false},
      {"layer norm, groups", layer, 1e-5, 3, 0, true, true},
      {"layer norm, eps outside", layer_outside, 0.125, 1, 0, true, false},
      {"gate before", With(torch, ISONORM_GATE_BEFORE, 0), 1e-5, 1, 0, false, false},
      {"gate before, groups", With(torch, ISONORM_GATE_BEFORE, 0), 1e-5, 4, 0, true, false},
      {"gate after", With(torch, ISONORM_GATE_AFTER, 0), 1e-6, 1, 0, true, false},
      {"sigmoid before", WithSigmoid(With(torch, ISONORM_GATE_BEFORE, 0)), 1e-5, 1, 0, true, false},
      {"sigmoid after", WithSigmoid(With(torch, ISONORM_GATE_AFTER, 0)), 1e-6, 1, 0, true, false},
      {"gate after, layer norm", With(layer, ISONORM_GATE_AFTER, 0), 1e-6, 1, 0, true, false},
  };
}

inline bool HasGate(const Variant& variant) { return variant.contract.gate_place != ISONORM_GATE_NONE; }

// All tensors are of one type.
inline Problem MakeVariant(const Variant& variant, Type type, int64_t rows, int64_t cols) {
  Problem problem = MakeProblem(variant.contract, "plain", type, type, rows, cols);
  problem.eps = variant.eps;
  problem.groups = variant.groups;
  problem.window = variant.window_divisor == 0 ? 0 : cols / variant.groups / variant.window_divisor;
  const auto seed = static_cast<uint64_t>(rows * 7919 + cols);
  problem.dy = MakePlain(type, {rows, cols}, seed + 2);
  if (variant.bias) problem.bias = MakePlain(type, {cols}, seed + 3);
  if (variant.residual_gradient) problem.dresidual = MakePlain(type, {rows, cols}, seed + 4);
  if (HasGate(variant)) problem.gate = MakePlain(type, {rows, cols}, seed + 5);
  return problem;
}

}  // namespace isonorm_test
