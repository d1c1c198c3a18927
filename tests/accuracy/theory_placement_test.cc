// docs/theory.md, where a transformer places its norms, and what eps does there.
#include <gtest/gtest.h>

#include "accuracy/theory.h"

namespace isonorm_test {
namespace {

// Branches of RMS 1 that know nothing of each other. The scalar products b_i.b_j / n of unit RMS have mean 0 and variance
// 1 / n and are uncorrelated, so RMS^2 = L + 2 sum of them has the variance 2 L (L - 1) / n; ten deviations are allowed, which
// Chebyshev passes at least 99 times in 100, and these numbers are the same in each run.
TEST(TheoryPlacement, APreNormStreamGrowsWithTheRootOfItsLayers) {
  const size_t n = 4096;
  Row stream(n);
  for (int layers = 1; layers <= 64; ++layers) {
    const Row branch = RmsNorm(NormalRow(n, static_cast<uint64_t>(layers)));
    for (size_t i = 0; i < n; ++i) stream[i] += branch[i];
    const double square = isonorm::rms(stream) * isonorm::rms(stream);
    // The second part is for the first row, which has no scalar products: its norm, its RMS, and the product.
    const long double rounding = (2 * NormRoundings(n) + 2 * RmsRoundings(n) + 1) * kUnit;
    const long double bound = 10 * std::sqrt(2.0L * layers * (layers - 1) / n) + rounding;
    EXPECT_TRUE(std::fabs(square - layers) <= bound) << layers;
  }
}

TEST(TheoryPlacement, PostNormKeepsTheSizeOfTheStream) {
  const size_t n = 4096;
  Row stream = RmsNorm(NormalRow(n, 1));
  for (uint64_t layer = 2; layer <= 64; ++layer) {
    const Row branch = NormalRow(n, layer);
    for (size_t i = 0; i < n; ++i) stream[i] += static_cast<double>(layer) * branch[i];
    stream = RmsNorm(stream);
    EXPECT_TRUE(std::fabs(isonorm::rms(stream) - 1) <= (NormRoundings(n) + RmsRoundings(n)) * kUnit) << layer;
  }
}

TEST(TheoryPlacement, QkNormBoundsTheLogits) {  // |q.k| / sqrt(d) <= sqrt(d), and parallel heads reach it
  for (const size_t d : {64, 128, 256}) {
    const long double most = std::sqrt(static_cast<long double>(d)), rounding = 2 * NormRoundings(d) * kUnit;
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      const Row q = Scaled(NormalRow(d, seed), 1e6), k = NormalRow(d, seed + 100);
      EXPECT_TRUE(std::fabs(Dot(RmsNorm(q), RmsNorm(k))) / most <= most * (1 + rounding));
      EXPECT_TRUE(std::fabs(Dot(RmsNorm(q), RmsNorm(Scaled(q, 3))) / most / most - 1) <= rounding + 2 * kUnit);
    }
  }
}

// RMS(y) = RMS / sqrt(RMS^2 + eps): eps is a size, squared, below which rows shrink. Scaled with the row it changes nothing.
TEST(TheoryPlacement, EpsIsASquaredSize) {
  for (const size_t n : {1, 3, 17, 64, 100, 129, 768, 1000, 4096}) {
    const Row x = NormalRow(n, n);
    const long double mean_square = Dot(x, x) / static_cast<long double>(n);
    for (const double eps : {0.0, 1e-6, 1.0, 100.0}) {
      const Row y = RmsNorm(x, eps);
      const long double want = std::sqrt(mean_square / (mean_square + eps));
      // The addition of eps is one rounding more.
      EXPECT_TRUE(std::fabs(isonorm::rms(y) / want - 1) <= (NormRoundings(n) + RmsRoundings(n) + 1) * kUnit) << n << " " << eps;
      for (const int k : {1, 10, -10}) EXPECT_EQ(RmsNorm(Scaled(x, std::ldexp(1.0, k)), std::ldexp(eps, 2 * k)), y) << k;
    }
  }
}

}  // namespace
}  // namespace isonorm_test
