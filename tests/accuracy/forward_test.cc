// Forward results against the oracle: ulp over a sweep of widths, kinds of data, contracts and types.
#include <gtest/gtest.h>

#include "accuracy/bounds.h"
#include "accuracy/metrics.h"
#include "accuracy/variants.h"

namespace isonorm_test {
namespace {

// Widths around the lanes and leaves of the order, and those of models.
constexpr int64_t kWidths[] = {1,   2,   3,   7,   17,   63,   64,   65,   96,   128,  129, 255,
                               256, 384, 513, 768, 1024, 1025, 2048, 2560, 4096, 4097, 8192};

int64_t RowsFor(int64_t cols) { return std::max<int64_t>(3, 20000 / cols); }

TEST(Forward, F32IsWithinThreeAndAHalfUlp) {
  for (const char* kind : kKinds) {
    for (const int64_t cols : kWidths) {
      Problem problem = MakeProblem(ISONORM_CONTRACT_TORCH, kind, Type::kF32, Type::kF32, RowsFor(cols), cols);
      const Outputs out = RunForward(problem, Type::kF32);
      ASSERT_EQ(out.error, "");
      const Answer answer = Solve(problem);
      EXPECT_TRUE(UlpErrors(out.y, answer.y).worst() <= 3.5L) << kind << " " << cols;
      EXPECT_TRUE(UlpErrors(out.rstd, answer.rstd).worst() <= 2.5L) << kind << " " << cols;
    }
  }
}

TEST(Forward, F32WithoutWeightOrWithOffset) {
  for (const double offset : {0.0, 1.0}) {
    for (const int64_t cols : kWidths) {
      Problem problem = MakeProblem(ISONORM_CONTRACT_TORCH, "outliers", Type::kF32, Type::kF32, RowsFor(cols), cols);
      if (offset == 0) problem.weight = Tensor();
      problem.contract.weight_offset = offset;
      // w + 1 adds one rounding, and none near -1, where it cancels: what is left there is exact.
      const Outputs out = RunForward(problem, Type::kF32);
      ASSERT_EQ(out.error, "");
      EXPECT_TRUE(UlpErrors(out.y, Solve(problem).y).worst() <= 3.5L) << offset << " " << cols;
    }
  }
}

// The f32 result rounded once: half an ulp, and 3.5 f32 ulp, of which 2^13 (f16) or 2^16 (bf16) are one of the result's.
TEST(Forward, SixteenBitsAreRoundedOnce) {
  for (const Type type : {Type::kBf16, Type::kF16}) {
    for (const Type weight : {type, Type::kF32}) {
      for (const int64_t cols : kWidths) {
        Problem problem = MakeProblem(ISONORM_CONTRACT_TORCH, "plain", type, weight, RowsFor(cols), cols);
        const Outputs out = RunForward(problem, type);
        ASSERT_EQ(out.error, "");
        EXPECT_TRUE(UlpErrors(out.y, Solve(problem).y).worst() <= 0.51L) << FormatOf(type).name << " " << cols;
      }
    }
  }
}

TEST(Forward, EveryMixOfTypesIsWithinOneUlp) {  // TEST a7 of the pitfalls
  const Type types[] = {Type::kF32, Type::kF16, Type::kBf16};
  for (const Type x : types) {
    for (const Type weight : types) {
      for (const Type y : types) {
        Problem problem = MakeProblem(ISONORM_CONTRACT_GEMMA, "plain", x, weight, 16, 320);
        const Outputs out = RunForward(problem, y);
        ASSERT_EQ(out.error, "");
        EXPECT_EQ(out.y.type(), y);
        const long double limit = y == Type::kF32 ? 3.5L : 0.51L;
        EXPECT_TRUE(UlpErrors(out.y, Solve(problem).y).worst() <= limit)
            << FormatOf(x).name << " " << FormatOf(weight).name << " " << FormatOf(y).name;
      }
    }
  }
}

TEST(Forward, F64IsWithinFourUlpAndRoundsOnceToF32) {
  for (const char* kind : kKinds) {
    for (const int64_t cols : kWidths) {
      Problem problem = MakeProblem(ISONORM_CONTRACT_TORCH, kind, Type::kF64, Type::kF64, RowsFor(cols), cols);
      const Answer answer = Solve(problem);
      const Outputs wide = RunForward(problem, Type::kF64), narrow = RunForward(problem, Type::kF32);
      ASSERT_EQ(wide.error + narrow.error, "");
      EXPECT_TRUE(UlpErrors(wide.y, answer.y).worst() <= 4) << kind << " " << cols;  // 3.5 and the second rounding of rstd
      EXPECT_TRUE(UlpErrors(narrow.y, answer.y).worst() <= 0.5L + 4 * 0x1p-29L) << kind << " " << cols;
    }
  }
}

TEST(Forward, EveryVariantIsWithinItsBound) {
  for (const Variant& variant : Variants()) {
    for (const Type type : {Type::kF32, Type::kF64}) {
      if (HasGate(variant) && type == Type::kF64) continue;  // silu is defined for f32
      for (const int64_t cols : {int64_t{12}, int64_t{96}, int64_t{768}, int64_t{4104}}) {
        Problem problem = MakeVariant(variant, type, 7, cols);
        const Outputs out = RunForward(problem, type);
        ASSERT_EQ(out.error, "");
        const Answer answer = Solve(problem);
        const Bounds bounds = BoundsOf(problem);
        EXPECT_TRUE(TermErrors(out.y, answer.y, answer.y_terms).worst() <= bounds.y) << variant.name << " " << cols;
        EXPECT_TRUE(TermErrors(out.rstd, answer.rstd, answer.rstd).worst() <= bounds.rstd) << variant.name << " " << cols;
      }
    }
  }
}

TEST(Forward, ResidualSums) {
  for (const int32_t sum : {ISONORM_SUM_STORED, ISONORM_SUM_KEPT}) {
    for (const Type residual : {Type::kF32, Type::kBf16, Type::kF16}) {
      Problem problem = MakeProblem(ISONORM_CONTRACT_TORCH, "plain", Type::kBf16, Type::kF32, 9, 500);
      problem.contract.sum_rounding = sum;
      problem.residual = MakePlain(residual, {9, 500}, 77);
      const Outputs out = RunForward(problem, Type::kF32);
      ASSERT_EQ(out.error, "");
      const Answer answer = Solve(problem);
      EXPECT_TRUE(TermErrors(out.y, answer.y, answer.y_terms).worst() <= BoundsOf(problem).y) << sum << FormatOf(residual).name;
      for (int64_t i = 0; i < out.residual_out.size(); ++i) {
        const long double stored = RoundTo(residual, RoundTo(Type::kF32, problem.x[i] + problem.residual[i]));
        ASSERT_EQ(out.residual_out[i], stored) << i;
      }
    }
  }
}

// A bound that nothing can break is no bound: a rounding of rstd to bf16, as some kernels do, must show.
TEST(Forward, ABadKernelWouldBeSeen) {
  Problem problem = MakeProblem(ISONORM_CONTRACT_TORCH, "plain", Type::kF32, Type::kF32, 8, 512);
  const Outputs out = RunForward(problem, Type::kF32);
  ASSERT_EQ(out.error, "");
  const Answer answer = Solve(problem);
  Tensor wrong = out.y;
  for (int64_t i = 0; i < wrong.size(); ++i) {
    const long double rstd = answer.rstd[static_cast<size_t>(i / 512)];
    wrong.Set(i, wrong[i] / rstd * RoundTo(Type::kBf16, rstd));
  }
  EXPECT_GT(UlpErrors(wrong, answer.y).worst(), 1000);
  EXPECT_FALSE(TermErrors(wrong, answer.y, answer.y_terms).worst() <= BoundsOf(problem).y);
}

}  // namespace
}  // namespace isonorm_test
