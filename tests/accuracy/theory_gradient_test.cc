// docs/theory.md, the gradient: its geometry, what scale does to it, and the two wrong forms that are often printed.
#include <gtest/gtest.h>

#include "accuracy/central_difference.h"
#include "accuracy/theory.h"

namespace isonorm_test {
namespace {

constexpr size_t kWidths[] = {2, 3, 17, 64, 100, 768, 4096};

Tensor TensorOf(const Row& row, std::vector<int64_t> shape) {
  return Tensor(Type::kF64, std::move(shape)).Fill([&](int64_t i) { return row[static_cast<size_t>(i)]; });
}

Problem OneRow(const Row& x, const Row& dy, double eps, const Row& weight = {}) {
  const auto cols = static_cast<int64_t>(x.size());
  Problem problem;
  problem.eps = eps;
  problem.x = TensorOf(x, {1, cols});
  problem.dy = TensorOf(dy, {1, cols});
  if (!weight.empty()) problem.weight = TensorOf(weight, {cols});
  return problem;
}

// What dx_i may be off, in kUnit: BoundsOf counts the roundings before the store, which is one more.
Values Allowed(const Problem& problem) {
  Values allowed = Solve(problem).dx_terms;
  for (long double& terms : allowed) terms *= BoundsOf(problem).dx + 1;
  return allowed;
}

// The sum of |direction_i| times what dx_i may be off: what direction.dx may be off.
long double AllowedAlong(const Row& direction, const Values& allowed) {
  long double sum = 0;
  for (size_t i = 0; i < allowed.size(); ++i) sum += std::fabs(direction[i]) * allowed[i];
  return sum * kUnit;
}

TEST(TheoryGradient, IsTheFullForm) {  // and neither of the wrong ones, by 100 times what the differences may be off
  for (const size_t n : kWidths) {
    if (n > 100) continue;  // two losses for each element
    for (const double eps : {0.0, 0.5}) {
      const Row x = NormalRow(n, n), dy = NormalRow(n, n + 1), weight = NormalRow(n, n + 2);
      const Row dx = Gradient(isonorm::contracts::torch, eps, x, dy, weight);
      const Problem problem = OneRow(x, dy, eps, weight);
      const Values allowed = Allowed(problem);
      Row g = dy;
      for (size_t i = 0; i < n; ++i) g[i] *= weight[i];
      const Values diagonal = WrongGradient(Wrong::kDiagonalOnly, eps, x, g);
      const Values twice = WrongGradient(Wrong::kDividedTwice, eps, x, g);
      long double doubt = 0, off_diagonal = 0, off_twice = 0;
      for (size_t i = 0; i < n; ++i) {
        const Difference want = Differ(problem, Input::kX, static_cast<int64_t>(i));
        ASSERT_TRUE(std::fabs(dx[i] - want.value) <= want.doubt + allowed[i] * kUnit) << n << " " << i;
        doubt = std::max(doubt, want.doubt + allowed[i] * kUnit);
        off_diagonal = std::max(off_diagonal, std::fabs(diagonal[i] - want.value));
        off_twice = std::max(off_twice, std::fabs(twice[i] - want.value));
      }
      EXPECT_TRUE(off_diagonal > 100 * doubt && off_twice > 100 * doubt) << n << " " << eps;
    }
  }
}

// The loss |y|^2 / 2 is n / 2 for every row, so its gradient, with dy = y, is zero. The wrong forms keep (1 - 1/n) r y or, at
// each element, (1 - y_i^2 / n) r y_i: all of it, or nearly so, at every width.
TEST(TheoryGradient, OfAConstantLossIsZero) {
  for (const size_t n : kWidths) {
    const Row x = NormalRow(n, n), y = RmsNorm(x);
    const Values allowed = Allowed(OneRow(x, y, 0));
    const Row dx = Gradient(isonorm::contracts::torch, 0, x, y);
    for (size_t i = 0; i < n; ++i) {  // y is off by its own roundings, which the projection does not remove
      const long double size = std::fabs(y[i]) / isonorm::rms(x);
      ASSERT_TRUE(std::fabs(dx[i]) <= (allowed[i] + 2 * NormRoundings(n) * size) * kUnit) << n << " " << i;
    }
    const long double whole = Length(y) / isonorm::rms(x), least = n == 2 ? 0.01L : n == 3 ? 0.2L : 0.8L;
    EXPECT_GT(Length(WrongGradient(Wrong::kDiagonalOnly, 0, x, y)), least * whole) << n;
    EXPECT_GT(Length(WrongGradient(Wrong::kDividedTwice, 0, x, y)), (n == 2 ? 0.49L : least * 0.8L) * whole) << n;
  }
}

// For a dy that has nothing to do with x the term left out has the share |cos(dy, x)| of r |dy|. For normal dy, n cos^2 has the
// mean 1 and a variance below 2: the mean of 400 is within 6 deviations, 6 sqrt(2 / 400) = 0.43.
TEST(TheoryGradient, UnrelatedGradientsHideTheMistake) {
  for (const size_t n : {size_t{64}, size_t{768}}) {
    const Row x = NormalRow(n, 1);
    const auto width = static_cast<long double>(n);
    long double sum = 0;
    for (uint64_t seed = 2; seed < 402; ++seed) {
      const Row dy = NormalRow(n, seed), dx = Gradient(isonorm::contracts::torch, 0, x, dy);
      const long double cosine = Dot(x, dy) / (Length(x) * Length(dy)), whole = Length(dy) / isonorm::rms(x);
      const long double share = Apart(WrongGradient(Wrong::kDividedTwice, 0, x, dy), dx) / whole;
      const Values allowed = Allowed(OneRow(x, dy, 0));
      EXPECT_TRUE(std::fabs(share - std::fabs(cosine) * (1 - 1 / width)) <=
                  (Length(allowed) / whole + RmsRoundings(n) + 2) * kUnit)
          << n;
      sum += width * cosine * cosine;
    }
    EXPECT_TRUE(std::fabs(sum / 400 - 1) <= 0.43L) << n;
  }
}

// Along x only eps is left: x.dx = eps r^3 (x.g), which is 0 without eps. Across x the gradient is r g, so it is never longer.
TEST(TheoryGradient, IsOrthogonalToTheRow) {
  for (const size_t n : kWidths) {
    for (const double eps : {0.0, 1e-6, 0.5, 100.0}) {
      const Row x = NormalRow(n, n), dy = NormalRow(n, n + 1), weight = NormalRow(n, n + 2);
      const Row dx = Gradient(isonorm::contracts::torch, eps, x, dy, weight);
      const Values allowed = Allowed(OneRow(x, dy, eps, weight));
      Values g;
      for (size_t i = 0; i < n; ++i) g.push_back(static_cast<long double>(dy[i]) * weight[i]);
      const long double rstd = 1 / std::sqrt(Dot(x, x) / static_cast<long double>(n) + eps);
      EXPECT_TRUE(std::fabs(Dot(x, dx) - eps * rstd * rstd * rstd * Dot(x, g)) <= AllowedAlong(x, allowed)) << n << " " << eps;
      EXPECT_TRUE(Length(dx) <= rstd * Length(g) + Length(allowed) * kUnit) << n << " " << eps;
    }
  }
}

TEST(TheoryGradient, OfLayerNormIsOrthogonalToOnesToo) {
  for (const size_t n : kWidths) {
    const Row x = NormalRow(n, n), dy = NormalRow(n, n + 1), dx = Gradient(isonorm::contracts::layer_norm, 0, x, dy);
    Problem problem = OneRow(x, dy, 0);
    problem.contract = ISONORM_CONTRACT_LAYER_NORM;
    const Values allowed = Allowed(problem);
    EXPECT_TRUE(std::fabs(Dot(Row(n, 1), dx)) <= AllowedAlong(Row(n, 1), allowed)) << n;
    EXPECT_TRUE(std::fabs(Dot(x, dx)) <= AllowedAlong(x, allowed)) << n;
  }
}

TEST(TheoryGradient, IsInverselyProportionalToTheScale) {
  for (const size_t n : kWidths) {
    const Row x = NormalRow(n, n), dy = NormalRow(n, n + 1), once = Gradient(isonorm::contracts::torch, 0, x, dy);
    for (const int k : {1, -1, 40, -40, 300, -300, 600, -500}) {  // the last two pass through the scaled path
      const Row dx = Gradient(isonorm::contracts::torch, 0, Scaled(x, std::ldexp(1.0, k)), dy);
      EXPECT_EQ(dx, Scaled(once, std::ldexp(1.0, -k))) << n << " " << k;
    }
  }
}

// Entry (i, j) is r (delta_ij - c_i c_j / n). With n a power of two c_j / n is exact, and one rounded product is left, the same
// for (i, j) and (j, i).
TEST(TheoryGradient, TheJacobianIsSymmetric) {
  for (const size_t n : {2, 8, 64}) {
    const Row x = NormalRow(n, n);
    std::vector<Row> jacobian;
    for (size_t i = 0; i < n; ++i) {
      Row one(n);
      one[i] = 1;
      jacobian.push_back(Gradient(isonorm::contracts::torch, 1e-6, x, one));
    }
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) EXPECT_EQ(jacobian[i][j], jacobian[j][i]) << n;
    }
  }
}

