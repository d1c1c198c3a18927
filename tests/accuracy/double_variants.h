// The shapes that double backward can have.
#pragma once

#include <vector>

#include "accuracy/data.h"
#include "accuracy/double_backward.h"

namespace isonorm_test {

struct DoubleVariant {
  const char* name;
  double eps;
  int64_t groups;
  double weight_offset;
  bool weight, ddx, ddweight;
};

inline std::vector<DoubleVariant> DoubleVariants() {
  return {
      {"both", 1e-6, 1, 0, true, true, true},
      {"ddx alone", 1e-6, 1, 0, true, true, false},
      {"ddweight alone", 1e-6, 1, 0, true, false, true},
      {"no weight", 1e-6, 1, 0, false, true, false},
      {"large eps", 0.25, 1, 0, true, true, true},
      {"groups", 1e-6, 4, 0, true, true, true},
      {"offset 1", 1e-6, 1, 1, true, true, true},
  };
}

// All tensors are of one type.
inline DoubleProblem MakeDouble(const DoubleVariant& variant, Type type, int64_t rows, int64_t cols) {
  isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  contract.weight_offset = variant.weight_offset;
  DoubleProblem problem;
  problem.plain = MakeProblem(contract, "plain", type, type, rows, cols);
  problem.plain.eps = variant.eps;
  problem.plain.groups = variant.groups;
  const auto seed = static_cast<uint64_t>(rows * 7919 + cols);
  problem.plain.dy = MakePlain(type, {rows, cols}, seed + 2);
  if (!variant.weight) problem.plain.weight = Tensor();
  if (variant.ddx) problem.ddx = MakePlain(type, {rows, cols}, seed + 3);
  if (variant.ddweight) problem.ddweight = MakePlain(type, {cols}, seed + 4);
  return problem;
}

}  // namespace isonorm_test
