// silu, sigmoid and their derivatives, sampled; gate_report.cc goes over every f32.
#include "accuracy/gate.h"

#include <gtest/gtest.h>

#include "accuracy/bounds.h"
#include "accuracy/metrics.h"

namespace isonorm_test {
namespace {

TEST(Gate, SiluIsWithinTheUlpOfTheBounds) {
  const GateSample sample = SampleGate(ISONORM_GATE_SILU, GateArguments());
  ASSERT_EQ(sample.error, "");
  Errors errors;
  for (int64_t i = 0; i < sample.z.size(); ++i) errors.Add(UlpError(Type::kF32, sample.value[i], SiluOf(sample.z[i])));
  EXPECT_GT(errors.count(), 60000);
  EXPECT_TRUE(errors.worst() <= kSiluUlp) << static_cast<double>(errors.worst());
}

TEST(Gate, SlopeOfSiluIsWithinTheBounds) {
  const GateSample sample = SampleGate(ISONORM_GATE_SILU, GateArguments());
  ASSERT_EQ(sample.error, "");
  Errors absolute, relative;
  for (int64_t i = 0; i < sample.z.size(); ++i) {
    const long double z = sample.z[i], want = SiluSlopeOf(z);
    absolute.Add(Distance(sample.slope[i], want, 0x1p-24L));
    // Around its zero at -1.2785 the slope is a difference of numbers near 0.3; elsewhere it is as good as silu.
    if (!(std::fabs(z + 1.2785L) <= 0.75L)) relative.Add(UlpError(Type::kF32, sample.slope[i], want));
  }
  EXPECT_TRUE(absolute.worst() <= kSlopeUnits) << static_cast<double>(absolute.worst());
  EXPECT_TRUE(relative.worst() <= kSiluSlopeUlp) << static_cast<double>(relative.worst());
}

TEST(Gate, SigmoidAndItsSlopeAreWithinTheUlpOfTheBounds) {
  const GateSample sample = SampleGate(ISONORM_GATE_SIGMOID, GateArguments());
  ASSERT_EQ(sample.error, "");
  Errors value, slope;
  for (int64_t i = 0; i < sample.z.size(); ++i) {
    value.Add(UlpError(Type::kF32, sample.value[i], SigmoidOf(sample.z[i])));
    slope.Add(UlpError(Type::kF32, sample.slope[i], SigmoidSlopeOf(sample.z[i])));
  }
  EXPECT_GT(value.count(), 60000);
  EXPECT_TRUE(value.worst() <= kSigmoidUlp) << static_cast<double>(value.worst());
  EXPECT_TRUE(slope.worst() <= kSigmoidSlopeUlp) << static_cast<double>(slope.worst());
}

const std::vector<long double>& Ends() {
  static const std::vector<long double> ends = {0.0L,    -0.0L, HUGE_VALL, -HUGE_VALL, 200.0L,
                                                -200.0L, 3e38L, -3e38L,    0x1p-149L,  -0x1p-149L};
  return ends;
}

TEST(Gate, SiluAtTheEnds) {
  const GateSample sample = SampleGate(ISONORM_GATE_SILU, Ends());
  ASSERT_EQ(sample.error, "");
  EXPECT_EQ(sample.value[0], 0);
  EXPECT_EQ(sample.value[1], 0);
  EXPECT_TRUE(std::signbit(sample.value[1])) << "-0 at -0";
  EXPECT_EQ(sample.value[2], HUGE_VALL);
  EXPECT_EQ(sample.value[3], 0);
  EXPECT_TRUE(std::signbit(sample.value[3])) << "-0 at -inf";
  EXPECT_EQ(sample.value[4], 200);
  EXPECT_EQ(sample.value[6], RoundTo(Type::kF32, 3e38L));
  EXPECT_EQ(sample.value[7], 0);
  for (const int at : {0, 1, 8, 9}) EXPECT_EQ(sample.slope[at], 0.5L) << at;
  for (const int at : {2, 4, 6}) EXPECT_EQ(sample.slope[at], 1) << at;
  for (const int at : {3, 5, 7}) {
    EXPECT_EQ(sample.slope[at], 0) << at;
    EXPECT_TRUE(std::signbit(sample.slope[at])) << "-0 at " << at;
  }
}

TEST(Gate, SigmoidAtTheEnds) {
  const GateSample sample = SampleGate(ISONORM_GATE_SIGMOID, Ends());
  ASSERT_EQ(sample.error, "");
  for (const int at : {0, 1, 8, 9}) EXPECT_EQ(sample.value[at], 0.5L) << at;
  for (const int at : {2, 4, 6}) EXPECT_EQ(sample.value[at], 1) << at;
  for (const int at : {3, 5, 7}) EXPECT_EQ(sample.value[at], 0) << at;
  for (const int at : {0, 1, 8, 9}) EXPECT_EQ(sample.slope[at], 0.25L) << at;
  for (const int at : {2, 3, 4, 5, 6, 7}) EXPECT_EQ(sample.slope[at], 0) << at;
}

TEST(Gate, NaNGivesTheCanonicalNaN) {
  for (const int32_t function : {ISONORM_GATE_SILU, ISONORM_GATE_SIGMOID}) {
    const GateSample sample = SampleGate(function, {std::numeric_limits<long double>::quiet_NaN(), 1.0L});
    ASSERT_EQ(sample.error, "");
    uint32_t bits = 0;
    std::memcpy(&bits, sample.value.bytes().data(), sizeof(bits));
    EXPECT_EQ(bits, 0x7fc00000u);
    std::memcpy(&bits, sample.slope.bytes().data(), sizeof(bits));
    EXPECT_EQ(bits, 0x7fc00000u);
    const long double want = function == ISONORM_GATE_SILU ? SiluOf(1) : SigmoidOf(1);
    EXPECT_TRUE(UlpError(Type::kF32, sample.value[1], want) <= kSigmoidUlp) << "the neighbour is untouched";
  }
}

}  // namespace
}  // namespace isonorm_test
