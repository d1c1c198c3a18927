// Laws that hold bit for bit, whatever the numbers are.
#include <gtest/gtest.h>

#include "accuracy/metrics.h"
#include "accuracy/rms_calls.h"
#include "accuracy/variants.h"

namespace isonorm_test {
namespace {

constexpr Type kTypes[] = {Type::kF32, Type::kBf16, Type::kF16, Type::kF64};

TEST(Properties, ThreeAndFour) {
  Problem problem;
  problem.eps = 0;
  problem.x = Tensor::Of(Type::kF32, {3, 4});
  const Outputs out = RunForward(problem, Type::kF32);
  EXPECT_EQ(out.y[0], RoundTo(Type::kF32, 0.848528137423857029281L));  // 3 / sqrt(12.5)
  EXPECT_EQ(out.y[1], RoundTo(Type::kF32, 1.13137084989847603904L));   // 4 / sqrt(12.5)
}

TEST(Properties, RmsIsHomogeneous) {  // RMS(2x) = 2 RMS(x), for powers of two exactly
  for (const Type type : kTypes) {
    for (const int64_t cols : {1, 5, 64, 777, 4096}) {
      RmsCall once(MakeX("outliers", type, 4, cols, 1)), scaled(once.x);
      for (const long double factor : {2.0L, 0.5L, -4.0L}) {
        scaled.x.Fill([&](int64_t i) { return factor * once.x[i]; });
        ASSERT_EQ(once.Rms() + scaled.Rms(), "");
        for (int64_t row = 0; row < 4; ++row) EXPECT_EQ(scaled.rms[row], std::fabs(factor) * once.rms[row]) << cols;
      }
    }
  }
}

TEST(Properties, TheNormForgetsTheScale) {  // with eps 0, y(2^k x) = y(x), across the scaled path too
  Problem problem = MakeProblem(ISONORM_CONTRACT_TORCH, "plain", Type::kF32, Type::kF32, 3, 500);
  problem.eps = 0;
  const Outputs once = RunForward(problem, Type::kF32);
  const Tensor x = problem.x;
  for (const int exponent : {1, -1, 20, -20, 60, -60, 120, -100}) {
    problem.x.Fill([&](int64_t i) { return std::ldexp(x[i], exponent); });
    EXPECT_EQ(RunForward(problem, Type::kF32).y.bytes(), once.y.bytes()) << exponent;
  }
}

TEST(Properties, NoWeightIsAWeightOfOnes) {
  for (const char* name : {"torch", "llama", "onnx", "t5", "paper", "layer_norm"}) {
    for (const Type type : kTypes) {
      Problem problem = MakeProblem(ISONORM_CONTRACT_TORCH, "plain", type, type, 5, 300);
      ASSERT_EQ(isonorm_contract_by_name(name, &problem.contract, sizeof(problem.contract)), ISONORM_OK);
      problem.dy = MakePlain(type, {5, 300}, 4);
      problem.weight.Fill([](int64_t) { return 1; });
      const Outputs ones = RunForward(problem, type), ones_back = RunBackward(problem);
      problem.weight = Tensor();
      const Outputs none = RunForward(problem, type), none_back = RunBackward(problem);
      ASSERT_EQ(ones.error + none.error + ones_back.error + none_back.error, "");
      EXPECT_EQ(ones.y.bytes(), none.y.bytes()) << name << " " << FormatOf(type).name;
      EXPECT_EQ(ones_back.dx.bytes(), none_back.dx.bytes()) << name << " " << FormatOf(type).name;
    }
  }
}

TEST(Properties, OffsetOneIsAWeightPlusOne) {  // in f32, where w + 1 is rounded the same way by both
  Problem problem = MakeProblem(ISONORM_CONTRACT_GEMMA, "plain", Type::kF32, Type::kF32, 5, 300);
  problem.dy = MakePlain(Type::kF32, {5, 300}, 4);
  const Outputs offset = RunForward(problem, Type::kF32), offset_back = RunBackward(problem);
  const Tensor weight = problem.weight;
  problem.contract = ISONORM_CONTRACT_TORCH;
  EXPECT_NE(RunForward(problem, Type::kF32).y.bytes(), offset.y.bytes()) << "the offset counts";
  EXPECT_NE(RunBackward(problem).dx.bytes(), offset_back.dx.bytes()) << "in the gradient too";
  problem.weight.Fill([&](int64_t i) { return weight[i] + 1; });
  EXPECT_EQ(RunForward(problem, Type::kF32).y.bytes(), offset.y.bytes());
  EXPECT_EQ(RunBackward(problem).dx.bytes(), offset_back.dx.bytes());
}

TEST(Properties, EpsInsideAndOutside) {
  Problem problem;
  problem.eps = 1;
  problem.x = Tensor::Of(Type::kF32, {2, 2});
  EXPECT_EQ(RunForward(problem, Type::kF32).y[0], RoundTo(Type::kF32, 2 * RoundTo(Type::kF32, 1 / std::sqrt(5.0L))));
  problem.contract = ISONORM_CONTRACT_PAPER;
  EXPECT_EQ(RunForward(problem, Type::kF32).y[0], RoundTo(Type::kF32, 2 * RoundTo(Type::kF32, 1 / 3.0L)));
  problem.eps = 0;  // without eps the two agree up to the two roundings of 1 / sqrt
  const Tensor outside = RunForward(problem, Type::kF32).y;
  problem.contract = ISONORM_CONTRACT_TORCH;
  EXPECT_EQ(outside[0], 1);
  EXPECT_EQ(RunForward(problem, Type::kF32).y[0], 1);
}

TEST(Properties, ARowDoesNotSeeItsNeighbours) {
  for (const Variant& variant : Variants()) {
    Problem batch = MakeVariant(variant, Type::kBf16, 67, 96);
    const Outputs all = RunForward(batch, Type::kBf16), all_back = RunBackward(batch);
    ASSERT_EQ(all.error + all_back.error, "");
    for (const int64_t row : {int64_t{0}, int64_t{1}, int64_t{33}, int64_t{66}}) {
      Problem alone = batch;
      for (Tensor Problem::*const tensor : {&Problem::x, &Problem::gate, &Problem::dy, &Problem::dresidual}) {
        if ((batch.*tensor).present())
          alone.*tensor = Tensor(Type::kBf16, {1, 96}).Fill([&](int64_t i) { return (batch.*tensor)[row * 96 + i]; });
      }
      const Outputs one = RunForward(alone, Type::kBf16), one_back = RunBackward(alone);
      for (int64_t i = 0; i < 96; ++i) {
        ASSERT_EQ(one.y[i], all.y[row * 96 + i]) << variant.name << " row " << row;
        ASSERT_EQ(one_back.dx[i], all_back.dx[row * 96 + i]) << variant.name << " row " << row;
      }
    }
  }
}

TEST(Properties, AFusedResidualIsAddThenNorm) {  // d2: `stored`
  Problem fused = MakeProblem(ISONORM_CONTRACT_TORCH, "plain", Type::kBf16, Type::kBf16, 6, 200);
  fused.residual = MakePlain(Type::kBf16, {6, 200}, 3);
  const Outputs both = RunForward(fused, Type::kBf16);
  Problem second = fused;
  second.x = both.residual_out;
  second.residual = Tensor();
  EXPECT_EQ(RunForward(second, Type::kBf16).y.bytes(), both.y.bytes());
}

TEST(Properties, AskingForRstdChangesNothing) {  // d3: training and inference give the same bits
  Problem problem = MakeProblem(ISONORM_CONTRACT_LLAMA, "outliers", Type::kBf16, Type::kBf16, 6, 4096);
  const Outputs training = RunForward(problem, Type::kBf16);
  Tensor y(Type::kBf16, {6, 4096});
  isonorm_forward_args args{};
  args.struct_size = sizeof(args);
  args.x = problem.x.abi();
  args.weight = problem.weight.abi();
  args.y = y.abi();
  ASSERT_EQ(isonorm_forward(&problem.contract, problem.eps, &args), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(y.bytes(), training.y.bytes());
}

TEST(Properties, InputsAreNotTouched) {  // c4
  for (const Variant& variant : Variants()) {
    Problem problem = MakeVariant(variant, Type::kF32, 4, 96);
    Problem before = problem;
    ASSERT_EQ(RunForward(problem, Type::kF32).error + RunBackward(problem).error, "");
    for (Tensor Problem::*const tensor :
         {&Problem::x, &Problem::weight, &Problem::bias, &Problem::gate, &Problem::dy, &Problem::dresidual}) {
      EXPECT_EQ((problem.*tensor).bytes(), (before.*tensor).bytes()) << variant.name;
    }
  }
}

}  // namespace
}  // namespace isonorm_test
