// The oracle's gradients against central differences of its own forward, and a few values by hand: the judge must be right.
#include "accuracy/oracle.h"

#include <gtest/gtest.h>

#include "accuracy/central_difference.h"
#include "accuracy/variants.h"

namespace isonorm_test {
namespace {

TEST(Oracle, ForwardByHand) {
  Problem problem;
  problem.eps = 0;
  problem.x = Tensor::Of(Type::kF64, {3, 4});
  const Answer answer = Solve(problem);
  EXPECT_LT(std::fabs(answer.y[0] - 3 / std::sqrt(12.5L)), 0x1p-60L);
  EXPECT_LT(std::fabs(answer.y[1] - 4 / std::sqrt(12.5L)), 0x1p-60L);
  EXPECT_LT(std::fabs(answer.rstd.at(0) - 1 / std::sqrt(12.5L)), 0x1p-60L);
  problem.contract = ISONORM_CONTRACT_LAYER_NORM;
  EXPECT_EQ(Solve(problem).y, (Values{-1, 1}));
  problem.contract = ISONORM_CONTRACT_PAPER;
  problem.eps = 0.5;
  problem.window = 1;
  EXPECT_LT(std::fabs(Solve(problem).y[1] - 4 / 3.5L), 0x1p-60L);
}

TEST(Oracle, GatesByHand) {
  EXPECT_EQ(SiluOf(0), 0);
  EXPECT_EQ(SiluSlopeOf(0), 0.5L);
  EXPECT_EQ(SigmoidOf(0), 0.5L);
  EXPECT_EQ(SigmoidSlopeOf(0), 0.25L);
  EXPECT_LT(std::fabs(SiluOf(1) - 0.731058578630004879251L), 1e-18L);
  EXPECT_LT(std::fabs(SigmoidOf(1) - 0.731058578630004879251L), 1e-18L);
  EXPECT_LT(std::fabs(SiluSlopeOf(1) - 0.92767051187148673179L), 1e-18L);
  for (const long double z : {-50.0L, -3.0L, -1.278L, 0.25L, 7.0L, 90.0L}) {
    const long double h = 0x1p-20L;  // h^2 / 6 times the third derivative is below 2^-42
    const long double silu = (SiluOf(z + h) - SiluOf(z - h)) / (2 * h),
                      sigmoid = (SigmoidOf(z + h) - SigmoidOf(z - h)) / (2 * h);
    EXPECT_LT(std::fabs(silu - SiluSlopeOf(z)), 0x1p-41L) << static_cast<double>(z);
    EXPECT_LT(std::fabs(sigmoid - SigmoidSlopeOf(z)), 0x1p-41L) << static_cast<double>(z);
  }
}

TEST(Oracle, ClosedFormsAreTheDerivatives) {
  for (const Variant& variant : Variants()) {
    Problem problem = MakeVariant(variant, Type::kF64, 2, 24);
    const Answer answer = Solve(problem);
    for (const Input input : {Input::kX, Input::kWeight, Input::kBias, Input::kGate}) {
      const Values& closed = input == Input::kX        ? answer.dx
                             : input == Input::kWeight ? answer.dweight
                             : input == Input::kBias   ? answer.dbias
                                                       : answer.dgate;
      const int64_t count = SizeOf(problem, input);
      ASSERT_EQ(input == Input::kBias && count == 0 ? 0u : closed.size(), static_cast<size_t>(count)) << variant.name;
      for (int64_t i = 0; i < count; ++i) {
        const Difference difference = Differ(problem, input, i);
        EXPECT_LE(difference.doubt, 1e-9L) << variant.name << " the difference itself is too rough";
        EXPECT_TRUE(std::fabs(difference.value - closed[static_cast<size_t>(i)]) <= difference.doubt)
            << variant.name << " input " << static_cast<int>(input) << " element " << i << ": "
            << static_cast<double>(difference.value) << " and " << static_cast<double>(closed[static_cast<size_t>(i)]);
      }
    }
  }
}

TEST(Oracle, ADifferenceSeesAWrongGradient) {
  const Problem problem = MakeVariant(Variants().front(), Type::kF64, 2, 24);
  const Answer answer = Solve(problem);
  const Difference difference = Differ(problem, Input::kX, 5);
  EXPECT_FALSE(std::fabs(difference.value - answer.dx[5] * (1 + 1e-8L)) <= difference.doubt);
  EXPECT_FALSE(std::fabs(difference.value - std::numeric_limits<long double>::quiet_NaN()) <= difference.doubt);
}

}  // namespace
}  // namespace isonorm_test
