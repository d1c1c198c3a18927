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

// What docs/numerics.md 2 says of any size: c is off by no more than 4.4e-7 times the larger of itself and the row's rms; and
// below the normal numbers by half the least number for its own rounding, and, in a row that is not scaled, r times that for
// delta's. The worst error in units of that bound.
long double WorstInBounds(Problem problem, bool with_least = true) {
  const bool f64 = problem.x.type() == Type::kF64, outside = problem.contract.eps_place == ISONORM_EPS_OUTSIDE;
  const Answer answer = Solve(problem);
  const Outputs out = RunForward(problem, problem.x.type());
  EXPECT_EQ(out.error, "");
  const long double share = f64 ? 4.4e-7L * 0x1p-29L : 4.4e-7L, half_least = Ulp(problem.x.type(), 0) / 2;
  const bool tiny_eps = f64 ? problem.eps == 0 : problem.eps < (outside ? 0x1p-48 : 0x1p-120);
  const int64_t rows = problem.rows(), cols = problem.cols();
  Errors errors;
  for (int64_t row = 0; row < rows; ++row) {
    Sum squares;
    for (int64_t i = row * cols; i < (row + 1) * cols; ++i) {
      squares.Add(answer.y[static_cast<size_t>(i)] * answer.y[static_cast<size_t>(i)]);
    }
    const long double rms = std::sqrt(squares.value() / static_cast<long double>(cols));
    const long double r = answer.rstd[static_cast<size_t>(row)], least = half_least * (tiny_eps ? 1 : 1 + r);
    for (int64_t i = row * cols; i < (row + 1) * cols; ++i) {
      const long double want = answer.y[static_cast<size_t>(i)];
      errors.Add(Distance(out.y[i], want, share * std::fmax(std::fabs(want), rms) + (with_least ? least : 0)));
    }
  }
  return errors.worst();
}

TEST(LayerNorm, RowsOfAnySizeStayWithinTheBound) {
  for (const Type type : {Type::kF32, Type::kF64}) {
    const bool f64 = type == Type::kF64;
    for (int exponent = f64 ? -1070 : -145; exponent <= (f64 ? 1000 : 105); exponent += f64 ? 164 : 20) {
      for (const double ratio : {0.0, 10.0, 9e4}) {
        for (const int32_t place : {ISONORM_EPS_INSIDE, ISONORM_EPS_OUTSIDE}) {
          for (const double eps : {0.0, 1e-42, 1e-30, 1e-12, 1e-5, 1.0}) {
            Problem problem = MakeFar(ratio, 777, type);
            const Tensor x = problem.x;
            problem.x.Fill([&](int64_t i) { return std::ldexp(x[i], exponent); });
            problem.contract.eps_place = place;
            problem.eps = eps;
            EXPECT_TRUE(WorstInBounds(problem) <= 1) << FormatOf(type).name << " 2^" << exponent << " " << ratio << " " << eps;
          }
        }
      }
    }
  }
}

TEST(LayerNorm, RowsOfSubnormalValuesNeedBothTerms) {
  Problem problem = MakeFar(0, 100, Type::kF32);
  problem.x.Fill([](int64_t i) { return i * 1e-44; });
  problem.eps = 1e-5;
  EXPECT_TRUE(WorstInBounds(problem) <= 1);
  EXPECT_GT(WorstInBounds(problem, false), 100) << "4.4e-7 alone says nothing of them";
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
