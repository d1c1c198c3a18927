// LayerNorm's mean and rstd: what forward gives, and backward with those of another library, which come without an eps.
#include <gtest/gtest.h>

#include "accuracy/bounds.h"
#include "accuracy/layer_norm_data.h"

namespace isonorm_test {
namespace {

struct Statistics {
  Values mean, rstd;
};

// By formula, with the problem's eps; no groups.
Statistics Exact(const Problem& problem) {
  const int64_t cols = problem.cols();
  Statistics exact;
  for (int64_t row = 0; row < problem.rows(); ++row) {
    Sum sum, squares;
    for (int64_t j = 0; j < cols; ++j) sum.Add(problem.x[row * cols + j]);
    const long double mean = sum.value() / static_cast<long double>(cols);
    for (int64_t j = 0; j < cols; ++j) {
      const long double d = problem.x[row * cols + j] - mean;
      squares.Add(d * d);
    }
    exact.mean.push_back(mean);
    exact.rstd.push_back(1 / std::sqrt(squares.value() / static_cast<long double>(cols) + problem.eps));
  }
  return exact;
}

Problem WithGradient(Problem problem) {
  problem.weight = MakePlain(Type::kF32, {problem.cols()}, 1);
  problem.dy = MakePlain(Type::kF32, problem.x.shape(), 2);
  return problem;
}

// "" if dx and dweight are within the bounds of a backward that has the right eps.
std::string Judge(const Problem& problem, const Outputs& out) {
  if (!out.error.empty()) return out.error;
  const Answer answer = Solve(problem);
  const Bounds bounds = BoundsOf(problem);
  const long double dx = TermErrors(out.dx, answer.dx, answer.dx_terms).worst();
  const long double dweight = TermErrors(out.dweight, answer.dweight, answer.dweight_terms).worst();
  if (dx <= bounds.dx && dweight <= bounds.dweight) return "";
  return "dx is " + std::to_string(dx) + " off, dweight " + std::to_string(dweight);
}

TEST(SavedStatistics, ForwardGivesTheMean) {
  for (const double ratio : {0.0, 1.0, -1e3, 9e4}) {
    for (const int64_t cols : {int64_t{1}, int64_t{8}, int64_t{384}, int64_t{1000}, int64_t{8192}}) {
      Problem problem = MakeFar(ratio, cols, Type::kF32);
      const Outputs out = RunForward(problem, Type::kF32);
      ASSERT_EQ(out.error, "");
      const Statistics exact = Exact(problem);
      for (int64_t row = 0; row < problem.rows(); ++row) {
        Sum magnitudes;
        for (int64_t j = 0; j < cols; ++j) magnitudes.Add(std::fabs(problem.x[row * cols + j]));
        // 8 additions in a lane, 6 of the lane tree, 4 of the leaves, the division, each half an ulp at most.
        const long double bound = 19 * 0x1p-24L * magnitudes.value() / static_cast<long double>(cols);
        EXPECT_TRUE(std::fabs(out.mean[row] - exact.mean[static_cast<size_t>(row)]) <= bound) << ratio << " " << cols;
      }
    }
  }
}

TEST(SavedStatistics, OfExtremeRows) {
  for (const float value : {std::numeric_limits<float>::max(), -3e38f, 1e-40f, 0x1p-149f, 0.0f}) {
    for (const int64_t cols : {int64_t{1}, int64_t{7}, int64_t{768}}) {
      Problem problem = MakeFar(0, cols, Type::kF32);
      problem.x.Fill([value](int64_t) { return value; });
      const Outputs out = RunForward(problem, Type::kF32);
      ASSERT_EQ(out.error, "");
      for (int64_t row = 0; row < problem.rows(); ++row) EXPECT_EQ(out.mean[row], value) << cols;
    }
  }
}

// As torch's backward gets them: mean and rstd, rounded to f32 or to x's type, and no eps.
TEST(SavedStatistics, BackwardNeedsNoEps) {
  for (const double ratio : {0.0, 1.0, 100.0, -3e3, 5e4}) {
    for (const int64_t cols : {int64_t{8}, int64_t{96}, int64_t{768}, int64_t{4104}}) {
      Problem problem = WithGradient(MakeFar(ratio, cols, Type::kF32));
      problem.eps = 1e-5;
      const Statistics exact = Exact(problem);
      const auto tensor = [&](Type type, const Values& values) {
        return Tensor(type, {problem.rows(), 1}).Fill([&](int64_t i) { return values[static_cast<size_t>(i)]; });
      };
      Tensor rstd = tensor(Type::kF32, exact.rstd);
      for (const Type type : {Type::kF32, Type::kBf16, Type::kF16}) {
        if (type != Type::kF32 && std::fabs(ratio) > 1e4) continue;  // 16 bits lose a hundred deviations there
        Tensor mean = tensor(type, exact.mean);
        Problem without = problem;
        without.eps = 0;
        EXPECT_EQ(Judge(problem, RunBackward(without, &rstd, &mean)), "") << ratio << " " << cols << " " << FormatOf(type).name;
      }
    }
  }
}

// A mean of equal values that was rounded to 8 bits leaves no trace, and the root of eps is in rstd.
TEST(SavedStatistics, ConstantRows) {
  for (const double value : {1.0, -3.5, 0.1, 1e4, 1e20}) {
    for (const int64_t cols : {int64_t{1}, int64_t{64}, int64_t{768}}) {
      Problem problem = WithGradient(MakeFar(0, cols, Type::kBf16));
      problem.eps = 1e-5;
      problem.x.Fill([value](int64_t) { return value; });
      Tensor mean = Tensor(Type::kBf16, {problem.rows(), 1}).Fill([&](int64_t) { return value * (1 + 0x1p-7); });
      Tensor rstd = RunForward(problem, Type::kF32).rstd;
      Problem without = problem;
      without.eps = 0;
      const Outputs saved = RunBackward(without, &rstd, &mean), computed = RunBackward(problem);
      ASSERT_EQ(saved.error + computed.error, "");
      EXPECT_EQ(saved.dx.bytes(), computed.dx.bytes()) << value << " " << cols;
      for (int64_t j = 0; j < cols; ++j) EXPECT_EQ(saved.dweight[j], 0) << value << " " << cols;
    }
  }
}

}  // namespace
}  // namespace isonorm_test
