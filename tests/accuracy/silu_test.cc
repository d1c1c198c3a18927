// silu and its derivative, through the library: a row of ones without eps has rstd 1 exactly, so a gate after the norm gives
// silu(gate), and its gradient for dy = 1 gives the slope.
#include "accuracy/silu.h"

#include <gtest/gtest.h>

#include "accuracy/bounds.h"
#include "accuracy/metrics.h"

namespace isonorm_test {
namespace {

TEST(Silu, IsWithinThreePointOneUlp) {
  const SiluSample sample = SampleSilu(SiluArguments());
  ASSERT_EQ(sample.error, "");
  Errors errors;
  for (int64_t i = 0; i < sample.z.size(); ++i) errors.Add(UlpError(Type::kF32, sample.silu[i], SiluOf(sample.z[i])));
  EXPECT_GT(errors.count(), 60000);
  EXPECT_TRUE(errors.worst() <= 3.1L) << static_cast<double>(errors.worst());
}

TEST(Silu, SlopeIsWithinTheUnitsOfTheBounds) {
  const SiluSample sample = SampleSilu(SiluArguments());
  ASSERT_EQ(sample.error, "");
  Errors absolute, relative;
  for (int64_t i = 0; i < sample.z.size(); ++i) {
    const long double z = sample.z[i], want = SlopeOf(z);
    absolute.Add(Distance(sample.slope[i], want, 0x1p-24L));
    // Around its zero at -1.2785 the slope is a difference of numbers near 0.3; elsewhere it is as good as silu.
    if (!(std::fabs(z + 1.2785L) <= 0.75L)) relative.Add(UlpError(Type::kF32, sample.slope[i], want));
  }
  EXPECT_TRUE(absolute.worst() <= kSlopeUnits) << static_cast<double>(absolute.worst());
  EXPECT_TRUE(relative.worst() <= 8) << static_cast<double>(relative.worst());
}

TEST(Silu, AtTheEnds) {
  const SiluSample sample =
      SampleSilu({0.0L, -0.0L, HUGE_VALL, -HUGE_VALL, 200.0L, -200.0L, 3e38L, -3e38L, 0x1p-149L, -0x1p-149L});
  ASSERT_EQ(sample.error, "");
  EXPECT_EQ(sample.silu[0], 0);
  EXPECT_EQ(sample.silu[2], HUGE_VALL);
  EXPECT_EQ(sample.silu[3], 0);
  EXPECT_TRUE(std::signbit(sample.silu[3])) << "-0 at -inf";
  EXPECT_EQ(sample.silu[4], 200);
  EXPECT_EQ(sample.silu[6], RoundTo(Type::kF32, 3e38L));
  EXPECT_EQ(sample.silu[7], 0);
  for (const int at : {0, 1, 8, 9}) EXPECT_EQ(sample.slope[at], 0.5L) << at;
  for (const int at : {2, 4, 6}) EXPECT_EQ(sample.slope[at], 1) << at;
  for (const int at : {3, 5, 7}) EXPECT_EQ(sample.slope[at], 0) << at;
}

TEST(Silu, NaNGivesTheCanonicalNaN) {
  const SiluSample sample = SampleSilu({std::numeric_limits<long double>::quiet_NaN(), 1.0L});
  ASSERT_EQ(sample.error, "");
  uint32_t bits = 0;
  std::memcpy(&bits, sample.silu.bytes().data(), sizeof(bits));
  EXPECT_EQ(bits, 0x7fc00000u);
  std::memcpy(&bits, sample.slope.bytes().data(), sizeof(bits));
  EXPECT_EQ(bits, 0x7fc00000u);
  EXPECT_TRUE(UlpError(Type::kF32, sample.silu[1], SiluOf(1)) <= 3.1L) << "the neighbour is untouched";
}

}  // namespace
}  // namespace isonorm_test