// h = W a goes into a norm: the step along -dW is orthogonal to W, so W grows by Pythagoras; and gradients of 2^k W are 2^-k as
// long, so steps with 4^k times the rate give 2^k times the same weights for ever.
TEST(TheoryGradient, AMatrixBeforeANormHasAnEffectiveRate) {
  constexpr size_t kRows = 16, kCols = 24;
  const auto train = [](double scale, double rate) {
    Row w = Scaled(NormalRow(kRows * kCols, 1), scale);
    for (uint64_t step = 0; step < 20; ++step) {
      const Row a = NormalRow(kCols, 2 * step + 10), dy = NormalRow(kRows, 2 * step + 11);
      Row h(kRows), move(w.size()), sum = w;
      for (size_t i = 0; i < w.size(); ++i) h[i / kCols] += w[i] * a[i % kCols];
      const Row dh = Gradient(isonorm::contracts::torch, 0, h, dy);
      long double terms = 0;
      for (size_t i = 0; i < w.size(); ++i) {
        move[i] = -rate * (dh[i / kCols] * a[i % kCols]);
        sum[i] += move[i];
        terms += std::fabs(w[i] * move[i]);
      }
      // dh is orthogonal to the h it was given; that h has up to kCols + 1 roundings of its terms, and move one or two.
      const long double bound = rate * AllowedAlong(h, Allowed(OneRow(h, dy, 0))) + (kCols + 3) * terms * kUnit;
      EXPECT_TRUE(std::fabs(Dot(w, move)) <= bound) << step;
      const long double grown = Dot(w, w) + Dot(move, move);
      EXPECT_TRUE(std::fabs(Dot(sum, sum) - grown) <= 2 * bound + 3 * grown * kUnit) << step;
      EXPECT_GT(Length(sum), Length(w));
      w = sum;
    }
    return w;
  };
  const Row once = train(1, 0.5);
  for (const int k : {1, 3, -2}) EXPECT_EQ(train(std::ldexp(1.0, k), std::ldexp(0.5, 2 * k)), Scaled(once, std::ldexp(1.0, k)));
}

