// Backward against the closed forms, within counted roundings, and in f64 against central differences.
#include <gtest/gtest.h>

#include "accuracy/bounds.h"
#include "accuracy/central_difference.h"
#include "accuracy/metrics.h"
#include "accuracy/variants.h"

namespace isonorm_test {
namespace {

// "" if every gradient is within its bound.
std::string Judge(const Problem& problem, const Outputs& out) {
  if (!out.error.empty()) return out.error;
  const Answer answer = Solve(problem);
  const Bounds bounds = BoundsOf(problem);
  std::string wrong;
  const auto check = [&](const char* name, const Tensor& got, const Values& want, const Values& terms, double bound) {
    if (!got.present()) return;
    const long double worst = TermErrors(got, want, terms).worst();
    if (!(worst <= bound))
      wrong += std::string(name) + " is " + std::to_string(worst) + " off, bound " + std::to_string(bound) + "; ";
  };
  check("dx", out.dx, answer.dx, answer.dx_terms, bounds.dx);
  check("dweight", out.dweight, answer.dweight, answer.dweight_terms, bounds.dweight);
  check("dbias", out.dbias, answer.dbias, answer.dbias_terms, bounds.dbias);
  check("dgate", out.dgate, answer.dgate, answer.dgate_terms, bounds.dgate);
  return wrong;
}

TEST(Gradients, EveryVariantIsWithinItsBound) {
  for (const Variant& variant : Variants()) {
    for (const Type type : {Type::kF32, Type::kF64}) {
      if (HasGate(variant) && type == Type::kF64) continue;  // silu is defined for f32
      for (const int64_t cols : {int64_t{12}, int64_t{96}, int64_t{768}, int64_t{4104}}) {
        for (const int64_t rows : {int64_t{1}, int64_t{5}, int64_t{70}}) {
          if (rows * cols > 60000) continue;
          Problem problem = MakeVariant(variant, type, rows, cols);
          EXPECT_EQ(Judge(problem, RunBackward(problem)), "") << variant.name << " " << rows << " x " << cols;
        }
      }
    }
  }
}

TEST(Gradients, ManyRows) {  // shapes that broke others: a block more, a block less, one column
  for (const auto& [rows, cols] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {31, 3}, {32, 17}, {33, 16}, {1023, 2}, {1025, 33}, {8096, 32}, {2048, 2}, {3000, 24}}) {
    Problem problem = MakeVariant(Variants().front(), Type::kF32, rows, cols);
    problem.bias = MakePlain(Type::kF32, {cols}, 1);
    EXPECT_EQ(Judge(problem, RunBackward(problem)), "") << rows << " x " << cols;
  }
}

TEST(Gradients, SixteenBitTensors) {
  for (const Variant& variant : Variants()) {
    for (const Type type : {Type::kBf16, Type::kF16}) {
      Problem problem = MakeVariant(variant, type, 40, 192);
      EXPECT_EQ(Judge(problem, RunBackward(problem)), "") << variant.name << " " << FormatOf(type).name;
      problem.weight = MakePlain(Type::kF32, {192}, 4);
      problem.dy = MakePlain(Type::kF32, {40, 192}, 5);
      EXPECT_EQ(Judge(problem, RunBackward(problem)), "")
          << variant.name << " " << FormatOf(type).name << ", f32 weight and dy";
    }
  }
}

TEST(Gradients, OutliersAndLargeMeans) {
  for (const char* kind : kKinds) {
    for (const isonorm_contract& contract :
         {isonorm_contract ISONORM_CONTRACT_TORCH, isonorm_contract ISONORM_CONTRACT_PAPER}) {
      Problem problem = MakeVariant(Variants().front(), Type::kF32, 41, 300);
      problem.contract = contract;
      problem.x = MakeX(kind, Type::kF32, 41, 300, 9);
      EXPECT_EQ(Judge(problem, RunBackward(problem)), "") << kind;
    }
  }
}

TEST(Gradients, SavedRstdChangesNoBit) {
  for (const Variant& variant : Variants()) {
    Problem problem = MakeVariant(variant, Type::kF32, 9, 96);
    Outputs forward = RunForward(problem, Type::kF32);
    const Outputs again = RunBackward(problem), saved = RunBackward(problem, &forward.rstd);
    ASSERT_EQ(again.error + saved.error, "");
    EXPECT_EQ(again.dx.bytes(), saved.dx.bytes()) << variant.name;
    EXPECT_EQ(again.dweight.bytes(), saved.dweight.bytes()) << variant.name;
    EXPECT_EQ(again.dgate.bytes(), saved.dgate.bytes()) << variant.name;
  }
}

// The library in f64 against differences of the oracle's forward: no closed form in between.
TEST(Gradients, AreTheDerivatives) {
  for (const Variant& variant : Variants()) {
    if (HasGate(variant)) continue;  // no f64
    for (const int64_t cols : {int64_t{12}, int64_t{24}}) {
      Problem problem = MakeVariant(variant, Type::kF64, 2, cols);
      const Outputs out = RunBackward(problem);
      ASSERT_EQ(out.error, "");
      for (const Input input : {Input::kX, Input::kWeight, Input::kBias}) {
        const Tensor& gradient = input == Input::kX ? out.dx : input == Input::kWeight ? out.dweight : out.dbias;
        for (int64_t i = 0; i < SizeOf(problem, input); ++i) {
          const Difference difference = Differ(problem, input, i);
          ASSERT_LE(difference.doubt, 1e-9L) << variant.name;
          EXPECT_TRUE(std::fabs(gradient[i] - difference.value) <= difference.doubt)
              << variant.name << " " << static_cast<int>(input) << " " << i;
        }
      }
    }
  }
}

// The errors that shipped elsewhere: the weight applied twice, forgotten, or a sum cut short.
TEST(Gradients, ABadKernelWouldBeSeen) {
  Problem problem = MakeVariant(Variants().front(), Type::kF32, 70, 96);
  const Outputs good = RunBackward(problem);
  ASSERT_EQ(Judge(problem, good), "");
  Outputs bad = good;
  for (int64_t i = 0; i < bad.dx.size(); ++i) bad.dx.Set(i, bad.dx[i] * (1 + 0x1p-16L));
  EXPECT_NE(Judge(problem, bad), "") << "a relative error of 2^-16";
  Problem unweighted = problem;
  unweighted.weight.Fill([](int64_t) { return 1; });
  bad = good;
  bad.dx = RunBackward(unweighted).dx;
  EXPECT_NE(Judge(problem, bad), "");
  bad = good;
  bad.dweight.Set(95, bad.dweight[95] - problem.dy[69 * 96 + 95] * 0x1p-10L);
  EXPECT_NE(Judge(problem, bad), "") << "a thousandth of the last row is missing";
  bad = good;
  bad.dbias.Set(0, std::numeric_limits<long double>::quiet_NaN());
  EXPECT_NE(Judge(problem, bad), "") << "NaN";
}

}  // namespace
}  // namespace isonorm_test
