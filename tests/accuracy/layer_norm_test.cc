// LayerNorm where the mean dwarfs the spread: the second mean (delta) has to repair the first.
#include <gtest/gtest.h>

#include "accuracy/layer_norm_data.h"

namespace isonorm_test {
namespace {

TEST(LayerNorm, HoldsUpToMeansOfNinetyThousandDeviations) {
  for (const double ratio : {0.0, 1.0, 10.0, 1e2, 1e3, 1e4, 3e4, 9e4}) {
    for (const int64_t cols : {int64_t{8}, int64_t{384}, int64_t{768}, int64_t{1000}, int64_t{4096}, int64_t{8192}}) {
      for (const double sign : {1.0, -1.0}) {
        Problem problem = MakeFar(sign * ratio, cols, Type::kF32);
        const Outputs out = RunForward(problem, Type::kF32);
        ASSERT_EQ(out.error, "");
        EXPECT_TRUE(ScaledErrors(out.y, Solve(problem).y).worst() <= 4.4e-7L) << sign * ratio << " " << cols;
      }
    }
  }
}

TEST(LayerNorm, WithoutTheSecondMeanThisTestWouldFail) {
  Problem problem = MakeFar(9e4, 4096, Type::kF32);
  const Answer answer = Solve(problem);
  Tensor y(Type::kF32, {20, 4096});
  for (int64_t row = 0; row < 20; ++row) {
    float sum = 0;
    for (int64_t j = 0; j < 4096; ++j) sum += static_cast<float>(problem.x[row * 4096 + j]);
    const float mean = sum / 4096;
    for (int64_t j = 0; j < 4096; ++j) {
      y.Set(row * 4096 + j,
            (static_cast<float>(problem.x[row * 4096 + j]) - mean) * static_cast<float>(answer.rstd[static_cast<size_t>(row)]));
    }
  }
  EXPECT_GT(ScaledErrors(y, answer.y).worst(), 1e-3L);
}

TEST(LayerNorm, F64) {
  for (const double ratio : {0.0, 9e4, 1e10}) {
    Problem problem = MakeFar(ratio, 1000, Type::kF64);
    const Outputs out = RunForward(problem, Type::kF64);
    ASSERT_EQ(out.error, "");
    EXPECT_TRUE(ScaledErrors(out.y, Solve(problem).y).worst() <= 4.4e-7L * 0x1p-29L) << ratio;
  }
}

TEST(LayerNorm, ConstantRowsGiveTheBias) {
  for (const double value : {0.0, 1.0, -3.5, 0.1, 1e30, 3e38, 1e-40}) {
    for (const int64_t cols : {int64_t{1}, int64_t{7}, int64_t{768}}) {
      Problem problem;
      problem.contract = ISONORM_CONTRACT_LAYER_NORM;
      problem.eps = 1e-5;
      problem.x = Tensor(Type::kF32, {2, cols}).Fill([&](int64_t) { return value; });
      problem.weight = MakePlain(Type::kF32, {cols}, 1);
      problem.bias = MakePlain(Type::kF32, {cols}, 2);
      const Outputs out = RunForward(problem, Type::kF32);
      ASSERT_EQ(out.error, "");
      for (int64_t i = 0; i < 2 * cols; ++i) ASSERT_EQ(out.y[i], problem.bias[i % cols]) << value << " " << cols;
    }
  }
}

TEST(LayerNorm, AShiftOfExactDataChangesNothing) {
  Problem near = MakeFar(0, 512, Type::kF32);
  near.x.Fill([](int64_t i) { return (i * 37) % 101 - 50; });  // small integers: every sum is exact
  Problem far = near;
  far.x.Fill([&](int64_t i) { return near.x[i] + 4096; });
  const Outputs a = RunForward(near, Type::kF32), b = RunForward(far, Type::kF32);
  ASSERT_EQ(a.error + b.error, "");
  const Values want = Solve(near).y;
  EXPECT_TRUE(ScaledErrors(a.y, want).worst() <= 4.4e-7L);
  EXPECT_TRUE(ScaledErrors(b.y, want).worst() <= 4.4e-7L);
}

}  // namespace
}  // namespace isonorm_test
