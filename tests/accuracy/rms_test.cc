// The vector functions: RMS, its gradient and the penalty, against the oracle's formulas.
#include <gtest/gtest.h>

#include "accuracy/bounds.h"
#include "accuracy/metrics.h"
#include "accuracy/rms_calls.h"

namespace isonorm_test {
namespace {

constexpr int64_t kWidths[] = {1, 2, 7, 64, 65, 129, 768, 1000, 4096, 8192};

TEST(Rms, IsWithinTwoAndAHalfUlp) {
  for (const char* kind : kKinds) {
    for (const Type type : {Type::kF32, Type::kBf16, Type::kF16, Type::kF64}) {
      for (const int64_t cols : kWidths) {
        if (type == Type::kF16 && std::string(kind) == "wide") continue;  // f16 has no such numbers
        RmsCall call(MakeX(kind, type, 8, cols, static_cast<uint64_t>(cols)));
        ASSERT_EQ(call.Rms(), "");
        EXPECT_TRUE(UlpErrors(call.rms, call.Want()).worst() <= 2.5L) << kind << " " << FormatOf(type).name << " " << cols;
      }
    }
  }
}

TEST(Rms, OfOnesIsOneAtEveryWidth) {
  for (const int64_t cols : {1, 2, 3, 100, 768, 4096, 65537, 131072}) {
    RmsCall call(Tensor(Type::kBf16, {2, cols}).Fill([](int64_t) { return 1; }));
    ASSERT_EQ(call.Rms(), "");
    EXPECT_EQ(call.rms[0], 1) << cols;
    EXPECT_EQ(call.rms[1], 1) << cols;
  }
}

TEST(Rms, NoRowOverflowsOrVanishes) {
  for (const double size : {1e-45, 1e-38, 1e-25, 1e-18, 1e18, 1e25, 3.4e38}) {
    RmsCall call(Tensor(Type::kF32, {1, 512}).Fill([&](int64_t) { return size; }));
    ASSERT_EQ(call.Rms(), "");
    EXPECT_EQ(call.rms[0], call.x[0]) << size;
    call.drms.Fill([](int64_t) { return 1; });
    ASSERT_EQ(call.Backward(), "");
    for (int64_t i = 0; i < 512; ++i) ASSERT_TRUE(UlpError(Type::kF32, call.dx[i], 0x1p-9L) <= 2) << size;  // three roundings
  }
}

TEST(Rms, GradientIsWithinItsRoundings) {
  for (const Type type : {Type::kF32, Type::kF64, Type::kBf16}) {
    for (const int64_t cols : kWidths) {
      RmsCall call(MakeX("outliers", type, 8, cols, static_cast<uint64_t>(cols)));
      ASSERT_EQ(call.Backward(), "");
      Values want, size;
      const Values rms = call.Want();
      for (int64_t i = 0; i < call.x.size(); ++i) {
        const int64_t row = i / cols;
        want.push_back(call.drms[row] * call.x[i] / (static_cast<long double>(cols) * rms[static_cast<size_t>(row)]));
        size.push_back(std::fabs(want.back()));
      }
      // rms has half the roundings of its sum and a few of its own; three operations follow.
      EXPECT_TRUE(TermErrors(call.dx, want, size).worst() <= SumRoundings(cols) / 2 + 6) << FormatOf(type).name << " " << cols;
    }
  }
}

TEST(Rms, GradientOfZerosIsZero) {
  RmsCall call(Tensor(Type::kF32, {2, 9}));
  ASSERT_EQ(call.Backward(), "");
  ASSERT_EQ(call.Rms(), "");
  EXPECT_EQ(call.rms[0], 0);
  for (int64_t i = 0; i < 18; ++i) EXPECT_EQ(call.dx[i], 0);
}

TEST(Rms, PenaltyIsLambdaTimesMeanSquare) {
  for (const Type type : {Type::kF32, Type::kF64}) {
    for (const int64_t cols : kWidths) {
      RmsCall call(MakeX("plain", type, 8, cols, static_cast<uint64_t>(cols)));
      const double lambda = 0.3;
      ASSERT_EQ(call.Penalty(lambda, 0), "");
      Values want, size, gradient, gradient_size;
      for (const long double rms : call.Want()) want.push_back(static_cast<long double>(lambda) * rms * rms);
      for (int64_t i = 0; i < call.x.size(); ++i) {
        gradient.push_back(2 * static_cast<long double>(lambda) / static_cast<long double>(cols) * call.x[i]);
        gradient_size.push_back(std::fabs(gradient.back()));
      }
      EXPECT_TRUE(TermErrors(call.penalty, want, want).worst() <= SumRoundings(cols) + 4) << cols;
      EXPECT_TRUE(TermErrors(call.dx, gradient, gradient_size).worst() <= 3) << cols;
      const Tensor once = call.dx;
      ASSERT_EQ(call.Penalty(lambda, ISONORM_ACCUMULATE), "");
      for (int64_t i = 0; i < call.dx.size(); ++i) ASSERT_EQ(call.dx[i], 2 * once[i]) << "added once more";
    }
  }
}

TEST(Rms, PenaltyMeansTheSameAtEveryWidth) {
  for (const int64_t cols : {1, 3, 64, 1000, 4096}) {
    RmsCall call(Tensor(Type::kF32, {1, cols}).Fill([](int64_t) { return 2; }));
    ASSERT_EQ(call.Penalty(0.5, 0), "");
    EXPECT_EQ(call.penalty[0], 2) << cols;
  }
}

TEST(Rms, ABadSumWouldBeSeen) {  // one element of 4096 left out
  RmsCall call(Tensor(Type::kF32, {1, 4096}).Fill([](int64_t i) { return i % 7 - 3.5L; }));
  ASSERT_EQ(call.Rms(), "");
  Values want = call.Want();
  ASSERT_TRUE(UlpErrors(call.rms, want).worst() <= 2.5L);
  call.rms.Set(0, std::sqrt(want[0] * want[0] - call.x[4095] * call.x[4095] / 4096));
  EXPECT_FALSE(UlpErrors(call.rms, want).worst() <= 2.5L);
}

}  // namespace
}  // namespace isonorm_test
