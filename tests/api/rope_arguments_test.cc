// Bad calls with a rotation: status, sentence, nothing written.
#include <gtest/gtest.h>

#include "api/rope_scene.h"

namespace isonorm_test {
namespace {

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
       {"rope.cos is f64", "must be f32."},
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

}  // namespace
}  // namespace isonorm_test
