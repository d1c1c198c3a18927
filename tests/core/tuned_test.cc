// What the tuned loops keep beside the rows: a weight of f16 in another form, and the sums of dweight in another order.
#include <gtest/gtest.h>

#include "run.h"

namespace core_test {
namespace {

class TunedTest : public testing::TestWithParam<std::string> {
 protected:
  // Compares, and requires that it was this target that ran, and a tuned loop where the target has them.
  static void Check(const Problem& problem, const Values& expected, const Values& inputs, const How& how = {}) {
    Same(problem, expected, Compute(problem, inputs, how), "tuned loops");
    const std::string kernel = isonorm_last_kernel();
    EXPECT_TRUE(kernel.ends_with("@" + GetParam())) << kernel << ": " << ToString(problem);
    EXPECT_EQ(kernel.find(".plain.cast.") != std::string::npos, HasTunedLoops(GetParam()))
        << kernel << ": " << ToString(problem);
  }
};

// Around the number of rows and of columns from which on, or up to which, the weight is converted once.
TEST_P(TunedTest, WeightOfF16) {
  const ScopedTarget target(GetParam());
  uint64_t seed = 1;
  for (const int64_t cols : {1, 37, 128, 1000, 8191, 8192, 8193}) {
    for (const int64_t rows : {15, 16, 17, 40}) {
      for (const double offset : {0.0, 1.0}) {
        for (const int32_t rounding : {ISONORM_ROUND_NONE, ISONORM_ROUND_TO_WEIGHT}) {
          Problem problem = Simple(Type::kF16, rows, cols);
          problem.contract.weight_offset = offset;
          problem.contract.scaled_rounding = rounding;
          problem.seed = seed++;
          problem.odd = seed % 3 == 0 ? 1u << kX : seed % 3 == 1 ? 1u << kWeight : 0;
          const Expected expected = Reference(problem);
          const Problem forward = ForwardOf(problem);
          Check(forward, expected.forward, expected.inputs);
        }
      }
    }
  }
}

// dx begins anywhere in a line, its rows share their place there or not, and rows that need the general path come in between.
TEST_P(TunedTest, SumsOfDweight) {
  const ScopedTarget target(GetParam());
  uint64_t seed = 1;
  for (const Type type : {Type::kBf16, Type::kF16, Type::kF32}) {
    for (const int64_t cols : {20, 64, 96, 131, 320}) {
      for (const int64_t rows : {1, 2, 33, 68}) {
        for (const int offset : {0, 1, 8, 17, 31}) {
          Problem problem = Simple(type, rows, cols);
          problem.seed = seed++;
          problem.odd = seed % 3 == 0 ? 0 : (1u << kX) | (1u << kDy);
          const Expected expected = Reference(problem);
          const Problem backward = BackwardOf(problem, seed % 2 == 0 ? Rstd::kSaved : Rstd::kRecomputed);
          How how;
          how.layout.place[kDx].offset = offset;
          for (const int64_t stride : {cols, (cols + 31) / 32 * 32, cols + 1}) {
            how.layout.place[kDx].strides = {stride};
            Check(backward, expected.backward, expected.inputs, how);
          }
        }
      }
    }
  }
}

// Without dx nothing tells a row with infinities from another, and the sums meet all of them.
TEST_P(TunedTest, SumsOfDweightAlone) {
  const ScopedTarget target(GetParam());
  uint64_t seed = 1;
  for (const Type type : {Type::kBf16, Type::kF16, Type::kF32}) {
    for (const int64_t cols : {20, 96, 131}) {
      for (const int64_t rows : {1, 2, 33, 68}) {
        for (int turn = 0; turn < 4; ++turn) {
          Problem problem = Simple(type, rows, cols);
          problem.seed = seed++;
          problem.odd = 1u << (turn % 2 == 0 ? kX : kDy);
          Expected expected = Reference(problem);
          Problem backward = BackwardOf(problem, turn < 2 ? Rstd::kSaved : Rstd::kRecomputed);
          backward.type[kDx] = Type::kNone;
          expected.backward[kDx].clear();
          Check(backward, expected.backward, expected.inputs);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Target, TunedTest, testing::ValuesIn(OtherTargets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
