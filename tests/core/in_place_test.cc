// An output exactly over an input gives the bits it gives elsewhere, and touches nothing else.
#include <gtest/gtest.h>

#include "run.h"

namespace core_test {
namespace {

struct Pair {
  Slot output, input;
};
using Pairs = std::vector<Pair>;

class InPlaceTest : public testing::TestWithParam<std::string> {
 protected:
  // The problem with all outputs of one of the directions laid over inputs. False if a tensor is not there or has another type.
  static bool Check(const Problem& call, const Values& inputs, const Values& expected, const Pairs& pairs, int64_t padding) {
    How how;
    std::string what = "in place:";
    for (int slot = 0; slot < kSlots; ++slot) {
      const bool has_rows = !call.is_vector(static_cast<Slot>(slot)) && !call.is_statistic(static_cast<Slot>(slot)) &&
                            slot != kScale && slot != kPositions;
      if (has_rows && padding != 0) how.layout.place[static_cast<size_t>(slot)].strides = {call.cols + padding};
    }
    for (const Pair& pair : pairs) {
      if (!call.has(pair.output) || !call.has(pair.input) || call.type[pair.output] != call.type[pair.input]) return false;
      how.layout.place[pair.output].over = pair.input;
      what += std::string(" ") + NameOf(pair.output) + " over " + NameOf(pair.input);
    }
    const ScopedTarget target(GetParam());
    Same(call, expected, Compute(call, inputs, how), what);
    return true;
  }
};

// Random, with one type for all, so that anything may lie over anything.
Problem OfOneType(uint64_t seed, int64_t rows, int64_t cols) {
  Problem problem = Random(seed, rows, cols);
  const Type type = problem.compute() == Type::kF64 ? Type::kF64 : problem.type[kX];
  for (int slot = 0; slot < kSlots; ++slot) {
    const bool keeps = (problem.quantizes() && (slot == kY || slot == kScale)) || slot == kPositions;
    Type& each = problem.type[static_cast<size_t>(slot)];
    if (!keeps && each != Type::kNone) each = type;
  }
  if (seed % 2 == 0) problem.type[kDresidual] = type;
  return problem;
}

TEST_P(InPlaceTest, Forward) {
  const std::vector<Pairs> all = {{{kY, kX}},
                                  {{kY, kResidual}},
                                  {{kY, kGate}},
                                  {{kResidualOut, kX}},
                                  {{kResidualOut, kResidual}},
                                  {{kResidualOut, kGate}},
                                  {{kY, kX}, {kResidualOut, kResidual}},
                                  {{kY, kResidual}, {kResidualOut, kX}},
                                  {{kY, kGate}, {kResidualOut, kX}}};
  std::vector<int> tried(all.size(), 0);
  for (const int64_t cols : {1, 40, 129, 800}) {
    for (uint64_t seed = 1; seed <= 25; ++seed) {
      const Problem problem = OfOneType(seed * 3 + static_cast<uint64_t>(cols), 5, cols);
      const Expected expected = Reference(problem);
      const Problem forward = ForwardOf(problem);
      for (size_t i = 0; i < all.size(); ++i) {
        tried[i] += Check(forward, expected.inputs, expected.forward, all[i], static_cast<int64_t>(seed % 3)) ? 1 : 0;
      }
    }
  }
  for (size_t i = 0; i < all.size(); ++i) EXPECT_GT(tried[i], 0) << "pairs " << i << " never came up";
}

TEST_P(InPlaceTest, Backward) {
  const std::vector<Pairs> all = {{{kDx, kDy}},
                                  {{kDx, kX}},
                                  {{kDx, kDresidual}},
                                  {{kDx, kResidual}},
                                  {{kDx, kGate}},
                                  {{kDgate, kDy}},
                                  {{kDgate, kX}},
                                  {{kDgate, kResidual}},
                                  {{kDgate, kGate}},
                                  {{kDgate, kDresidual}},
                                  {{kDx, kDy}, {kDgate, kGate}},
                                  {{kDx, kX}, {kDgate, kDy}},
                                  {{kDx, kGate}, {kDgate, kX}}};
  std::vector<int> tried(all.size(), 0);
  for (const int64_t cols : {1, 40, 129, 800}) {
    for (uint64_t seed = 1; seed <= 30; ++seed) {
      const Problem problem = OfOneType(seed * 5 + static_cast<uint64_t>(cols), 35, cols);
      const Expected expected = Reference(problem);
      const Problem backward = BackwardOf(problem, seed % 2 == 0 ? Rstd::kSaved : Rstd::kRecomputed);
      for (size_t i = 0; i < all.size(); ++i) {
        tried[i] += Check(backward, expected.inputs, expected.backward, all[i], static_cast<int64_t>(seed % 3)) ? 1 : 0;
      }
    }
  }
  for (size_t i = 0; i < all.size(); ++i) EXPECT_GT(tried[i], 0) << "pairs " << i << " never came up";
}

// residual_out in place of x and residual.
TEST_P(InPlaceTest, BackwardFromResidualOut) {
  const std::vector<Pairs> all = {{{kDx, kResidualOut}},
                                  {{kDx, kDy}},
                                  {{kDx, kDresidual}},
                                  {{kDx, kGate}},
                                  {{kDgate, kResidualOut}},
                                  {{kDgate, kDresidual}},
                                  {{kDx, kResidualOut}, {kDgate, kDy}},
                                  {{kDx, kDresidual}, {kDgate, kResidualOut}}};
  std::vector<int> tried(all.size(), 0);
  for (const int64_t cols : {1, 40, 129, 800}) {
    for (uint64_t seed = 1; seed <= 60; ++seed) {
      const Problem problem = OfOneType(seed * 7 + static_cast<uint64_t>(cols), 35, cols);
      if (!MayUseStoredSum(problem)) continue;
      const Expected expected = Reference(problem);
      const Problem backward = BackwardOf(problem, seed % 2 == 0 ? Rstd::kSaved : Rstd::kRecomputed, Sum::kFromStored);
      for (size_t i = 0; i < all.size(); ++i) {
        tried[i] += Check(backward, expected.inputs, expected.backward, all[i], static_cast<int64_t>(seed % 3)) ? 1 : 0;
      }
    }
  }
  for (size_t i = 0; i < all.size(); ++i) EXPECT_GT(tried[i], 0) << "pairs " << i << " never came up";
}

INSTANTIATE_TEST_SUITE_P(Target, InPlaceTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
