// Bad calls with a rotation, and with several structures: status, sentence, nothing written.
#include <gtest/gtest.h>

#include "api/fault.h"

namespace isonorm_test {
namespace {

constexpr int64_t kTokens = 2, kHeads = 3, kTable = 9;

void SetRope(isonorm_rope* rope, Slot* cos, Slot* sin, Slot* positions) {
  for (Slot* slot : {cos, sin}) slot->Set(kInputByte, ISONORM_F32, {kTable, kCols / 2});
  positions->Set(0, ISONORM_I64, {kTokens});
  *rope = {sizeof(*rope), ISONORM_ROPE_HALF, 0, &cos->tensor, &sin->tensor, nullptr, 2};
}

// x and y [2, 3, 64]: positions by offset 2 along dimension 0.
class RopeScene : public ForwardScene {
 public:
  RopeScene() {
    for (auto& slot : {std::pair{"cos", &cos}, std::pair{"sin", &sin}, std::pair{"positions", &positions}})
      slots.push_back(slot);
    for (Slot* slot : {&x, &gate}) slot->Set(kInputByte, ISONORM_F32, {kTokens, kHeads, kCols});
    y.Set(kOutputByte, ISONORM_F32, {kTokens, kHeads, kCols});
    SetRope(&rope, &cos, &sin, &positions);
    args.residual = args.residual_out = args.rstd = nullptr;
    args.rope = &rope;
  }
  void UsePositions(std::initializer_list<int64_t> values, bool narrow = false) {
    rope.position_offset = 0;
    rope.positions = &positions.tensor;
    if (narrow) positions.Retype(ISONORM_I32);
    size_t i = 0;
    for (const int64_t value : values) {
      const auto low = static_cast<int32_t>(value);
      std::memcpy(positions.data() + i * (narrow ? 4 : 8), narrow ? static_cast<const void*>(&low) : &value, narrow ? 4 : 8);
      ++i;
    }
  }
  isonorm_rope rope;
  Slot cos, sin, positions;
};

class BackwardRopeScene : public BackwardScene {
 public:
  BackwardRopeScene() {
    for (auto& slot : {std::pair{"cos", &cos}, std::pair{"sin", &sin}, std::pair{"positions", &positions}})
      slots.push_back(slot);
    for (Slot* slot : {&dy, &x, &gate}) slot->Set(kInputByte, ISONORM_F32, {kTokens, kHeads, kCols});
    for (Slot* slot : {&dx, &dgate}) slot->Set(kOutputByte, ISONORM_F32, {kTokens, kHeads, kCols});
    SetRope(&rope, &cos, &sin, &positions);
    args.residual = args.dresidual = args.rstd = nullptr;
    args.rope = &rope;
    Measure();
  }
  isonorm_rope rope;
  Slot cos, sin, positions;
};

using S = RopeScene;
using B = BackwardRopeScene;

TEST(Rope, WhatIsRight) {
  S offset, positions, narrow, interleaved, last;
  EXPECT_EQ(offset.Run(), ISONORM_OK) << isonorm_last_error();
  positions.UsePositions({8, 0});
  EXPECT_EQ(positions.Run(), ISONORM_OK) << isonorm_last_error();
  narrow.UsePositions({8, 0}, true);
  EXPECT_EQ(narrow.Run(), ISONORM_OK) << isonorm_last_error();
  interleaved.rope.style = ISONORM_ROPE_INTERLEAVED;
  EXPECT_EQ(interleaved.Run(), ISONORM_OK) << isonorm_last_error();
  last.rope.position_offset = kTable - kTokens;
  EXPECT_EQ(last.Run(), ISONORM_OK) << isonorm_last_error();
  B backward;
  EXPECT_EQ(backward.Run(), ISONORM_OK) << isonorm_last_error();
}

TEST(Rope, Fields) {
  RunFaults<S>({
      {"struct_size", ISONORM_ERROR_STRUCT_SIZE, {"rope.struct_size", "0"}, [](S& s) { s.rope.struct_size = 0; }},
      {"style unset", ISONORM_ERROR_ROPE, {"rope.style", "0"}, [](S& s) { s.rope.style = 0; }},
      {"style 3", ISONORM_ERROR_ROPE, {"rope.style", "3"}, [](S& s) { s.rope.style = 3; }},
      {"no cos", ISONORM_ERROR_NULL, {"rope.cos"}, [](S& s) { s.rope.cos = nullptr; }},
      {"no sin", ISONORM_ERROR_NULL, {"rope.sin"}, [](S& s) { s.rope.sin = nullptr; }},
      {"no y",
       ISONORM_ERROR_ARGUMENT,
       {"rope", "y is null"},
       [](S& s) {
         s.args.y = nullptr;
         s.rstd.Set(kOutputByte, ISONORM_F32, {kTokens, kHeads});
         s.args.rstd = &s.rstd.tensor;
       }},
      {"gate after", ISONORM_ERROR_ARGUMENT, {"rope", "gate after"}, [](S& s) { s.UseGate(ISONORM_GATE_AFTER); }},
      {"rounding unset",
       ISONORM_ERROR_CONTRACT,
       {"contract.rotation_rounding", "0"},
       [](S& s) { s.contract.rotation_rounding = 0; }},
      {"rounding to weight",
       ISONORM_ERROR_CONTRACT,
       {"contract.rotation_rounding", "3"},
       [](S& s) { s.contract.rotation_rounding = ISONORM_ROUND_TO_WEIGHT; }},
      {"contract.reserved", ISONORM_ERROR_CONTRACT, {"contract.reserved", "1"}, [](S& s) { s.contract.reserved = 1; }},
      {"a contract of 0.1",
       ISONORM_ERROR_CONTRACT,
       {"contract.rotation_rounding", "0"},
       [](S& s) { s.contract.struct_size = offsetof(isonorm_contract, rotation_rounding); }},
      {"head too wide",
       ISONORM_ERROR_ROPE,
       {"520", "512"},
       [](S& s) {
         for (Slot* slot : {&s.x, &s.y}) slot->Set(kOutputByte, ISONORM_F32, {kTokens, kHeads, 520});
         s.args.weight = s.args.bias = nullptr;
       }},
  });
}

TEST(Rope, Tables) {
  RunFaults<S>({
      {"cos of rank 1",
       ISONORM_ERROR_RANK,
       {"rope.cos.ndim", "1"},
       [](S& s) { s.cos.Set(kInputByte, ISONORM_F32, {kCols / 2}); }},
      {"cos with f64",
       ISONORM_ERROR_DTYPE,
       {"rope.cos", "f64"},
       [](S& s) {
         s.cos.Set(0, ISONORM_F64, {kTable, kCols / 2});
       }},
      {"cos of another 16-bit type", ISONORM_ERROR_DTYPE, {"rope.cos", "bf16"}, [](S& s) { s.cos.Retype(ISONORM_BF16); }},
      {"two types",
       ISONORM_ERROR_DTYPE,
       {"rope.sin", "bf16", "f32"},
       [](S& s) {
         s.x.Retype(ISONORM_BF16);
         s.sin.Retype(ISONORM_BF16);
       }},
      {"too wide",
       ISONORM_ERROR_ROPE,
       {"rope.cos.shape[1]", "33", "64"},
       [](S& s) {
         s.cos.Set(kInputByte, ISONORM_F32, {kTable, 33});
       }},
      {"no columns",
       ISONORM_ERROR_ROPE,
       {"rope.sin.shape[1]", "0"},
       [](S& s) {
         s.sin.Set(kInputByte, ISONORM_F32, {kTable, 0});
       }},
      {"wider than a group", ISONORM_ERROR_ROPE, {"rope.cos.shape[1]", "32", "16"}, [](S& s) { s.args.groups = 4; }},
      {"other rows",
       ISONORM_ERROR_SHAPE,
       {"rope.sin.shape[0]", "8", "9"},
       [](S& s) {
         s.sin.Set(kInputByte, ISONORM_F32, {8, kCols / 2});
       }},
      {"other columns",
       ISONORM_ERROR_SHAPE,
       {"rope.sin.shape[1]", "16", "32"},
       [](S& s) {
         s.sin.Set(kInputByte, ISONORM_F32, {kTable, 16});
       }},
      {"columns apart", ISONORM_ERROR_STRIDE, {"rope.cos.strides[1]", "2"}, [](S& s) { s.cos.strides[1] = 2; }},
      {"no data", ISONORM_ERROR_NULL, {"rope.sin.data"}, [](S& s) { s.sin.tensor.data = nullptr; }},
      {"elsewhere", ISONORM_ERROR_DEVICE, {"rope.cos.device"}, [](S& s) { s.cos.tensor.device.device_type = 2; }},
      {"y over cos", ISONORM_ERROR_OVERLAP, {"y", "rope.cos"}, [](S& s) { s.y.tensor.data = s.cos.data() - 4; }},
      {"y over positions",
       ISONORM_ERROR_OVERLAP,
       {"y", "rope.positions"},
       [](S& s) {
         s.UsePositions({0, 0});
         s.positions.tensor.data = s.y.data() + 8;
         std::memset(s.y.data(), 0, 64);
       }},
  });
}

TEST(Rope, Positions) {
  RunFaults<S>({
      {"beyond",
       ISONORM_ERROR_ROPE,
       {"rope.positions", "9", "number 1", "0 to 8"},
       [](S& s) {
         s.UsePositions({8, 9});
       }},
      {"negative",
       ISONORM_ERROR_ROPE,
       {"rope.positions", "-1", "number 0"},
       [](S& s) {
         s.UsePositions({-1, 0});
       }},
      {"huge",
       ISONORM_ERROR_ROPE,
       {"rope.positions", "4294967296"},
       [](S& s) {
         s.UsePositions({0, int64_t{1} << 32});
       }},
      {"beyond, i32",
       ISONORM_ERROR_ROPE,
       {"rope.positions", "10"},
       [](S& s) {
         s.UsePositions({0, 10}, true);
       }},
      {"of f32",
       ISONORM_ERROR_DTYPE,
       {"rope.positions", "f32"},
       [](S& s) {
         s.UsePositions({0, 0});
         s.positions.Retype(ISONORM_F32);
       }},
      {"of u8",
       ISONORM_ERROR_DTYPE,
       {"rope.positions", "e8m0"},
       [](S& s) {
         s.UsePositions({0, 0});
         s.positions.Retype(ISONORM_U8);
       }},
      {"too many",
       ISONORM_ERROR_SHAPE,
       {"rope.positions.shape[0]", "3", "2"},
       [](S& s) {
         s.UsePositions({0, 0});
         s.positions.Set(0, ISONORM_I64, {3});
       }},
      {"rank",
       ISONORM_ERROR_RANK,
       {"rope.positions.ndim", "3", "2"},
       [](S& s) {
         s.UsePositions({0, 0});
         s.positions.Set(0, ISONORM_I64, {kTokens, kHeads, kCols});
       }},
      {"with an offset",
       ISONORM_ERROR_ROPE,
       {"rope.position_offset", "5"},
       [](S& s) {
         s.UsePositions({0, 0});
         s.rope.position_offset = 5;
       }},
      {"with a dimension",
       ISONORM_ERROR_ROPE,
       {"rope.position_dim", "1"},
       [](S& s) {
         s.UsePositions({0, 0});
         s.rope.position_dim = 1;
       }},
      {"offset beyond", ISONORM_ERROR_ROPE, {"position_offset", "8", "2 tokens"}, [](S& s) { s.rope.position_offset = 8; }},
      {"offset negative", ISONORM_ERROR_ROPE, {"position_offset", "-1"}, [](S& s) { s.rope.position_offset = -1; }},
      {"offset huge",
       ISONORM_ERROR_ROPE,
       {"position_offset", "9223372036854775807"},
       [](S& s) { s.rope.position_offset = INT64_MAX; }},
      {"dimension 2", ISONORM_ERROR_ROPE, {"position_dim", "2", "2 leading"}, [](S& s) { s.rope.position_dim = 2; }},
      {"dimension -1", ISONORM_ERROR_ROPE, {"position_dim", "-1"}, [](S& s) { s.rope.position_dim = -1; }},
  });
}

TEST(Rope, Backward) {
  RunFaults<B>({
      {"style", ISONORM_ERROR_ROPE, {"rope.style"}, [](B& s) { s.rope.style = 0; }},
      {"no cos", ISONORM_ERROR_NULL, {"rope.cos"}, [](B& s) { s.rope.cos = nullptr; }},
      {"rounding", ISONORM_ERROR_CONTRACT, {"rotation_rounding"}, [](B& s) { s.contract.rotation_rounding = 0; }},
      {"gate after", ISONORM_ERROR_ARGUMENT, {"rope", "gate after"}, [](B& s) { s.UseGate(ISONORM_GATE_AFTER); }},
      {"offset beyond", ISONORM_ERROR_ROPE, {"position_offset", "8"}, [](B& s) { s.rope.position_offset = 8; }},
      {"dx over sin", ISONORM_ERROR_OVERLAP, {"dx", "rope.sin"}, [](B& s) { s.dx.tensor.data = s.sin.data(); }},
      {"dweight over cos", ISONORM_ERROR_OVERLAP, {"dweight", "rope.cos"}, [](B& s) { s.dweight.tensor.data = s.cos.data(); }},
  });
}

// Structures of older size still stand for calls without rotation, and contracts of 0.1 too.
TEST(Rope, OlderStructuresHaveNone) {
  S scene;
  scene.args.struct_size = offsetof(isonorm_forward_args, rope);
  scene.contract.struct_size = offsetof(isonorm_contract, rotation_rounding);
  scene.rope.style = 77;
  EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  B backward;
  backward.args.struct_size = offsetof(isonorm_backward_args, rope);
  backward.rope.style = 77;
  EXPECT_EQ(backward.Run(), ISONORM_OK) << isonorm_last_error();
  S plain;
  plain.args.rope = nullptr;
  ASSERT_EQ(plain.Run(), ISONORM_OK);
  EXPECT_EQ(scene.y.bytes, plain.y.bytes);
}

// ------------------------------------------------------------------------------------------------- several structures

class ChainScene : public RopeScene {
 public:
  ChainScene() {
    for (int i = 0; i < 4; ++i) {
      slots.emplace_back("more x", &more_x[i]);
      slots.emplace_back("more y", &more_y[i]);
      more_x[i].Set(kInputByte, ISONORM_F32, {kRows, kCols});
      more_y[i].Set(kOutputByte, ISONORM_F32, {kRows, kCols});
      more[i].struct_size = sizeof(more[i]);
      more[i].x = &more_x[i].tensor;
      more[i].y = &more_y[i].tensor;
    }
    args.also = &more[0];
    more[0].also = &more[1];
  }
  Slot more_x[4], more_y[4];
  isonorm_forward_args more[4] = {};
};
using C = ChainScene;

TEST(Chain, WhatIsRight) {
  C three;
  EXPECT_EQ(three.Run(), ISONORM_OK) << isonorm_last_error();
  C four;
  four.more[1].also = &four.more[2];
  EXPECT_EQ(four.Run(), ISONORM_OK) << isonorm_last_error();
  C in_place;
  for (int i = 0; i < 2; ++i) in_place.more[i].y = in_place.more[i].x;
  EXPECT_EQ(in_place.Run(), ISONORM_OK) << isonorm_last_error();
}

TEST(Chain, Forward) {
  RunFaults<C>({
      {"the first", ISONORM_ERROR_NULL, {"In args: x is null"}, [](C& s) { s.args.x = nullptr; }},
      {"the second", ISONORM_ERROR_NULL, {"In args.also: x is null"}, [](C& s) { s.more[0].x = nullptr; }},
      {"the third", ISONORM_ERROR_SHAPE, {"In args.also->also: y.shape[0]", "2"}, [](C& s) { s.more_y[1].shape[0] = 2; }},
      {"struct_size", ISONORM_ERROR_STRUCT_SIZE, {"args.also", "struct_size"}, [](C& s) { s.more[0].struct_size = 3; }},
      {"contract", ISONORM_ERROR_CONTRACT, {"statistic"}, [](C& s) { s.contract.statistic = 0; }},
      {"five",
       ISONORM_ERROR_ARGUMENT,
       {"args.also", "4"},
       [](C& s) {
         s.more[1].also = &s.more[2];
         s.more[2].also = &s.more[3];
       }},
      {"a ring", ISONORM_ERROR_ARGUMENT, {"args.also", "4"}, [](C& s) { s.more[1].also = &s.more[0]; }},
      {"executor", ISONORM_ERROR_ARGUMENT, {"args.also", "executor"}, [](C& s) { s.more[0].executor = &s.executor; }},
      {"y over y",
       ISONORM_ERROR_OVERLAP,
       {"args and args.also", "y", "share"},
       [](C& s) {
         s.more[0].y = s.args.y;
         s.more_x[0].Set(kInputByte, ISONORM_F32, {kTokens, kHeads, kCols});
       }},
      {"y over x of another",
       ISONORM_ERROR_OVERLAP,
       {"args.also and args.also->also", "y overlaps x"},
       [](C& s) { s.more[0].y = s.more[1].x; }},
      {"x under y of another",
       ISONORM_ERROR_OVERLAP,
       {"args.also and args.also->also", "y overlaps x"},
       [](C& s) { s.more[1].y = s.more[0].x; }},
      {"y over cos of the first",
       ISONORM_ERROR_OVERLAP,
       {"y overlaps rope.cos"},
       [](C& s) { s.more_y[1].tensor.data = s.cos.data(); }},
      {"position of the third",
       ISONORM_ERROR_ROPE,
       {"args.also->also", "position_offset"},
       [](C& s) {
         s.more[1].rope = &s.rope;
         s.rope.position_offset = 7;  // right for two tokens, not for three
       }},
  });
}

class BackwardChainScene : public BackwardRopeScene {
 public:
  BackwardChainScene() {
    slots.emplace_back("more x", &more_x);
    slots.emplace_back("more dy", &more_dy);
    slots.emplace_back("more dx", &more_dx);
    slots.emplace_back("more weight", &more_weight);
    slots.emplace_back("more dweight", &more_dweight);
    for (Slot* slot : {&more_x, &more_dy}) slot->Set(kInputByte, ISONORM_F32, {kRows, kCols});
    more_dx.Set(kOutputByte, ISONORM_F32, {kRows, kCols});
    more_weight.Set(kInputByte, ISONORM_F32, {kCols});
    more_dweight.Set(kOutputByte, ISONORM_F32, {kCols});
    more.struct_size = sizeof(more);
    more.x = &more_x.tensor;
    more.dy = &more_dy.tensor;
    more.dx = &more_dx.tensor;
    more.weight = &more_weight.tensor;
    more.dweight = &more_dweight.tensor;
    args.also = &more;
    Measure();
  }
  Slot more_x, more_dy, more_dx, more_weight, more_dweight;
  isonorm_backward_args more = {};
};
using D = BackwardChainScene;

TEST(Chain, Backward) {
  D right;
  EXPECT_EQ(right.Run(), ISONORM_OK) << isonorm_last_error();
  D alone;
  alone.args.also = nullptr;
  ASSERT_EQ(alone.Measure(), ISONORM_OK);
  EXPECT_GT(right.args.workspace_size, alone.args.workspace_size) << "both need some";
  RunFaults<D>({
      {"no dy", ISONORM_ERROR_NULL, {"In args.also: dy"}, [](D& s) { s.more.dy = nullptr; }},
      {"no workspace", ISONORM_ERROR_WORKSPACE, {"workspace"}, [](D& s) { s.args.workspace = nullptr; }},
      {"workspace too small", ISONORM_ERROR_WORKSPACE, {"workspace_size"}, [](D& s) { --s.args.workspace_size; }},
      {"a second workspace",
       ISONORM_ERROR_ARGUMENT,
       {"In args.also: workspace"},
       [](D& s) {
         s.more.workspace = s.args.workspace;
         s.more.workspace_size = s.args.workspace_size;
       }},
      {"workspace over the second dx",
       ISONORM_ERROR_OVERLAP,
       {"In args.also: workspace overlaps dx"},
       [](D& s) { s.more_dx.tensor.data = s.workspace.data(); }},
      {"dx over dx", ISONORM_ERROR_OVERLAP, {"args and args.also", "dx"}, [](D& s) { s.more_dx.tensor.data = s.dx.data(); }},
      {"dweight over dweight",
       ISONORM_ERROR_OVERLAP,
       {"args and args.also", "dweight"},
       [](D& s) { s.more.dweight = s.args.dweight; }},
  });
}

// Views of packed memory with other numbers of heads, side by side and shifted by one head.
TEST(Chain, PackedViewsThatMeet) {
  std::vector<float> packed(10 * 6 * kCols, 1.0f);
  int64_t q_shape[3] = {10, 3, kCols}, k_shape[3] = {10, 2, kCols}, strides[3] = {6 * kCols, kCols, 1};
  for (int64_t first = 0; first <= 4; ++first) {
    const isonorm_tensor q = {packed.data(), {ISONORM_DEVICE_CPU, 0}, 3, ISONORM_F32, q_shape, strides, 0};
    const isonorm_tensor k = {packed.data() + first * kCols, {ISONORM_DEVICE_CPU, 0}, 3, ISONORM_F32, k_shape, strides, 0};
    isonorm_contract contract = ISONORM_CONTRACT_LLAMA;
    isonorm_forward_args args = {}, also = {};
    args.struct_size = also.struct_size = sizeof(args);
    args.x = args.y = &q;
    also.x = also.y = &k;
    args.also = &also;
    EXPECT_EQ(isonorm_forward(&contract, 1e-6, &args), first < 3 ? ISONORM_ERROR_OVERLAP : ISONORM_OK) << first;
    strides[1] = -kCols;  // heads backwards: q takes the places of heads 3, 2, 1 and k those up to `first`
    const isonorm_tensor q_back = {packed.data() + 3 * kCols, {ISONORM_DEVICE_CPU, 0}, 3, ISONORM_F32, q_shape, strides, 0};
    const isonorm_tensor k_back = {
        packed.data() + (first + 1) * kCols, {ISONORM_DEVICE_CPU, 0}, 3, ISONORM_F32, k_shape, strides, 0};
    args.x = args.y = &q_back;
    also.x = also.y = &k_back;
    EXPECT_EQ(isonorm_forward(&contract, 1e-6, &args), first < 4 ? ISONORM_ERROR_OVERLAP : ISONORM_OK) << first;
    strides[1] = kCols;
  }
}

}  // namespace
}  // namespace isonorm_test
