// Gradients that went wrong for users of other libraries, with the numbers of their reports.
#include <gtest/gtest.h>

#include "accuracy/bounds.h"
#include "accuracy/metrics.h"
#include "accuracy/pitfalls.h"

namespace isonorm_test {
namespace {

TEST(PitfallsBackward, TheWeightEntersOnce) {  // c2: a weight with a 0; applied twice it gives 0.6573, -0.2191, 0, 0.0365
  for (const Type type : {Type::kF32, Type::kF64}) {
    Problem problem;
    problem.eps = 1e-5;
    problem.x = Tensor::Of(type, {1, 2, 3, 4});
    problem.weight = Tensor::Of(type, {2, 0.5L, 0, 1});
    problem.dy = Tensor::Of(type, {1, -1, 2, 0.5L});
    const Outputs out = RunBackward(problem);
    ASSERT_EQ(out.error, "");
    const Values dx = {0.6937814923L, -0.2556035924L, -0.1095442924L, 0.0365150076L};
    const Values dweight = {0.3651481282L, -0.7302962565L, 2.1908887694L, 0.7302962565L};
    const Answer answer = Solve(problem);
    const Bounds bounds = BoundsOf(problem);
    const long double digits = 0.5e-10L, unit = type == Type::kF64 ? 0x1p-53L : 0x1p-24L;  // ten digits were printed
    for (int64_t i = 0; i < 4; ++i) {
      const auto at = static_cast<size_t>(i);
      EXPECT_TRUE(std::fabs(out.dx[i] - dx[at]) <= digits + bounds.dx * unit * answer.dx_terms[at]) << i;
      EXPECT_TRUE(std::fabs(out.dweight[i] - dweight[at]) <= digits + bounds.dweight * unit * answer.dweight_terms[at]) << i;
    }
  }
}

TEST(PitfallsBackward, DresidualIsAddedAsItIs) {  // multiplied by the norm's derivative elsewhere
  Problem problem = MakeProblem(ISONORM_CONTRACT_TORCH, "plain", Type::kF32, Type::kF32, 3, 50);
  problem.dy = Tensor(Type::kF32, {3, 50});
  problem.dresidual = MakePlain(Type::kF32, {3, 50}, 8);
  const Outputs out = RunBackward(problem);
  ASSERT_EQ(out.error, "");
  EXPECT_EQ(out.dx.bytes(), problem.dresidual.bytes()) << "without dy, dx is dresidual";
}

TEST(PitfallsBackward, CancellationInPlace) {  // c3: x = dy = [1, 0, 0, 0]
  Problem problem;
  problem.eps = 1e-4;
  problem.x = problem.dy = Tensor::Of(Type::kF64, {1, 0, 0, 0});
  const Outputs wide = RunBackward(problem);
  EXPECT_TRUE(std::fabs(wide.dx[0] - 7.99520e-4L) <= 0.5e-9L);
  problem.x = problem.dy = Tensor::Of(Type::kF32, {1, 0, 0, 0});
  const Outputs narrow = RunBackward(problem);
  EXPECT_TRUE(std::fabs(narrow.dx[0] / 7.99520e-4L - 1) <= 1e-3L) << "two numbers near 2 cancel to 4e-4";
  for (int i = 1; i < 4; ++i) EXPECT_EQ(narrow.dx[i], 0) << i;
  // The same call with dx over dy, as it was reported.
  isonorm_backward_args args{};
  args.struct_size = sizeof(args);
  args.x = problem.x.abi();
  args.dy = args.dx = problem.dy.abi();
  ASSERT_EQ(isonorm_backward(&problem.contract, problem.eps, &args), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(problem.dy.bytes(), narrow.dx.bytes());
}

TEST(PitfallsBackward, DweightIsSummedInF32) {  // c5: a bf16 sum of ones stalls at 256
  Problem problem;
  problem.eps = 0;
  problem.x = problem.dy = Tensor(Type::kBf16, {4096, 8}).Fill([](int64_t) { return 1; });
  problem.weight = Tensor(Type::kBf16, {8}).Fill([](int64_t) { return 1; });
  const Outputs out = RunBackward(problem);
  ASSERT_EQ(out.error, "");
  for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(out.dweight[i], 4096);
  for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(out.dbias[i], 4096);
}

TEST(PitfallsBackward, DweightOfManyRows) {  // c5: relative error below 1e-5 of the terms' size over 65536 rows
  Problem problem;
  problem.x = MakePlain(Type::kBf16, {65536, 4}, 1);
  problem.dy = MakePlain(Type::kBf16, {65536, 4}, 2);
  problem.weight = Tensor(Type::kF32, {4}).Fill([](int64_t) { return 1; });
  const Outputs out = RunBackward(problem);
  ASSERT_EQ(out.error, "");
  const Answer answer = Solve(problem);
  for (int64_t i = 0; i < 4; ++i) {
    const auto at = static_cast<size_t>(i);
    EXPECT_TRUE(std::fabs(out.dweight[i] - answer.dweight[at]) <= 1e-5L * std::fabs(answer.dweight[at])) << i;
  }
}

TEST(PitfallsBackward, EveryRowReachesDweight) {  // c6: dy is one-hot in rows, at every edge of a block
  for (const int64_t cols : {1, 2, 16, 128, 2047}) {
    for (const int64_t rows : {1, 2, 63, 64, 65, 1023, 1025, 57345, 65535, 65537, 100000}) {
      if (rows * cols > 200000) continue;
      Problem problem;
      problem.x = MakePlain(Type::kF32, {rows, cols}, static_cast<uint64_t>(rows));
      problem.weight = Tensor(Type::kF32, {cols}).Fill([](int64_t) { return 1; });
      problem.dy = Tensor(Type::kF32, {rows, cols});
      const Outputs forward = RunForward(problem, Type::kF32);  // weight 1: y is c
      for (const int64_t row : {int64_t{0}, int64_t{31}, int64_t{32}, rows / 2, rows - 2, rows - 1}) {
        if (row < 0 || row >= rows) continue;
        for (int64_t j = 0; j < cols; ++j) problem.dy.Set(row * cols + j, 1);
        const Outputs out = RunBackward(problem);
        ASSERT_EQ(out.error, "");
        for (int64_t j = 0; j < cols; ++j) ASSERT_EQ(out.dweight[j], forward.y[row * cols + j]) << rows << " rows, row " << row;
        for (int64_t j = 0; j < cols; ++j) problem.dy.Set(row * cols + j, 0);
      }
    }
  }
}

TEST(PitfallsBackward, AWeightOfZeroIsNoDivision) {  // c7: gradients taken from y / weight are NaN
  for (const int zeros : {1, 2, 5120}) {
    Problem problem = MakeProblem(ISONORM_CONTRACT_TORCH, "plain", Type::kBf16, Type::kBf16, 3, 5120);
    for (int i = 0; i < zeros; ++i) problem.weight.Set(i * 7 % 5120, 0);
    problem.dy = MakePlain(Type::kBf16, {3, 5120}, 6);
    const Outputs out = RunBackward(problem);
    ASSERT_EQ(out.error, "");
    const Answer answer = Solve(problem);
    EXPECT_TRUE(TermErrors(out.dweight, answer.dweight, answer.dweight_terms).worst() <= BoundsOf(problem).dweight) << zeros;
    for (int64_t i = 0; i < out.dx.size(); ++i) ASSERT_TRUE(std::isfinite(out.dx[i])) << i;
    if (zeros == 5120) {
      for (int64_t i = 0; i < out.dx.size(); ++i) ASSERT_EQ(out.dx[i], 0) << i;
    }
  }
}

TEST(PitfallsBackward, RowsOfZeros) {  // c9: garbage that changed from call to call; the workspace is full of NaN here
  Problem problem;
  problem.eps = 1e-5;
  problem.x = Tensor(Type::kF32, {4});
  problem.weight = Tensor::Of(Type::kF32, {2, 3, 4, 5});
  problem.dy = Tensor::Of(Type::kF32, {-1, -1, -1, -1});
  for (int call = 0; call < 10; ++call) {
    const Outputs out = RunBackward(problem);
    ASSERT_EQ(out.error, "");
    for (int64_t i = 0; i < 4; ++i) {
      EXPECT_EQ(out.dweight[i], 0);
      const long double want = problem.weight[i] * problem.dy[i] / std::sqrt(1e-5L);
      EXPECT_TRUE(UlpError(Type::kF32, out.dx[i], want) <= 2) << i;
    }
  }
}

// c8: sum().backward() gives a dy of strides (0, 0), sum over rows one of (0, 1), sum over columns one of (1, 0).
TEST(PitfallsBackward, ExpandedDy) {
  for (const std::pair<int64_t, int64_t> by : {std::pair{0, 0}, std::pair{0, 1}, std::pair{1, 0}}) {
    Problem problem = MakeProblem(ISONORM_CONTRACT_TORCH, "plain", Type::kF32, Type::kF32, 5, 96);
    const Tensor few = MakePlain(Type::kF32, {96}, 2);
    problem.dy = Tensor(Type::kF32, {5, 96}).Fill([&](int64_t i) { return few[i / 96 * by.first + i % 96 * by.second]; });
    const Outputs dense = RunBackward(problem);
    Tensor dx(Type::kF32, {5, 96}), memory = few;
    isonorm_tensor expanded = *problem.dy.abi();
    int64_t strides[] = {by.first, by.second};
    expanded.strides = strides;
    expanded.data = memory.abi()->data;
    isonorm_backward_args args{};
    args.struct_size = sizeof(args);
    args.x = problem.x.abi();
    args.weight = problem.weight.abi();
    args.dy = &expanded;
    args.dx = dx.abi();
    ASSERT_EQ(isonorm_backward(&problem.contract, problem.eps, &args), ISONORM_OK) << isonorm_last_error();
    EXPECT_EQ(dx.bytes(), dense.dx.bytes()) << by.first << " " << by.second;
  }
}

}  // namespace
}  // namespace isonorm_test
