// 1 / sqrt, which every row waits for, over every value that can matter.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "numbers/rounding.h"

namespace isonorm {
namespace {

// Scaling v by 4 halves the result exactly, so the values from 1 to 4 stand for all of them.
TEST(InvSqrtTest, IsCorrectlyRoundedForEveryMantissaInBothWays) {
  for (uint32_t bits = std::bit_cast<uint32_t>(1.0f); bits < std::bit_cast<uint32_t>(4.0f); ++bits) {
    const float v = std::bit_cast<float>(bits);
    const float r = InvSqrt(v);
    ASSERT_EQ(SoonerInvSqrt(v), r) << v;
    // The halves of the gaps on both sides of r: v * h * h is exact in 80 bits or more, and 1 must lie between them.
    const double low = (static_cast<double>(r) + static_cast<double>(std::nextafter(r, 0.0f))) / 2;
    const double high = (static_cast<double>(r) + static_cast<double>(std::nextafter(r, 2.0f))) / 2;
    // h has 25 bits, so h * h is exact in f64; the product with v is then compared with 1 by one fused operation.
    ASSERT_LT(std::fma(low * low, static_cast<double>(v), -1.0), 0.0) << v;
    ASSERT_GT(std::fma(high * high, static_cast<double>(v), -1.0), 0.0) << v;
  }
}

TEST(InvSqrtTest, TheSoonerWayHoldsAtTheEndsOfTheRange) {
  for (const float v : {0x1p-149f, 0x1.8p-148f, 0x1p-127f, 0x1p-126f, 1e-6f, 0x1.fffffep127f}) {
    EXPECT_EQ(SoonerInvSqrt(v), InvSqrt(v)) << v;
  }
}

}  // namespace
}  // namespace isonorm
