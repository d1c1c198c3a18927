// What went wrong for users of other libraries, with the numbers of their reports. The names are those of the reports' themes.
#include <gtest/gtest.h>

#include "accuracy/metrics.h"
#include "accuracy/pitfalls.h"

namespace isonorm_test {
namespace {

TEST(PitfallsForward, F16SquaresDoNotOverflow) {  // a1: gave all zeros elsewhere
  ExpectForward(ISONORM_CONTRACT_TORCH, 0, Tensor::Of(Type::kF16, {256, 256}), {1, 1});
  for (const int64_t cols : {int64_t{2048}, int64_t{8192}}) {
    for (const long double value : {1.0L, 300.0L, 7600.0L, 65504.0L, 0x1p-24L}) {
      ExpectForward(ISONORM_CONTRACT_TORCH, 0, Tensor(Type::kF16, {cols}).Fill([&](int64_t) { return value; }),
                    Values(static_cast<size_t>(cols), 1));
    }
  }
  Values signs(2048);
  for (size_t i = 0; i < signs.size(); ++i) signs[i] = i % 2 == 0 ? 1 : -1;
  ExpectForward(ISONORM_CONTRACT_TORCH, 0,
                Tensor(Type::kF16, {2048}).Fill([&](int64_t i) { return 60000 * signs[static_cast<size_t>(i)]; }), signs);
}

TEST(PitfallsForward, F16ResidualSums) {  // a1: 30000 + 30000 fits, 60000 + 60000 does not
  for (const int32_t sum : {ISONORM_SUM_STORED, ISONORM_SUM_KEPT}) {
    for (const long double half : {30000.0L, 60000.0L}) {
      Problem problem;
      problem.contract.sum_rounding = sum;
      problem.x = problem.residual = Tensor(Type::kF16, {2048}).Fill([&](int64_t) { return half; });
      const Outputs out = RunForward(problem, Type::kF16);
      ASSERT_EQ(out.error, "");
      const bool fits = half < 40000;
      for (int64_t i = 0; i < 2048; ++i) {
        ASSERT_EQ(out.residual_out[i], fits ? 60000 : HUGE_VALL);
        // A stored infinity is the row that is normalised; a kept sum never was one.
        if (fits || sum == ISONORM_SUM_KEPT) {
          ASSERT_EQ(out.y[i], 1) << i;
        } else {
          ASSERT_TRUE(std::isnan(out.y[i])) << i;
        }
      }
    }
  }
}

// The row of equal values is x * (1 / x), which rounds to 1 or to its neighbour below.
TEST(PitfallsForward, F32SquaresDoNotOverflowOrVanish) {  // a2
  for (const long double value : {1e9L, 7e9L, 1e15L, 1e17L, 1e18L, 1e19L, 1e25L, 1e35L, 3.4e38L, 1e-25L, 1e-38L, 1e-45L}) {
    Problem problem;
    problem.eps = 0;
    problem.x = Tensor(Type::kF32, {512}).Fill([&](int64_t) { return value; });
    const Outputs out = RunForward(problem, Type::kF32);
    ASSERT_EQ(out.error, "");
    EXPECT_TRUE(UlpErrors(out.y, Values(512, 1)).worst() <= 0.5L) << static_cast<double>(value);
  }
}

TEST(PitfallsForward, ScalingDoesNotScaleEps) {  // a3: an inflated eps is 0.5 % off here
  for (const long double spike : {100.0L, 1000.0L}) {
    Problem problem;
    problem.eps = 1e-5;
    problem.x = Tensor(Type::kF32, {1024}).Fill([&](int64_t i) { return i == 500 ? spike : 1; });
    const Outputs out = RunForward(problem, Type::kF32);
    const Values want = Solve(problem).y;
    for (int64_t i = 0; i < 1024; ++i) ASSERT_TRUE(std::fabs(out.y[i] / want[static_cast<size_t>(i)] - 1) < 1e-6L) << i;
  }
  // Rows of zeros beside others stay exactly zero.
  Problem padded;
  padded.x = Tensor(Type::kF32, {4, 100}).Fill([](int64_t i) { return i / 100 % 2 == 0 ? 0 : 0x1p66L; });
  const Outputs out = RunForward(padded, Type::kF32);
  for (int64_t i = 0; i < 400; ++i) ASSERT_EQ(out.y[i], i / 100 % 2);
}

TEST(PitfallsForward, EpsIsNotOfTheStorageType) {  // a4
  for (const Type type : {Type::kBf16, Type::kF16}) {
    for (const double eps : {1e-12, 1e-8, 1e-6, 1e-5, 1e-4, 0x1p-7}) {
      for (const long double size : {0.058L, 0.0141L, 0.02L, 1e-2L, 1e-3L, 1e-4L}) {
        Problem problem;
        problem.eps = eps;
        problem.x = Tensor(type, {32}).Fill([&](int64_t i) { return i % 2 == 0 ? size : -size; });
        const Outputs out = RunForward(problem, type);
        EXPECT_TRUE(UlpErrors(out.y, Solve(problem).y).worst() <= 0.51L) << FormatOf(type).name << " " << eps;
      }
    }
  }
}

TEST(PitfallsForward, EpsIsAddedToTheMean) {  // a4: l2norm(x, eps) == rmsnorm(x, eps / D) / sqrt(D)
  for (const double size : {1e-2, 1e-3, 1e-4}) {
    Problem problem;
    problem.eps = 1e-6 / 128;
    problem.x = Tensor(Type::kF32, {128}).Fill([&](int64_t i) { return size * (i % 3 - 1.1L); });
    const Outputs out = RunForward(problem, Type::kF32);
    long double squares = 0;
    for (const long double value : problem.x.values()) squares += value * value;
    for (int64_t i = 0; i < 128; ++i) {
      const long double l2norm = problem.x[i] / std::sqrt(squares + 1e-6L);
      ASSERT_TRUE(std::fabs(out.y[i] / std::sqrt(128.0L) / l2norm - 1) <= 3.5L * 0x1p-23L) << size;
    }
  }
}

TEST(PitfallsForward, CastOrder) {  // a5: all four lanes differ, so a mix-up fails
  const Tensor x = Tensor::Of(Type::kBf16, {1, 3, 7, 5}), weight = Tensor::Of(Type::kBf16, {1.25L, 1.5L, 1.75L, -1.125L});
  const Values cast_first = {0.271484375L, 0.984375L, 2.6875L, -1.234375L},
               cast_last = {0.2734375L, 0.98046875L, 2.671875L, -1.2265625L};
  ExpectForward(ISONORM_CONTRACT_LLAMA, 1e-6, x, cast_first, weight);
  ExpectForward(ISONORM_CONTRACT_ONNX, 1e-6, x, cast_first, weight);
  ExpectForward(ISONORM_CONTRACT_T5, 1e-6, x, cast_first, weight);
  ExpectForward(ISONORM_CONTRACT_TORCH, 1e-6, x, cast_last, weight);
}

TEST(PitfallsForward, WeightOffsetIsAddedInTheComputeType) {  // a6
  const Tensor x = Tensor::Of(Type::kBf16, {1, 1, 1, 4}),
               weight = Tensor::Of(Type::kBf16, {15.8125L, 15.8125L, 15.8125L, 15.8125L});
  ExpectForward(ISONORM_CONTRACT_GEMMA, 1e-6, x, {7.71875L, 7.71875L, 7.71875L, 30.875L}, weight);
  Problem problem;
  problem.x = x;
  problem.weight = weight;
  EXPECT_NE(RunForward(problem, Type::kBf16).y[0], 7.71875L) << "without the offset";
}

TEST(PitfallsForward, OutliersInLongRows) {  // a8: every 512th channel times 40
  for (const int64_t cols : {2048, 4096, 8192}) {
    Problem problem;
    Random random(static_cast<uint64_t>(cols));
    problem.x = Tensor(Type::kF32, {4, cols}).Fill([&](int64_t i) { return random.Plain() * (i % 512 == 0 ? 40 : 1); });
    const Outputs out = RunForward(problem, Type::kF32);
    const Values want = Solve(problem).y;
    for (int64_t i = 0; i < out.y.size(); ++i) {
      ASSERT_TRUE(std::fabs(out.y[i] - want[static_cast<size_t>(i)]) <= 1e-6L * std::fabs(want[static_cast<size_t>(i)])) << i;
    }
  }
}

TEST(PitfallsForward, RstdIsCorrectlyRounded) {  // a9: a row of one element, so that its square plus eps is the argument
  for (const double square : {1e-38, 1e-12, 1.0, 3.0, 1e30, 3.4e38}) {
    Problem problem;
    problem.eps = 0;
    problem.x = Tensor(Type::kF32, {1}).Fill([&](int64_t) { return std::sqrt(square); });
    const Outputs out = RunForward(problem, Type::kF32);
    EXPECT_TRUE(UlpError(Type::kF32, out.rstd[0], Solve(problem).rstd[0]) <= 1.01L) << square;
  }
  for (const double eps : {0x1p-149, 0x1p-126, 1e-38, 1e-12, 1.0, 1e30, 3.4e38}) {
    Problem problem;
    problem.eps = eps;
    problem.x = Tensor(Type::kF32, {1}).Fill([](int64_t) { return 0; });
    const Outputs out = RunForward(problem, Type::kF32);
    EXPECT_EQ(out.rstd[0], RoundTo(Type::kF32, Solve(problem).rstd[0])) << eps;
    EXPECT_EQ(out.y[0], 0);
  }
}

TEST(PitfallsForward, TheStatisticIsNotTheVariance) {  // a10
  const Tensor x = Tensor::Of(Type::kF32, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  Problem problem;
  problem.eps = 0;
  problem.x = x;
  const Outputs out = RunForward(problem, Type::kF32);
  const Values want = {0, 0.1873L, 0.3746L, 0.5620L, 0.7493L, 0.9366L, 1.1239L, 1.3112L, 1.4985L, 1.6859L};
  for (int64_t i = 0; i < 10; ++i)
    EXPECT_TRUE(std::fabs(out.y[i] - want[static_cast<size_t>(i)]) <= 0.5e-4L) << "four digits, " << i;
}

TEST(PitfallsForward, NonFiniteRowsStayAlone) {  // a12
  Problem problem;
  problem.x = Tensor(Type::kF32, {4, 70}).Fill([](int64_t i) -> long double {
    return i == 75 ? NAN : i == 150 ? HUGE_VALL : i % 70 - 35;
  });
  const Outputs out = RunForward(problem, Type::kF32);
  for (int64_t i = 0; i < 70; ++i) {
    ASSERT_EQ(out.y[i], out.y[210 + i]) << "rows without are what they would be alone";
    ASSERT_TRUE(std::isnan(out.y[70 + i]));
    ASSERT_EQ(std::isnan(out.y[140 + i]), i == 10) << i;
    ASSERT_TRUE(i == 10 || out.y[140 + i] == 0) << i;
  }
  EXPECT_TRUE(UlpError(Type::kF32, out.y[0], Solve(problem).y[0]) <= 3.5L);
}

TEST(PitfallsForward, RowsOfOneElement) {  // a12: x / sqrt(x^2 + eps)
  for (const double eps : {1e-5, 1e-12}) {
    for (const double value : {0.0, 1e-7, -1e-7, 1e-3, -1e-3, 1.0, -1.0, 5.0, -5.0}) {
      Problem problem;
      problem.eps = eps;
      problem.x = Tensor(Type::kF32, {1}).Fill([&](int64_t) { return value; });
      EXPECT_TRUE(UlpErrors(RunForward(problem, Type::kF32).y, Solve(problem).y).worst() <= 3.5L) << value << " " << eps;
    }
  }
}

TEST(PitfallsForward, ResidualRoundedOrKept) {  // d2: a mix-up of the two has a third result
  Problem problem;
  problem.x = Tensor::Of(Type::kBf16, {3, 2, 5, 2});
  problem.residual = Tensor::Of(Type::kBf16, {0.0546875L, 0.109375L, 0.02734375L, 0.0078125L});
  const Outputs stored = RunForward(problem, Type::kBf16);
  problem.contract.sum_rounding = ISONORM_SUM_KEPT;
  const Outputs kept = RunForward(problem, Type::kBf16);
  EXPECT_EQ(stored.residual_out.values(), (Values{3.0625L, 2.109375L, 5.03125L, 2.0L}));
  EXPECT_EQ(kept.residual_out.values(), (Values{3.0625L, 2.109375L, 5.03125L, 2.0L}));
  EXPECT_EQ(stored.y.values(), (Values{0.93359375L, 0.640625L, 1.53125L, 0.609375L}));
  EXPECT_EQ(kept.y.values(), (Values{0.9296875L, 0.64453125L, 1.53125L, 0.61328125L}));
}

}  // namespace
}  // namespace isonorm_test
