// docs/theory.md, the RMS as a size: a norm, the same from every side, and the same at every width.
#include <gtest/gtest.h>

#include "accuracy/theory.h"

namespace isonorm_test {
namespace {

constexpr size_t kWidths[] = {2, 3, 17, 64, 100, 129, 768, 1000, 4096, 5120};

TEST(TheoryNorm, HasTheLawsOfANorm) {
  for (const size_t n : kWidths) {
    const Row a = NormalRow(n, n), b = NormalRow(n, n + 1);
    Row sum(n);
    for (size_t i = 0; i < n; ++i) sum[i] = a[i] + b[i];  // one rounding of each
    EXPECT_TRUE(isonorm::rms(sum) <= (isonorm::rms(a) + isonorm::rms(b)) * (1 + (2 * RmsRoundings(n) + 2) * kUnit)) << n;
    EXPECT_GT(isonorm::rms(a), 0);
    EXPECT_EQ(isonorm::rms(Row(n)), 0);
    // |factor| comes out of any multiple: one rounding of each product, those of two RMS, and of the product to compare with.
    const double factor = -1.1, scaled = isonorm::rms(Scaled(a, factor));
    EXPECT_TRUE(std::fabs(scaled / (1.1L * isonorm::rms(a)) - 1) <= (2 * RmsRoundings(n) + 2) * kUnit) << n;
  }
}

// Rotating rounds every value once, which changes the length by one unit at most; Rotated() itself adds less than one more.
TEST(TheoryNorm, ForgetsRotations) {
  for (const size_t n : kWidths) {
    for (uint64_t seed = 1; seed <= 5; ++seed) {
      const Row x = NormalRow(n, 100 * seed), turned = Stored(Rotated(x, seed));
      const long double change = static_cast<long double>(isonorm::rms(turned)) / isonorm::rms(x) - 1;
      EXPECT_TRUE(std::fabs(change) <= (2 * RmsRoundings(n) + 2) * kUnit) << n << " " << seed;
      EXPECT_GT(Apart(turned, x), 1e-3L * Length(x)) << "it is not the same row";
    }
  }
}

TEST(TheoryNorm, OtherWidthNeutralSizesSeeRotations) {  // an axis and the diagonal, of one length
  for (const size_t n : kWidths) {
    const auto length = std::sqrt(static_cast<double>(n));
    Row axis(n);
    axis[0] = length;
    const Row ones(n, 1);
    EXPECT_TRUE(std::fabs(isonorm::rms(axis) - 1) <= (RmsRoundings(n) + 2) * kUnit && isonorm::rms(ones) == 1) << n;
    EXPECT_EQ(MeanSize(ones), 1);
    EXPECT_EQ(MeanSize(axis), length / static_cast<double>(n));
    EXPECT_EQ(Largest(ones), 1);
    EXPECT_EQ(Largest(axis), length);
  }
}

// Each element of y(Qx) and of y(x) is off by NormRoundings; Q keeps lengths; rotating x rounds it once, which moves y by one
// unit directly and by one through the RMS; one more for Rotated() on both sides.
TEST(TheoryNorm, ARotationOfTheRowRotatesTheResult) {
  for (const size_t n : kWidths) {
    const Row x = NormalRow(n, n), turned = RmsNorm(Stored(Rotated(x, 7)));
    const Values want = Rotated(RmsNorm(x), 7);
    EXPECT_TRUE(Apart(turned, want) <= (2 * NormRoundings(n) + 3) * kUnit * std::sqrt(static_cast<long double>(n))) << n;
  }
}

TEST(TheoryNorm, SignsAreExactAndOrderIsNot) {
  int moved = 0;
  for (const size_t n : kWidths) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      const Row x = NormalRow(n, seed);
      Row signs = x, shuffled = x;
      for (size_t i = 0; i < n; i += 3) signs[i] = -x[i];
      const Row y = RmsNorm(x), y_signs = RmsNorm(signs);
      EXPECT_EQ(isonorm::rms(signs), isonorm::rms(x)) << "the squares are the same, so the sum is";
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(y_signs[i], i % 3 == 0 ? -y[i] : y[i]);
      for (size_t i = 0; i < n; ++i) shuffled[i] = x[7 * i % n];  // 7 divides no width
      const long double change = static_cast<long double>(isonorm::rms(shuffled)) / isonorm::rms(x) - 1;
      EXPECT_TRUE(std::fabs(change) <= 2 * RmsRoundings(n) * kUnit);
      moved += change != 0;
    }
    Row integers(n);
    for (size_t i = 0; i < n; ++i) integers[i] = static_cast<double>(i % 50);
    const double in_order = isonorm::rms(integers);
    std::reverse(integers.begin(), integers.end());
    EXPECT_EQ(isonorm::rms(integers), in_order) << "sums of small integers are exact in any order";
  }
  EXPECT_GT(moved, 0) << "a sum of rounded values depends on their order";
}

// The values have 13 bits and lie in [2^-10, 4), so 2^k x is exact from k = -139 on, and is below 2^128 up to k = 125.
TEST(TheoryNorm, EveryPowerOfTwoComesOutExactly) {
  Random random(1);
  std::vector<float> x(777), scaled(777), y;
  for (float& value : x) value = std::ldexp(static_cast<float>(random.Between(1, 4095)), -10);
  const float once = isonorm::rms(x);
  y = RmsNorm(x);
  for (int k = -139; k <= 125; ++k) {
    for (size_t i = 0; i < x.size(); ++i) scaled[i] = std::ldexp(x[i], k);
    EXPECT_EQ(isonorm::rms(scaled), std::ldexp(once, k)) << k;  // rounded once where 2^k RMS is subnormal
    EXPECT_EQ(RmsNorm(scaled), y) << k;
  }
}

