// The judges themselves: each must reject what is wrong, NaN above all, and agree with a case worked out by hand.
#include "accuracy/metrics.h"

#include <gtest/gtest.h>

#include "accuracy/bounds.h"

namespace isonorm_test {
namespace {

constexpr long double kNaN = std::numeric_limits<long double>::quiet_NaN();

TEST(Storage, RoundsLikeTheHardware) {
  uint64_t state = 1;
  for (int i = 0; i < 200000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    double value;
    std::memcpy(&value, &state, sizeof(value));
    if (i % 2 == 0) value = std::ldexp(static_cast<double>(state >> 11), static_cast<int>(state % 320) - 220);
    if (std::isnan(value)) continue;
    volatile float narrow = static_cast<float>(value);
    ASSERT_EQ(RoundTo(Type::kF32, value), static_cast<long double>(narrow)) << value;
    ASSERT_EQ(RoundTo(Type::kF64, value), static_cast<long double>(value)) << value;
  }
}

TEST(Storage, SixteenBitsGoInAndOut) {
  for (const Type type : {Type::kF16, Type::kBf16}) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      const auto stored = static_cast<uint16_t>(bits);
      uint16_t memory[4] = {stored};  // of the size of the largest type
      const long double value = Get(type, memory);
      Put(type, value, memory);
      const uint16_t canonical_nan = type == Type::kF16 ? 0x7e00 : 0x7fc0;
      ASSERT_EQ(memory[0], std::isnan(value) ? canonical_nan : stored) << FormatOf(type).name << " " << bits;
    }
  }
}

TEST(Storage, TiesGoToEven) {
  EXPECT_EQ(RoundTo(Type::kBf16, 1.00390625L), 1.0L);       // 1 + half an ulp
  EXPECT_EQ(RoundTo(Type::kBf16, 1.01171875L), 1.015625L);  // 1 + one and a half
  EXPECT_EQ(RoundTo(Type::kF16, 65519.0L), 65504.0L);
  EXPECT_EQ(RoundTo(Type::kF16, 65520.0L), HUGE_VALL);
  EXPECT_EQ(RoundTo(Type::kF16, 0x1p-25L), 0.0L);
  EXPECT_EQ(RoundTo(Type::kF16, 0x1.8p-24L), 0x1p-23L);
}

TEST(Storage, UlpIsTheGapBetweenNeighbours) {
  EXPECT_EQ(Ulp(Type::kF32, 1.0L), 0x1p-23L);
  EXPECT_EQ(Ulp(Type::kF32, 1.999L), 0x1p-23L);
  EXPECT_EQ(Ulp(Type::kF32, -2.0L), 0x1p-22L);
  EXPECT_EQ(Ulp(Type::kF32, 0.0L), 0x1p-149L);
  EXPECT_EQ(Ulp(Type::kBf16, 1.0L), 0x1p-7L);
  EXPECT_EQ(Ulp(Type::kF16, 0x1p-20L), 0x1p-24L);
}

TEST(Metrics, RejectNaNAndInfinity) {
  for (const Type type : {Type::kF32, Type::kBf16, Type::kF16, Type::kF64}) {
    EXPECT_EQ(UlpError(type, kNaN, 1), HUGE_VALL);
    EXPECT_EQ(UlpError(type, 1, kNaN), HUGE_VALL);
    EXPECT_EQ(UlpError(type, kNaN, kNaN), HUGE_VALL) << "an oracle that does not know cannot judge";
    EXPECT_EQ(UlpError(type, HUGE_VALL, 1), HUGE_VALL);
    EXPECT_EQ(UlpError(type, 1, HUGE_VALL), HUGE_VALL);
    EXPECT_EQ(UlpError(type, HUGE_VALL, -HUGE_VALL), HUGE_VALL);
    EXPECT_EQ(UlpError(type, HUGE_VALL, HUGE_VALL), 0);
  }
}

TEST(Metrics, MeasureAKnownDistance) {
  EXPECT_EQ(UlpError(Type::kF32, 1 + 0x1p-23L, 1), 1);
  EXPECT_EQ(UlpError(Type::kBf16, 1, 1 + 0x1p-9L), 0.25L);
  const Tensor got = Tensor::Of(Type::kF32, {1, 2, 3});
  EXPECT_EQ(UlpErrors(got, {1, 2, 3}).worst(), 0);
  EXPECT_EQ(UlpErrors(got, {1, 2, 3 + 0x1p-21L}).worst(), 2);
  EXPECT_EQ(TermErrors(got, {1, 2, 3 + 0x1p-20L}, {1, 1, 1}).worst(), 16 - 2) << "less the half ulp of the store";
}

TEST(Metrics, OneBadValueAmongManyDecides) {
  Tensor got = Tensor(Type::kF32, {1000}).Fill([](int64_t) { return 1; });
  const Values want(1000, 1);
  ASSERT_EQ(UlpErrors(got, want).worst(), 0);
  got.Set(777, kNaN);
  EXPECT_EQ(UlpErrors(got, want).worst(), HUGE_VALL);
  EXPECT_EQ(TermErrors(got, want, want).worst(), HUGE_VALL);
  EXPECT_FALSE(UlpErrors(got, want).mean() <= 1);
  got.Set(777, 2);
  EXPECT_GE(UlpErrors(got, want).worst(), 0x1p23L);
  EXPECT_GE(TermErrors(got, want, want).worst(), 0x1p22L);
}

TEST(Metrics, NothingComparedIsNoSuccess) {
  EXPECT_EQ(Errors().worst(), HUGE_VALL);
  EXPECT_EQ(Errors().mean(), HUGE_VALL);
  EXPECT_EQ(UlpErrors(Tensor::Of(Type::kF32, {1, 2}), {1}).worst(), HUGE_VALL) << "another size";
  EXPECT_EQ(UlpErrors(Tensor(), {}).worst(), HUGE_VALL);
}

TEST(Metrics, ALaterNumberDoesNotHideANaN) {
  Errors errors;
  errors.Add(kNaN);
  errors.Add(1);
  EXPECT_EQ(errors.worst(), HUGE_VALL);
}

TEST(Bounds, GrowWithTheSumAndStaySmall) {
  EXPECT_EQ(SumRoundings(64), 7);     // one in each lane, 6 levels
  EXPECT_EQ(SumRoundings(128), 8);    // two in each lane
  EXPECT_EQ(SumRoundings(4096), 18);  // 9 at most in a lane, 6 levels, 8 leaves
  EXPECT_EQ(SumRoundings(8192), 19);
  EXPECT_EQ(RowRoundings(32), 32);
  EXPECT_EQ(RowRoundings(33), 33);
  EXPECT_EQ(RowRoundings(4096), 39);
}

TEST(OracleSum, KeepsWhatPlainAdditionLoses) {
  Sum sum;
  for (const long double value : {1e30L, 1.0L, -1e30L}) sum.Add(value);
  EXPECT_EQ(sum.value(), 1);
}

}  // namespace
}  // namespace isonorm_test
