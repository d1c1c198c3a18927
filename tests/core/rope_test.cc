// Rotation behind a norm: against one written apart, from packed projections in place, by every way to say positions, and q and
// k in one call.
#include <gtest/gtest.h>

#include <array>

#include "executors.h"
#include "packed_heads.h"
#include "../support/storage.h"

namespace core_test {
namespace {

class RopeTest : public testing::TestWithParam<std::string> {};

constexpr std::array<int32_t, 2> kStyles = {ISONORM_ROPE_HALF, ISONORM_ROPE_INTERLEAVED};

float ValueAt(Type type, const Bytes& bytes, int64_t i) {
  const isonorm_test::Type as = type == Type::kF32    ? isonorm_test::Type::kF32
                                : type == Type::kBf16 ? isonorm_test::Type::kBf16
                                                      : isonorm_test::Type::kF16;
  return static_cast<float>(isonorm_test::Get(as, bytes.data() + static_cast<size_t>(i) * SizeOf(type)));
}

// Written apart from the library: by the pairs' columns, all in float, one rounding for each operation.
std::vector<double> RotatedByHand(const Problem& p, const Values& inputs, const Bytes& norm, Type norm_type) {
  std::vector<double> out;
  for (int64_t i = 0; i < p.rows * p.cols; ++i) out.push_back(static_cast<double>(ValueAt(norm_type, norm, i)));
  const int64_t head = p.cols / p.groups, half = p.rotation.half;
  for (int64_t row = 0; row < p.rows; ++row) {
    int64_t position = 0;
    const size_t size = SizeOf(p.type[kPositions]);
    std::memcpy(&position, &inputs[kPositions][static_cast<size_t>(row) * size], size);  // little-endian
    for (int64_t first = row * p.cols; first < (row + 1) * p.cols; first += head) {
      for (int64_t i = 0; i < half; ++i) {
        const bool pairs = p.rotation.style == ISONORM_ROPE_INTERLEAVED;
        const int64_t at_a = first + (pairs ? 2 * i : i), at_b = first + (pairs ? 2 * i + 1 : i + half);
        const float a = ValueAt(norm_type, norm, at_a), b = ValueAt(norm_type, norm, at_b);
        const float c = ValueAt(p.type[kCos], inputs[kCos], position * half + i);
        const float s = ValueAt(p.type[kSin], inputs[kSin], position * half + i);
        const float ac = a * c, bc = b * c;
        out[static_cast<size_t>(at_a)] = static_cast<double>(std::fma(-b, s, ac));
        out[static_cast<size_t>(at_b)] = static_cast<double>(std::fma(a, s, bc));
      }
    }
  }
  return out;
}

// The fused result is that of the norm, stored in x's type or in f32, rotated.
TEST_P(RopeTest, TheFusedResultIsThatOfTheNormRotated) {
  const ScopedTarget target(GetParam());
  uint64_t seed = 1;
  int64_t rotated = 0;
  std::vector<int64_t> widths = {192, 256, 320, 384, 500, 511, 512, 640, 1024};
  for (int64_t cols = 2; cols <= 130; ++cols) widths.push_back(cols);
  for (const int64_t cols : widths) {
    for (int turn = 0; turn < 6; ++turn, ++seed) {
      Problem p = Random(seed, 3, cols);
      Unrotate(&p);
      p.quantization = {};
      p.type[kScale] = Type::kNone;
      if (p.compute() == Type::kF64) continue;
      if (cols > 512) p.groups = cols / 64;
      p.window = 0;
      if (p.type[kY] != Type::kF32 && p.type[kY] != Type::kBf16 && p.type[kY] != Type::kF16) p.type[kY] = p.type[kX];
      Rotate(seed, &p);
      if (!p.rotates()) continue;
      const Values inputs = MakeInputs(p);
      Problem norm = ForwardOf(p);
      Unrotate(&norm);
      norm.type[kY] = p.contract.rotation_rounding == ISONORM_ROUND_TO_X ? p.type[kX] : Type::kF32;
      const Bytes by_hand = ToBytes(p.type[kY], RotatedByHand(p, inputs, Compute(norm, inputs)[kY], norm.type[kY]));
      const Bytes fused = Compute(ForwardOf(p), inputs)[kY];
      ASSERT_EQ(fused, by_hand) << ToString(p);
      ++rotated;
    }
  }
  EXPECT_GT(rotated, 400);
}

// What one structure of a call computes, on compact memory by the reference, each head with its own position.
struct Parts {
  Bytes y, dx, dweight;
};
Parts ByReference(const PackedHeads& scene, int part, const Bytes& x, const Bytes& dy) {
  const ScopedTarget reference("reference");
  const Shape& shape = scene.shape();
  int64_t dims[3] = {shape.tokens, scene.count(part), shape.dim};
  const std::vector<int64_t> whole(dims, dims + 3);
  Memory in(whole, {}, scene.type()), out(whole, {}, scene.type()), gradient(whole, {}, scene.type());
  Memory weight({shape.dim}, {}, scene.type()), dweight({shape.dim}, {}, scene.type());
  in.Fill(x);
  gradient.Fill(dy);
  weight.Fill(scene.weight[part]);
  isonorm_forward_args forward = {};
  forward.struct_size = sizeof(forward);
  forward.x = in.tensor();
  forward.weight = weight.tensor();
  forward.y = out.tensor();
  forward.rope = &scene.rope;
  EXPECT_EQ(isonorm_forward(&scene.contract, 1e-6, &forward), ISONORM_OK) << isonorm_last_error();
  Parts parts;
  parts.y = out.Compact();
  isonorm_backward_args backward = {};
  backward.struct_size = sizeof(backward);
  backward.x = in.tensor();
  backward.dy = gradient.tensor();
  backward.weight = weight.tensor();
  backward.dx = out.tensor();
  backward.dweight = dweight.tensor();
  backward.rope = &scene.rope;
  EXPECT_EQ(isonorm_backward_workspace(&scene.contract, 1e-6, &backward, &backward.workspace_size), ISONORM_OK);
  Bytes workspace(backward.workspace_size);
  backward.workspace = workspace.data();
  EXPECT_EQ(isonorm_backward(&scene.contract, 1e-6, &backward), ISONORM_OK) << isonorm_last_error();
  parts.dx = out.Compact();
  parts.dweight = dweight.Compact();
  return parts;
}

// q and k of packed memory by one call, forward and backward, in place; v and what is around stay as they are.
void CheckPacked(const PackedHeads& scene, const isonorm_executor* executor, const std::string& what) {
  const Shape& shape = scene.shape();
  const std::vector<int64_t> whole = {shape.tokens, shape.heads(), shape.dim};
  const Bytes upstream = PackedHeads::Data(scene.type(), shape.tokens * shape.heads() * shape.dim, 99);
  Memory values(whole, {}, scene.type(), 3), gradients(whole, {}, scene.type(), 5), x(whole, {}, scene.type());
  values.Fill(scene.packed);
  x.Fill(scene.packed);
  gradients.Fill(upstream);
  Memory wq({shape.dim}, {}, scene.type()), wk({shape.dim}, {}, scene.type());
  wq.Fill(scene.weight[0]);
  wk.Fill(scene.weight[1]);
  Memory dwq({shape.dim}, {}, scene.type()), dwk({shape.dim}, {}, scene.type());
  const HeadsView q(scene, 0, &values), k(scene, 1, &values), xq(scene, 0, &x), xk(scene, 1, &x);
  const HeadsView dq(scene, 0, &gradients), dk(scene, 1, &gradients);

  isonorm_forward_args of_k = {}, of_q = {};
  of_k.struct_size = of_q.struct_size = sizeof(of_q);
  of_q.x = of_q.y = q.tensor();
  of_k.x = of_k.y = k.tensor();
  of_q.weight = wq.tensor();
  of_k.weight = wk.tensor();
  of_q.rope = of_k.rope = &scene.rope;
  of_q.executor = executor;
  of_q.also = &of_k;
  ASSERT_EQ(isonorm_forward(&scene.contract, 1e-6, &of_q), ISONORM_OK) << isonorm_last_error() << what;

  isonorm_backward_args back_k = {}, back_q = {};
  back_k.struct_size = back_q.struct_size = sizeof(back_q);
  back_q.x = xq.tensor();
  back_k.x = xk.tensor();
  back_q.dy = back_q.dx = dq.tensor();
  back_k.dy = back_k.dx = dk.tensor();
  back_q.weight = wq.tensor();
  back_k.weight = wk.tensor();
  back_q.dweight = dwq.tensor();
  back_k.dweight = dwk.tensor();
  back_q.rope = back_k.rope = &scene.rope;
  back_q.executor = executor;
  back_q.also = &back_k;
  ASSERT_EQ(isonorm_backward_workspace(&scene.contract, 1e-6, &back_q, &back_q.workspace_size), ISONORM_OK);
  Bytes workspace(back_q.workspace_size + 16, 0x77);
  back_q.workspace = workspace.data();
  ASSERT_EQ(isonorm_backward(&scene.contract, 1e-6, &back_q), ISONORM_OK) << isonorm_last_error() << what;
  EXPECT_EQ(Bytes(workspace.end() - 16, workspace.end()), Bytes(16, 0x77)) << what;

  const Bytes got = values.Compact(), got_gradients = gradients.Compact();
  EXPECT_TRUE(values.SurroundingsIntact() && gradients.SurroundingsIntact());
  for (int part = 0; part < 2; ++part) {
    const auto heads = [&](const Bytes& of) { return scene.Heads(of, scene.first(part), scene.count(part)); };
    const Parts expected = ByReference(scene, part, heads(scene.packed), heads(upstream));
    ASSERT_EQ(heads(got), expected.y) << "y of part " << part << what;
    ASSERT_EQ(heads(got_gradients), expected.dx) << "dx of part " << part << what;
    ASSERT_EQ((part == 0 ? dwq : dwk).Compact(), expected.dweight) << "dweight of part " << part << what;
  }
  const auto v = [&](const Bytes& of) { return scene.Heads(of, shape.q + shape.k, shape.k); };
  ASSERT_EQ(v(got), v(scene.packed)) << "v" << what;
  ASSERT_EQ(v(got_gradients), v(upstream)) << "v" << what;
}

TEST_P(RopeTest, QAndKOfPackedMemoryInPlace) {
  const ScopedTarget target(GetParam());
  uint64_t seed = 1;
  for (const int64_t dim : {2, 6, 33, 64, 80, 96, 128, 130, 256, 512}) {
    for (const Type type : {Type::kF32, Type::kBf16, Type::kF16}) {
      for (const int32_t style : kStyles) {
        for (const Positions from : {Positions::kOffset, Positions::kI32, Positions::kI64}) {
          Shape shape;
          shape.tokens = 1 + static_cast<int64_t>(seed % 5);
          shape.q = 1 + static_cast<int64_t>(seed * 5 % 9);
          shape.k = 1 + static_cast<int64_t>(seed % 3);
          shape.dim = dim;
          shape.half = seed % 3 == 0 ? (dim / 4 == 0 ? 1 : dim / 4) : dim / 2;
          const Type table = seed % 2 == 0 ? Type::kF32 : type;
          const PackedHeads scene(type, table, shape, style, from, seed++);
          CheckPacked(scene, nullptr, ", seed " + std::to_string(seed - 1));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

// Real shapes, on threads: one parallel_for for both.
TEST_P(RopeTest, QAndKOnThreads) {
  const ScopedTarget target(GetParam());
  for (const int32_t style : kStyles) {
    Shape shape;
    shape.tokens = 67;
    shape.q = 32;
    shape.k = 8;
    shape.dim = 128;
    shape.half = 64;
    shape.table = 80;
    const PackedHeads scene(Type::kBf16, Type::kBf16, shape, style, Positions::kI64, 5);
    const Shuffled shuffled(3);
    CheckPacked(scene, shuffled.executor(), ", shuffled");
    const NewThreads threads(4);
    CheckPacked(scene, threads.executor(), ", threads");
    EXPECT_GT(shuffled.largest(), 1);
    EXPECT_GT(threads.largest(), 1);
  }
}

// A call with one structure, and its y.
Bytes Forward(const PackedHeads& scene, const isonorm_rope& rope, const std::vector<int64_t>& lead, int64_t groups = 1,
              const isonorm_executor* executor = nullptr) {
  std::vector<int64_t> whole = lead;
  whole.push_back(scene.shape().dim * groups);
  Memory x(whole, {}, scene.type()), y(whole, {}, scene.type()), weight({scene.shape().dim * groups}, {}, scene.type());
  x.Fill(scene.packed);
  Bytes all;
  for (int64_t g = 0; g < groups; ++g) all.insert(all.end(), scene.weight[0].begin(), scene.weight[0].end());
  weight.Fill(all);
  isonorm_forward_args args = {};
  args.struct_size = sizeof(args);
  args.x = x.tensor();
  args.weight = weight.tensor();
  args.y = y.tensor();
  args.groups = groups;
  args.rope = &rope;
  args.executor = executor;
  EXPECT_EQ(isonorm_forward(&scene.contract, 1e-6, &args), ISONORM_OK) << isonorm_last_error();
  return y.Compact();
}

// [2, 4, 5, heads, dim]: the same positions as an array of any rank, strided, broadcast, and as offset and dimension; and heads
// as groups.
TEST_P(RopeTest, EveryWayToSayPositions) {
  const ScopedTarget target(GetParam());
  constexpr int64_t kA = 2, kB = 4, kC = 5, kHeads = 3, kOffset = 7;
  Shape shape;
  shape.tokens = kA * kB * kC;
  shape.q = kHeads;
  shape.k = 0;
  const std::vector<int64_t> lead = {kA, kB, kC, kHeads};
  for (const int32_t style : kStyles) {
    const PackedHeads scene(Type::kF32, Type::kF32, shape, style, Positions::kOffset, 3);
    for (int dim = 0; dim < 4; ++dim) {
      isonorm_rope rope = scene.rope;
      rope.position_offset = kOffset;
      rope.position_dim = dim;
      const Bytes expected = Forward(scene, rope, lead);
      std::vector<int32_t> each;
      for (int64_t row = 0; row < kA * kB * kC * kHeads; ++row) {
        const std::array<int64_t, 4> index = {row / kHeads / kC / kB, row / kHeads / kC % kB, row / kHeads % kC, row % kHeads};
        each.push_back(static_cast<int32_t>(kOffset + index[static_cast<size_t>(dim)]));
      }
      int64_t sizes[4] = {kA, kB, kC, kHeads};
      isonorm_tensor positions = {each.data(), {ISONORM_DEVICE_CPU, 0}, 4, ISONORM_I32, sizes, nullptr, 0};
      rope.position_offset = rope.position_dim = 0;
      rope.positions = &positions;
      ASSERT_EQ(Forward(scene, rope, lead), expected) << "one for each row, dimension " << dim;
      // Broadcast by strides of 0, of the first dim + 1 dimensions; the last of them contiguous.
      std::vector<int64_t> index = {kOffset, kOffset + 1, kOffset + 2, kOffset + 3, kOffset + 4};
      int64_t strides[4] = {0, 0, 0, 0};
      strides[dim] = 1;
      positions = {index.data(), {ISONORM_DEVICE_CPU, 0}, dim + 1, ISONORM_I64, sizes, strides, 0};
      ASSERT_EQ(Forward(scene, rope, lead), expected) << "broadcast, dimension " << dim;
      if (dim == 3) continue;
      ASSERT_EQ(Forward(scene, rope, {kA, kB, kC}, kHeads), expected) << "heads as groups, dimension " << dim;
      // Rows of the array apart, backwards.
      std::vector<int64_t> apart(2 * kA * kB * kC + 9, -1);
      const std::array<int64_t, 3> inner = {1, dim == 1 ? 1 : 0, dim == 2 ? 1 : 0};
      if (dim == 0) continue;
      int64_t steps[3] = {-(kB * (kC + 1) + 2), dim == 1 ? 1 : kC + 1, 1};
      const int64_t start = kB * (kC + 1) + 3;
      for (int64_t a = 0; a < kA; ++a) {
        for (int64_t b = 0; b < kB; ++b) {
          for (int64_t c = 0; c < (dim == 2 ? kC : 1); ++c) {
            apart[static_cast<size_t>(start + a * steps[0] + b * steps[1] + c)] = kOffset + b * inner[1] + c * inner[2];
          }
        }
      }
      positions = {apart.data() + start, {ISONORM_DEVICE_CPU, 0}, dim + 1, ISONORM_I64, sizes, steps, 0};
      ASSERT_EQ(Forward(scene, rope, lead), expected) << "strided, dimension " << dim;
    }
  }
}

// One structure, whose rows are cut anywhere, also between the heads of a token.
TEST_P(RopeTest, HeadsOfATokenOnTwoThreads) {
  Shape shape;
  shape.tokens = 67;
  shape.q = 5;  // with 2 k and 2 v: runs of 16 rows and more begin within a token
  shape.dim = 128;
  shape.half = 64;
  shape.table = 80;
  for (const Positions from : {Positions::kOffset, Positions::kI32}) {
    const PackedHeads scene(Type::kBf16, Type::kF32, shape, ISONORM_ROPE_HALF, from, 7);
    const std::vector<int64_t> lead = {shape.tokens, shape.heads()};
    Bytes expected;
    {
      const ScopedTarget reference("reference");
      expected = Forward(scene, scene.rope, lead);
    }
    const ScopedTarget target(GetParam());
    for (int tasks = 2; tasks <= 7; ++tasks) {
      const Shuffled shuffled(tasks);
      ASSERT_EQ(Forward(scene, scene.rope, lead, 1, shuffled.executor()), expected) << tasks;
      EXPECT_EQ(shuffled.largest(), tasks);
    }
  }
}

// Hugging Face's tables hold every value twice; their first halves are a view by strides.
TEST_P(RopeTest, TablesByStrides) {
  const ScopedTarget target(GetParam());
  const PackedHeads scene(Type::kBf16, Type::kBf16, Shape(), ISONORM_ROPE_HALF, Positions::kI32, 9);
  const Shape& shape = scene.shape();
  const Bytes expected = Forward(scene, scene.rope, {shape.tokens, shape.heads()});
  std::vector<uint16_t> twice[2];
  isonorm_tensor tables[2] = {*scene.rope.cos, *scene.rope.sin};
  int64_t strides[2] = {2 * shape.half, 1};
  for (int i = 0; i < 2; ++i) {
    const auto* from = static_cast<const uint16_t*>(tables[i].data);
    for (int64_t row = 0; row < shape.table; ++row) {
      for (int copy = 0; copy < 2; ++copy)
        twice[i].insert(twice[i].end(), from + row * shape.half, from + (row + 1) * shape.half);
    }
    tables[i].data = twice[i].data();
    tables[i].strides = strides;
  }
  isonorm_rope rope = scene.rope;
  rope.cos = &tables[0];
  rope.sin = &tables[1];
  EXPECT_EQ(Forward(scene, rope, {shape.tokens, shape.heads()}), expected);
}

TEST_P(RopeTest, EmptyCallsAndSingleRows) {
  const ScopedTarget target(GetParam());
  PackedHeads scene(Type::kF32, Type::kF32, Shape(), ISONORM_ROPE_HALF, Positions::kOffset, 4);
  EXPECT_TRUE(Forward(scene, scene.rope, {0, 4}).empty());
  EXPECT_TRUE(Forward(scene, scene.rope, {4, 0}).empty());
  const Bytes one = Forward(scene, scene.rope, {1, 1});
  EXPECT_EQ(Forward(scene, scene.rope, {}), one);  // a vector is one token
}

INSTANTIATE_TEST_SUITE_P(Target, RopeTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