// One lane of the sum adds squares that each are half an ulp of the next one; the very first decides all the ties. Its square
// is subnormal in f32 and loses the bit that decides. So where squares (not values) underflow beside a large value, the last
// bit may differ from that of the scaled row.
TEST(TheoryNorm, ExactnessEndsWhereASquareIsSubnormal) {
  std::vector<float> x(4096);
  x[0] = 0x1.008p-72f;
  for (int step = 1; step <= 6; ++step) x[static_cast<size_t>(64 * step)] = std::ldexp(1.0f, -72 + 12 * step);
  x[1] = x[33] = 0x1p-12f;
  std::vector<float> scaled = x;
  for (float& value : scaled) value *= 0x1p60f;
  EXPECT_EQ(isonorm::rms(x), 0x1p-6f);
  EXPECT_EQ(isonorm::rms(scaled), 0x1.000002p54f);
}

TEST(TheoryNorm, RepeatingARowKeepsItsSize) {
  for (const size_t n : kWidths) {
    const Row x = NormalRow(n, n);
    for (const size_t times : {2, 3, 7}) {
      Row repeated;
      for (size_t i = 0; i < times; ++i) repeated.insert(repeated.end(), x.begin(), x.end());
      const long double change = static_cast<long double>(isonorm::rms(repeated)) / isonorm::rms(x) - 1;
      EXPECT_TRUE(std::fabs(change) <= (RmsRoundings(times * n) + RmsRoundings(n)) * kUnit) << n << " times " << times;
    }
  }
}

// docs/numerics.md 1: a row of 2n has twice the leaves of a row of n, so its last addition is S + S, which is exact.
TEST(TheoryNorm, DoublingARowIsExactWhereTheTreeDoubles) {
  for (size_t n = 8; n <= 9000; n += 8) {
    if (n < 72 || (n > 512 && n <= 2048)) continue;
    const Row x = NormalRow(n, n);
    Row twice = x;
    twice.insert(twice.end(), x.begin(), x.end());
    ASSERT_EQ(isonorm::rms(twice), isonorm::rms(x)) << n;
  }
}

TEST(TheoryNorm, PartsAddUpByTheirWidths) {  // RMS(a, b)^2 = (n RMS(a)^2 + m RMS(b)^2) / (n + m)
  for (const size_t n : kWidths) {
    const size_t m = 3 * n + 1;
    const Row a = NormalRow(n, n), b = Scaled(NormalRow(m, m), 2);
    Row both = a;
    both.insert(both.end(), b.begin(), b.end());
    const long double of_a = isonorm::rms(a), of_b = isonorm::rms(b), of_both = isonorm::rms(both);
    const auto count_a = static_cast<long double>(n), count_b = static_cast<long double>(m);
    const long double want = std::sqrt((count_a * of_a * of_a + count_b * of_b * of_b) / (count_a + count_b));
    EXPECT_TRUE(std::fabs(of_both / want - 1) <= (RmsRoundings(n + m) + RmsRoundings(m)) * kUnit) << n;
  }
}

// The RMS of n normal numbers changes by at most 1/sqrt(n) of the change of the numbers (it is Lipschitz), and so does the mean
// over K rows by 1/sqrt(nK). Gaussian concentration: it leaves its expectation by s with probability 2 exp(-n K s^2 / 2) at
// most. s = sqrt(50 / (nK)) makes that 2.8e-11. The expectation is sqrt(2 / n) gamma((n + 1) / 2) / gamma(n / 2).
TEST(TheoryNorm, NormalRowsHaveSizeOneAtEveryWidth) {
  for (const size_t n : {1, 2, 3, 5, 8, 16, 33, 64, 130, 777, 4096, 28672, 65537}) {
    const size_t rows = std::max<size_t>(1, 131072 / n);
    const auto width = static_cast<long double>(n);
    const long double expected = std::sqrt(2 / width) * std::exp(std::lgamma((width + 1) / 2) - std::lgamma(width / 2));
    EXPECT_TRUE(expected < 1 && expected >= std::sqrt(1 - 1 / width)) << "the variance is at most 1 / n";
    EXPECT_TRUE(std::fabs(expected - (1 - 1 / (4 * width))) <= 1 / (16 * width * width)) << "the next term is 1 / (32 n^2)";
    Normal normal(n);
    long double sum = 0, lengths = 0;
    for (size_t row = 0; row < rows; ++row) {
      Row x(n);
      for (double& value : x) value = normal();
      const double rms = isonorm::rms(x);
      EXPECT_TRUE(std::fabs(rms - expected) <= std::sqrt(50 / width)) << n;
      sum += rms;
      lengths += Length(x);
    }
    const auto count = static_cast<long double>(rows);
    EXPECT_TRUE(std::fabs(sum / count - expected) <= std::sqrt(50 / (width * count))) << n;
    // L2 = sqrt(n) RMS; the sums of lengths and of RMS are plain ones, of `rows` roundings.
    EXPECT_TRUE(std::fabs(lengths / (sum * std::sqrt(width)) - 1) <= (RmsRoundings(n) + 1) * kUnit + count * 0x1p-63L) << n;
  }
}

}  // namespace
}  // namespace isonorm_test
