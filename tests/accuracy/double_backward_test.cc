// Double backward against the closed form within counted roundings, that against dual numbers, and the library in f64 against
// differences of its own backward.
#include "accuracy/double_backward.h"

#include <gtest/gtest.h>

#include "accuracy/double_variants.h"
#include "accuracy/metrics.h"

namespace isonorm_test {
namespace {

// "" if every gradient is within its bound.
std::string Judge(const DoubleProblem& problem, const DoubleOutputs& out) {
  if (!out.error.empty()) return out.error;
  const DoubleAnswer answer = SolveDouble(problem);
  const DoubleBounds bounds = DoubleBoundsOf(problem);
  std::string wrong;
  const auto check = [&](const char* name, const Tensor& got, const Values& want, const Values& terms, double bound) {
    if (!got.present()) return;
    const long double worst = TermErrors(got, want, terms).worst();
    if (!(worst <= bound))
      wrong += std::string(name) + " is " + std::to_string(worst) + " off, bound " + std::to_string(bound) + "; ";
  };
  check("dx", out.dx, answer.dx, answer.dx_terms, bounds.dx);
  check("dweight", out.dweight, answer.dweight, answer.dweight_terms, bounds.dweight);
  check("ddy", out.ddy, answer.ddy, answer.ddy_terms, bounds.ddy);
  return wrong;
}

// Both are exact to some units of 2^-64 of the terms per rounding; a wrong coefficient is off by a part of a term.
TEST(DoubleBackward, TheClosedFormIsTheDerivativeOfBackward) {
  for (const DoubleVariant& variant : DoubleVariants()) {
    for (const int64_t cols : {int64_t{4}, int64_t{12}, int64_t{96}}) {
      const DoubleProblem problem = MakeDouble(variant, Type::kF64, 3, cols);
      const DoubleAnswer closed = SolveDouble(problem), dual = DifferentiateBackward(problem);
      const auto compare = [&](const char* name, const Values& a, const Values& b, const Values& terms) {
        for (size_t i = 0; i < a.size(); ++i) {
          EXPECT_TRUE(std::fabs(a[i] - b[i]) <= 0x1p-52L * terms[i]) << variant.name << " " << name << " " << i;
        }
      };
      compare("dx", closed.dx, dual.dx, closed.dx_terms);
      compare("ddy", closed.ddy, dual.ddy, closed.ddy_terms);
      compare("dweight", closed.dweight, dual.dweight, closed.dweight_terms);
    }
  }
}

TEST(DoubleBackward, EveryVariantIsWithinItsBound) {
  for (const DoubleVariant& variant : DoubleVariants()) {
    for (const Type type : {Type::kF32, Type::kF64}) {
      for (const int64_t cols : {int64_t{12}, int64_t{96}, int64_t{768}, int64_t{4104}}) {
        for (const int64_t rows : {int64_t{1}, int64_t{5}, int64_t{70}}) {
          if (rows * cols > 60000) continue;
          DoubleProblem problem = MakeDouble(variant, type, rows, cols);
          EXPECT_EQ(Judge(problem, RunDoubleBackward(problem)), "") << variant.name << " " << rows << " x " << cols;
        }
      }
    }
  }
}

TEST(DoubleBackward, SixteenBitTensors) {
  for (const DoubleVariant& variant : DoubleVariants()) {
    for (const Type type : {Type::kBf16, Type::kF16}) {
      DoubleProblem problem = MakeDouble(variant, type, 40, 192);
      EXPECT_EQ(Judge(problem, RunDoubleBackward(problem)), "") << variant.name << " " << FormatOf(type).name;
    }
  }
}

TEST(DoubleBackward, OutliersAndLargeMeans) {
  for (const char* kind : kKinds) {
    DoubleProblem problem = MakeDouble(DoubleVariants().front(), Type::kF32, 41, 300);
    problem.plain.x = MakeX(kind, Type::kF32, 41, 300, 9);
    EXPECT_EQ(Judge(problem, RunDoubleBackward(problem)), "") << kind;
  }
}

// ddx is of x's size, so that rstd * ddx is of size 1; dy is small where rstd is large, so that dx has room.
TEST(DoubleBackward, NoRowOverflowsOrVanishes) {
  for (const Type type : {Type::kF32, Type::kF64}) {
    const bool wide = type == Type::kF64;
    for (const int exponent : wide ? std::vector<int>{-1060, -1022, -700, -500, -450, 400, 510, 700, 1000}
                                   : std::vector<int>{-140, -126, -100, -64, -50, 40, 58, 64, 100, 120}) {
      DoubleProblem problem = MakeDouble(DoubleVariants().front(), type, 7, 300);
      problem.plain.eps = 0;
      const auto times = [](Tensor& tensor, int power) {
        const Values values = tensor.values();
        tensor.Fill([&](int64_t i) { return std::ldexp(values[static_cast<size_t>(i)], power); });
      };
      times(problem.plain.x, exponent);
      times(problem.ddx, exponent);
      times(problem.plain.dy, exponent < 0 ? (wide ? -60 : -30) : 0);
      EXPECT_EQ(Judge(problem, RunDoubleBackward(problem)), "") << FormatOf(type).name << " 2^" << exponent;
    }
  }
}

TEST(DoubleBackward, SavedRstdChangesNoBit) {
  DoubleProblem problem = MakeDouble(DoubleVariants().front(), Type::kF32, 9, 96);
  Outputs forward = RunForward(problem.plain, Type::kF32);
  const DoubleOutputs again = RunDoubleBackward(problem), saved = RunDoubleBackward(problem, &forward.rstd);
  ASSERT_EQ(again.error + saved.error, "");
  EXPECT_EQ(again.dx.bytes(), saved.dx.bytes());
  EXPECT_EQ(again.dweight.bytes(), saved.dweight.bytes());
  EXPECT_EQ(again.ddy.bytes(), saved.ddy.bytes());
}

// sum(ddx * dx) + sum(ddweight * dweight) of the library's own backward in f64.
long double LossOfLibrary(DoubleProblem& problem) {
  const Outputs out = RunBackward(problem.plain);
  EXPECT_EQ(out.error, "");
  Sum loss;
  for (int64_t i = 0; i < out.dx.size() && problem.ddx.present(); ++i) loss.Add(problem.ddx[i] * out.dx[i]);
  for (int64_t i = 0; i < out.dweight.size() && problem.ddweight.present(); ++i) loss.Add(problem.ddweight[i] * out.dweight[i]);
  return loss.value();
}

// Central differences D of steps h, 2h and 4h; (4 D(h) - D(2h)) / 3 is off by h^4 / 4 times a fifth derivative, and the same of
// 2h by 16 times that, so that their difference bounds it with room. The roundings of backward enter 3 / 2h times at most:
// (4 * 2 / 2h + 2 / 4h) / 3.
TEST(DoubleBackward, IsTheDerivativeOfTheLibrarysBackward) {
  for (const DoubleVariant& variant : DoubleVariants()) {
    DoubleProblem problem = MakeDouble(variant, Type::kF64, 2, 12);
    const DoubleOutputs out = RunDoubleBackward(problem);
    ASSERT_EQ(out.error, "");
    const Answer answer = Solve(problem.plain);
    const Bounds bounds = BoundsOf(problem.plain);
    long double roundings = 0;
    for (int64_t i = 0; i < problem.ddx.size() && problem.ddx.present(); ++i) {
      roundings += std::fabs(problem.ddx[i]) * answer.dx_terms[static_cast<size_t>(i)] * (bounds.dx + 1) * 0x1p-53L;
    }
    for (int64_t i = 0; i < problem.ddweight.size() && problem.ddweight.present(); ++i) {
      roundings +=
          std::fabs(problem.ddweight[i]) * answer.dweight_terms[static_cast<size_t>(i)] * (bounds.dweight + 1) * 0x1p-53L;
    }
    const auto check = [&](const char* name, Tensor& input, const Tensor& gradient) {
      if (!input.present()) return;
      for (int64_t i = 0; i < input.size(); ++i) {
        const long double at = input[i], h = 0x1p-9L;
        const auto difference = [&](long double step) {
          input.Set(i, at + step);
          const long double above = LossOfLibrary(problem);
          input.Set(i, at - step);
          const long double below = LossOfLibrary(problem);
          input.Set(i, at);
          return (above - below) / (2 * step);
        };
        // The inputs are stored in f64, where at + step is exact: they have at most 18 bits behind the point.
        const long double d1 = difference(h), d2 = difference(2 * h), d4 = difference(4 * h);
        const long double near = (4 * d1 - d2) / 3, far = (4 * d2 - d4) / 3;
        const long double doubt = std::fabs(near - far) + 1.5L / h * roundings;
        ASSERT_LE(doubt, 1e-4L * (1 + std::fabs(near)))
            << variant.name << " " << name << ": the difference itself is too rough";
        EXPECT_TRUE(std::fabs(gradient[i] - near) <= doubt) << variant.name << " " << name << " " << i;
      }
    };
    check("x", problem.plain.x, out.dx);
    check("weight", problem.plain.weight, out.dweight);
    check("dy", problem.plain.dy, out.ddy);
  }
}

// What backward computes is linear in dy and, for dx, in the weight, and with eps 0 of degree -1 and 0 in x: Euler's theorem
// gives three sums that no coefficient may miss.
TEST(DoubleBackward, EulersTheorem) {
  DoubleProblem problem = MakeDouble(DoubleVariants().front(), Type::kF64, 3, 200);
  problem.plain.eps = 0;
  const DoubleOutputs out = RunDoubleBackward(problem);
  const Outputs backward = RunBackward(problem.plain);
  ASSERT_EQ(out.error + backward.error, "");
  Sum through_dx, through_dweight, x, weight, dy;
  long double size = 0;
  const DoubleAnswer answer = SolveDouble(problem);
  const auto terms = [](const Values& of, int64_t i) { return of[static_cast<size_t>(i)]; };
  for (int64_t i = 0; i < 600; ++i) {
    through_dx.Add(problem.ddx[i] * backward.dx[i]);
    x.Add(problem.plain.x[i] * out.dx[i]);
    dy.Add(problem.plain.dy[i] * out.ddy[i]);
    size += std::fabs(problem.plain.x[i]) * terms(answer.dx_terms, i);
    size += std::fabs(problem.plain.dy[i]) * terms(answer.ddy_terms, i);
  }
  for (int64_t j = 0; j < 200; ++j) {
    through_dweight.Add(problem.ddweight[j] * backward.dweight[j]);
    weight.Add(problem.plain.weight[j] * out.dweight[j]);
    size += std::fabs(problem.plain.weight[j]) * terms(answer.dweight_terms, j);
  }
  // Backward's own terms are among those of its gradients, and no bound of either is above 100 units.
  const long double bound = 200 * 0x1p-53L * size;
  ASSERT_TRUE(bound <= 1e-10L * std::fabs(through_dx.value()) + 1e-8L);
  EXPECT_TRUE(std::fabs(x.value() + through_dx.value()) <= bound);
  EXPECT_TRUE(std::fabs(weight.value() - through_dx.value()) <= bound);
  EXPECT_TRUE(std::fabs(dy.value() - through_dx.value() - through_dweight.value()) <= bound);
}

TEST(DoubleBackward, ABadKernelWouldBeSeen) {
  DoubleProblem problem = MakeDouble(DoubleVariants().front(), Type::kF32, 70, 96);
  const DoubleOutputs good = RunDoubleBackward(problem);
  ASSERT_EQ(Judge(problem, good), "");
  DoubleOutputs bad = good;
  for (int64_t i = 0; i < bad.dx.size(); ++i) bad.dx.Set(i, bad.dx[i] * (1 + 0x1p-14L));
  EXPECT_NE(Judge(problem, bad), "") << "a relative error of 2^-14";
  DoubleProblem other = problem;
  other.ddweight.Fill([](int64_t) { return 0; });
  bad = good;
  bad.ddy = RunDoubleBackward(other).ddy;
  EXPECT_NE(Judge(problem, bad), "") << "ddweight * c is missing";
  bad = good;
  bad.dweight.Set(95, bad.dweight[95] - problem.plain.dy[69 * 96 + 95] * 0x1p-8L);
  EXPECT_NE(Judge(problem, bad), "") << "a part of the last row is missing";
  bad = good;
  bad.ddy.Set(0, std::numeric_limits<long double>::quiet_NaN());
  EXPECT_NE(Judge(problem, bad), "") << "NaN";
}

}  // namespace
}  // namespace isonorm_test