// With v = dx, c = r x and a = mean(dy c), the second derivative along d is
//   -(r / n) ((c.d) v + c (v.d)) - r^2 a (d - c (c.d) / n)
// against differences of dx. Their truncation is a third of what steps h and 2h differ by. Their noise is what dx may be off,
// and once more for the rounding of x + h d, which moves dx by five times its terms at most; both over h, and half of that for
// 2h: 2 (1 + 1/3 + 1/6).
TEST(TheoryGradient, SecondDerivative) {
  const double h = 0x1p-17;
  for (const size_t n : kWidths) {
    for (const double eps : {0.0, 0.5}) {
      const Row x = NormalRow(n, n), dy = NormalRow(n, n + 1), d = NormalRow(n, n + 2);
      const auto at = [&](double step) {
        Row moved = x;
        for (size_t i = 0; i < n; ++i) moved[i] += step * d[i];
        return Gradient(isonorm::contracts::torch, eps, moved, dy);
      };
      const Row up = at(h), down = at(-h), far_up = at(2 * h), far_down = at(-2 * h), v = at(0);
      const Values allowed = Allowed(OneRow(x, dy, eps));
      const auto width = static_cast<long double>(n);
      const long double r = 1 / std::sqrt(Dot(x, x) / width + eps), a = r * Dot(dy, x) / width, cd = r * Dot(x, d),
                        vd = Dot(v, d);
      for (size_t i = 0; i < n; ++i) {
        const long double c = r * x[i], want = -r / width * (cd * v[i] + c * vd) - r * r * a * (d[i] - c * cd / width);
        const long double near = (static_cast<long double>(up[i]) - down[i]) / (2 * h);
        const long double far = (static_cast<long double>(far_up[i]) - far_down[i]) / (4 * h);
        const long double doubt = std::fabs(far - near) + 3 * allowed[i] * kUnit / h;
        ASSERT_TRUE(std::fabs(near - want) <= doubt) << n << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace isonorm_test
