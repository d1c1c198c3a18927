// docs/theory.md, RMSNorm against LayerNorm.
#include <gtest/gtest.h>

#include "accuracy/theory.h"

namespace isonorm_test {
namespace {

constexpr size_t kWidths[] = {3, 17, 64, 100, 129, 768, 1000, 4096};

Row Centred(const Row& x) {  // rounded once
  const long double mean = Mean(x);
  Row centred;
  for (const double value : x) centred.push_back(static_cast<double>(value - mean));
  return centred;
}

Row WithMean(size_t n, double mean) {
  Row x = NormalRow(n, n);
  for (double& value : x) value += mean;
  return x;
}

// How far an element of LayerNorm is off with eps 0, in kUnit, by the roundings of docs/numerics.md 2. v - mean - delta: two
// subtractions, relative to the result. delta is a sum of values whose mean size is at most the deviation, so its error moves
// every element by n's roundings of 1; relative errors of v - mean move the deviation by no more than those two.
long double LayerNormError(size_t n, long double y) {
  const double sum = SumRoundings(static_cast<int64_t>(n));
  return (sum + 3) * (1 + std::fabs(y)) + (NormRoundings(n) + 4) * std::fabs(y);
}

TEST(TheoryLayerNorm, IsRmsNormOfTheCentredRow) {
  for (const size_t n : kWidths) {
    for (const double mean : {0.0, 1.0, -20.0}) {
      const Row x = WithMean(n, mean), layer = LayerNorm(x), rms = RmsNorm(Centred(x));
      for (size_t i = 0; i < n; ++i) {
        // The centred row is rounded once, which moves its element and its RMS by a unit each.
        const long double bound = LayerNormError(n, rms[i]) + (NormRoundings(n) + 2) * std::fabs(rms[i]);
        ASSERT_TRUE(std::fabs(static_cast<long double>(layer[i]) - rms[i]) <= bound * kUnit) << n << " " << mean;
      }
    }
  }
}

// Integers, whose sums are exact: the two norms then do the very same operations.
TEST(TheoryLayerNorm, IsRmsNormBitForBitWhereTheMeanIsExact) {
  for (const size_t n : kWidths) {
    Row x(n), shifted(n);
    for (size_t i = 0; i < n; ++i)
      x[i] = i + 1 == n && n % 2 == 1 ? 0 : (i % 2 == 0 ? 1.0 : -1.0) * static_cast<double>(1 + i / 2);
    ASSERT_EQ(Mean(x), 0);
    for (size_t i = 0; i < n; ++i) shifted[i] = x[i] + 12;
    for (const double eps : {0.0, 1e-6, 1.0}) {
      EXPECT_EQ(LayerNorm(x, eps), RmsNorm(x, eps)) << "rows of mean zero, " << n;
      EXPECT_EQ(LayerNorm(shifted, eps), RmsNorm(x, eps)) << "a shift that LayerNorm forgets, " << n;
      EXPECT_NE(RmsNorm(shifted, eps), RmsNorm(x, eps)) << "and RMSNorm does not, " << n;
    }
  }
}

// With rho = mean / RMS: RMSNorm(x) = rho + sqrt(1 - rho^2) LayerNorm(x), whose two parts are orthogonal. So the mean of
// RMSNorm's output is rho, the cosine between both outputs sqrt(1 - rho^2), and the mean of LayerNorm's output 0.
TEST(TheoryLayerNorm, TheTwoDifferByTheMeanDrift) {
  for (const size_t n : kWidths) {
    for (const double mean : {0.0, 0.1, 1.0, -20.0}) {
      const Row x = WithMean(n, mean), rms = RmsNorm(x), layer = LayerNorm(x);
      const auto width = static_cast<long double>(n);
      const long double rho = Mean(x) / std::sqrt(Dot(x, x) / width), rest = std::sqrt(1 - rho * rho);
      long double mean_error = 0;  // of LayerNorm's elements, in kUnit
      for (size_t i = 0; i < n; ++i) {
        mean_error += LayerNormError(n, layer[i]) / width;
        const long double bound = NormRoundings(n) * std::fabs(rms[i]) + rest * LayerNormError(n, layer[i]);
        ASSERT_TRUE(std::fabs(rms[i] - (rho + rest * layer[i])) <= (bound + 1) * kUnit) << n << " " << mean;
      }
      EXPECT_TRUE(std::fabs(Mean(rms) - rho) <= (NormRoundings(n) + 1) * kUnit) << "their mean size is at most their RMS, 1";
      EXPECT_TRUE(std::fabs(Mean(layer)) <= mean_error * kUnit) << n;
      const long double cosine = Dot(rms, layer) / (Length(rms) * Length(layer));
      // Errors of length e sqrt(n) in vectors of length sqrt(n) turn them by e; 1 + |y| has the length 2 sqrt(n) at most.
      const long double turn = NormRoundings(n) + LayerNormError(n, 0) + LayerNormError(n, 1);
      EXPECT_TRUE(std::fabs(cosine - rest) <= (2 * turn + 1) * kUnit) << n << " " << mean;
    }
  }
}

TEST(TheoryLayerNorm, LosesNarrowRows) {  // n - 2 dimensions are left, RMSNorm keeps n - 1
  Normal normal(1);
  for (int i = 0; i < 100; ++i) {
    const double a = normal(), b = normal();
    EXPECT_EQ(LayerNorm(Row{a}, 1e-5), Row{0});
    EXPECT_TRUE(std::fabs(RmsNorm(Row{a})[0] - std::copysign(1.0, a)) <= NormRoundings(1) * kUnit);
    const Row y = LayerNorm(Row{a, b});
    for (const size_t j : {0, 1}) {
      const double want = (j == 0) == (a > b) ? 1 : -1;
      EXPECT_TRUE(std::fabs(y[j] - want) <= LayerNormError(2, 1) * kUnit) << a << " " << b;
    }
  }
}

TEST(TheoryLayerNorm, SeesRotations) {  // the direction of all ones is not like others
  for (const size_t n : kWidths) {
    const Row x = WithMean(n, 1), turned = LayerNorm(Stored(Rotated(x, 7)));
    EXPECT_GT(Apart(turned, Rotated(LayerNorm(x), 7)), 0.1L * Length(turned)) << n;
  }
}

TEST(TheoryLayerNorm, CommutesWithRotationsThatKeepOnes) {  // reflections along integers whose sum is 0
  for (const size_t n : kWidths) {
    const auto balanced = [n](size_t first) {
      Random random(first);
      Row a(n);
      for (size_t i = first; i + 1 < n; i += 2) a[i] = -(a[i + 1] = random.Between(1, 100));
      return a;
    };
    const auto turn = [&](const Row& x) { return Reflected(Reflected(Values(x.begin(), x.end()), balanced(0)), balanced(1)); };
    const Row x = WithMean(n, 1), turned = LayerNorm(Stored(turn(x)));
    const Values want = turn(LayerNorm(x));
    // LayerNorm's errors twice, as lengths, with |y| of length sqrt(n). Rounding the row and turning it move it by 3 units of
    // its RMS at most, and the result by as much over its deviation.
    const long double width = static_cast<long double>(n), mean = Mean(x), mean_square = Dot(x, x) / width;
    const long double steep = std::sqrt(mean_square / (mean_square - mean * mean));
    const long double bound = (2 * (LayerNormError(n, 0) + LayerNormError(n, 1)) + 3 * steep) * kUnit * std::sqrt(width);
    EXPECT_TRUE(Apart(turned, want) <= bound) << n;
    EXPECT_GT(Apart(turned, LayerNorm(x)), 1e6L * bound) << "it was turned";
  }
}

// Where the tree of the sum doubles, the sum of (x, -x) is exactly 0 and that of its squares exactly twice that of x.
TEST(TheoryLayerNorm, OfARowAndItsNegativeIsRmsNorm) {
  for (const size_t n : {72, 128, 384, 512, 2880, 4096}) {
    for (const double eps : {0.0, 1e-6}) {
      const Row x = WithMean(n, 3);
      Row both = x, want = RmsNorm(x, eps);
      for (size_t i = 0; i < n; ++i) both.push_back(-x[i]), want.push_back(-want[i]);
      EXPECT_EQ(LayerNorm(both, eps), want) << n;
    }
  }
}

}  // namespace
}  // namespace isonorm_test
