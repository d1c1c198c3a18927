// Rotated heads against mathematics: complex numbers, derivatives, and what models compute.
#include <gtest/gtest.h>

#include "accuracy/bounds.h"
#include "accuracy/central_difference.h"
#include "accuracy/metrics.h"
#include "accuracy/variants.h"

namespace isonorm_test {
namespace {

constexpr int32_t kStyles[] = {ISONORM_ROPE_HALF, ISONORM_ROPE_INTERLEAVED};

// The tables of models, base 10000, from a position where angles are large.
void AddRotation(Problem* problem, int64_t half, int32_t style, Type table) {
  problem->style = style;
  problem->first_position = 3;
  const int64_t positions = problem->rows() + 5;
  const auto angle = [half](int64_t i) {
    const auto pair = static_cast<long double>(i % half);
    return static_cast<long double>(i / half + 100) * std::pow(10000.0L, -pair / static_cast<long double>(half));
  };
  problem->cos = Tensor(table, {positions, half}).Fill([&](int64_t i) { return std::cos(angle(i)); });
  problem->sin = Tensor(table, {positions, half}).Fill([&](int64_t i) { return std::sin(angle(i)); });
}

bool MayRotate(const Variant& variant) { return variant.contract.gate_place != ISONORM_GATE_AFTER; }

std::string Judge(const Problem& problem, const Outputs& forward, const Outputs& backward) {
  if (!forward.error.empty() || !backward.error.empty()) return forward.error + backward.error;
  const Answer answer = Solve(problem);
  const Bounds bounds = BoundsOf(problem);
  std::string wrong;
  const auto check = [&](const char* name, const Tensor& got, const Values& want, const Values& terms, double bound) {
    if (!got.present()) return;
    const long double worst = TermErrors(got, want, terms).worst();
    if (!(worst <= bound))
      wrong += std::string(name) + " is " + std::to_string(worst) + " off, bound " + std::to_string(bound) + "; ";
  };
  check("y", forward.y, answer.y, answer.y_terms, bounds.y);
  check("dx", backward.dx, answer.dx, answer.dx_terms, bounds.dx);
  check("dweight", backward.dweight, answer.dweight, answer.dweight_terms, bounds.dweight);
  check("dbias", backward.dbias, answer.dbias, answer.dbias_terms, bounds.dbias);
  check("dgate", backward.dgate, answer.dgate, answer.dgate_terms, bounds.dgate);
  return wrong;
}

TEST(Rope, EveryVariantIsWithinItsBound) {
  for (const Variant& variant : Variants()) {
    if (!MayRotate(variant)) continue;
    for (const Type type : {Type::kF32, Type::kF64, Type::kBf16, Type::kF16}) {
      if (HasGate(variant) && type == Type::kF64) continue;
      for (const int64_t cols : {int64_t{12}, int64_t{96}, int64_t{120}, int64_t{384}}) {
        for (const int32_t style : kStyles) {
          for (const Type table : {Type::kF32, type}) {
            Problem problem = MakeVariant(variant, type, 11, cols);
            problem.contract.rotation_rounding = ISONORM_ROUND_NONE;
            const int64_t head = problem.group_cols();
            AddRotation(&problem, cols == 96 ? (head / 4 == 0 ? 1 : head / 4) : head / 2, style, table);
            EXPECT_EQ(Judge(problem, RunForward(problem, type), RunBackward(problem)), "")
                << variant.name << " " << FormatOf(type).name << " " << cols << " style " << style;
          }
        }
      }
    }
  }
}

TEST(Rope, GradientsAreTheDerivatives) {
  for (const Variant& variant : Variants()) {
    if (HasGate(variant)) continue;  // no f64
    for (const int32_t style : kStyles) {
      Problem problem = MakeVariant(variant, Type::kF64, 2, 24);
      AddRotation(&problem, problem.group_cols() / 2 - (problem.groups == 1 ? 3 : 0), style, Type::kF64);
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

// A wrong sign, or the pairs of the other style, must not pass.
TEST(Rope, AWrongRotationWouldBeSeen) {
  Problem problem = MakeVariant(Variants().front(), Type::kF32, 9, 96);
  problem.contract.rotation_rounding = ISONORM_ROUND_NONE;
  AddRotation(&problem, 48, ISONORM_ROPE_HALF, Type::kF32);
  const Outputs forward = RunForward(problem, Type::kF32), backward = RunBackward(problem);
  ASSERT_EQ(Judge(problem, forward, backward), "");
  Problem other = problem;
  other.style = ISONORM_ROPE_INTERLEAVED;
  EXPECT_NE(Judge(problem, RunForward(other, Type::kF32), backward), "") << "style";
  EXPECT_NE(Judge(problem, forward, RunBackward(other)), "") << "style backward";
  other = problem;
  for (int64_t i = 0; i < other.sin.size(); ++i) other.sin.Set(i, -other.sin[i]);
  EXPECT_NE(Judge(problem, RunForward(other, Type::kF32), backward), "") << "sign";
  EXPECT_NE(Judge(problem, forward, RunBackward(other)), "") << "sign backward";
  other = problem;
  ++other.first_position;
  EXPECT_NE(Judge(problem, RunForward(other, Type::kF32), backward), "") << "position";
  EXPECT_NE(Judge(problem, forward, RunBackward(other)), "") << "position backward";
}

// Hugging Face: q_embed = q * cos + rotate_half(q) * sin, each operation in f32, with tables of [cos, cos] and [sin, sin].
// Theirs rounds both products and the sum, ours the first product and the sum: at most 2 |a c| + |b s| + 2 |y| units of 2^-24
// apart.
TEST(Rope, AsHuggingFaceComputesIt) {
  for (const int64_t dim : {int64_t{64}, int64_t{80}, int64_t{128}, int64_t{256}}) {
    Problem problem = MakeProblem(ISONORM_CONTRACT_LLAMA, "plain", Type::kF32, Type::kF32, 40, dim);
    const Outputs norm = RunForward(problem, Type::kF32);
    AddRotation(&problem, dim / 2, ISONORM_ROPE_HALF, Type::kF32);
    const Outputs out = RunForward(problem, Type::kF32);
    ASSERT_EQ(norm.error + out.error, "");
    for (int64_t row = 0; row < 40; ++row) {
      for (int64_t j = 0; j < dim; ++j) {
        const int64_t half = dim / 2, at = (problem.first_position + row) * half + j % half;
        const auto q = static_cast<float>(norm.y[row * dim + j]);
        const auto turned = static_cast<float>(j < half ? -norm.y[row * dim + j + half] : norm.y[row * dim + j - half]);
        const auto cos = static_cast<float>(problem.cos[at]), sin = static_cast<float>(problem.sin[at]);
        const float first = q * cos, second = turned * sin, expected = first + second;
        const long double y = out.y[row * dim + j];
        const long double bound = 0x1p-24L * 1.01L * (2 * std::fabs(q * cos) + std::fabs(turned * sin) + 2 * std::fabs(y));
        ASSERT_TRUE(std::fabs(y - static_cast<long double>(expected)) <= bound) << dim << " row " << row << " column " << j;
      }
    }
  }
}

// Lengths and inner products. In units of u = 2^-53: a table's rounded cosine and sine have a length of 1 within 1 unit, and
// each value of a pair is within 2 (|a c| + |b s|) <= 2.83 units of the pair's length, both of them within 4: 5 together.
TEST(Rope, LengthsStayAndBackwardIsTheTranspose) {
  constexpr long double kUnit = 0x1p-53L;
  for (const int32_t style : kStyles) {
    for (const int64_t dim : {int64_t{2}, int64_t{10}, int64_t{64}, int64_t{96}, int64_t{512}}) {
      Problem problem = MakeVariant(Variants().front(), Type::kF64, 1, dim);
      problem.bias = MakePlain(Type::kF64, {dim}, 5);
      const Outputs norm = RunForward(problem, Type::kF64);
      AddRotation(&problem, dim / 2, style, Type::kF64);
      const Outputs out = RunForward(problem, Type::kF64), back = RunBackward(problem);  // of one row, dbias is dy turned back
      ASSERT_EQ(norm.error + out.error + back.error, "");
      Problem again = problem;
      again.dy = out.y;
      const Outputs returned = RunBackward(again);
      Sum before, after, forward_product, backward_product, sizes;
      for (int64_t i = 0; i < dim; ++i) {
        const int64_t half = dim / 2, other = style == ISONORM_ROPE_HALF ? (i + half) % dim : i ^ 1;
        const long double length = std::hypot(norm.y[i], norm.y[other]);
        before.Add(norm.y[i] * norm.y[i]);
        after.Add(out.y[i] * out.y[i]);
        forward_product.Add(out.y[i] * problem.dy[i]);
        backward_product.Add(norm.y[i] * back.dbias[i]);
        sizes.Add(length * std::fabs(problem.dy[i]) + std::fabs(norm.y[i]) * std::hypot(problem.dy[i], problem.dy[other]));
        EXPECT_TRUE(std::fabs(returned.dbias[i] - norm.y[i]) <= 10 * kUnit * length) << dim << " column " << i;
      }
      EXPECT_TRUE(std::fabs(after.value() / before.value() - 1) <= 10 * kUnit) << dim;
      EXPECT_TRUE(std::fabs(forward_product.value() - backward_product.value()) <= 2.83L * kUnit * sizes.value()) << dim;
    }
  }
}

}  // namespace
}  // namespace isonorm_test
