// Bad calls with several structures: status, sentence, nothing written.
#include <gtest/gtest.h>

#include <algorithm>

#include "api/rope_scene.h"

namespace isonorm_test {
namespace {

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
      {"workspace", ISONORM_ERROR_ARGUMENT, {"args.also", "workspace"}, [](C& s) { s.more[0].workspace_size = 1; }},
      {"stream", ISONORM_ERROR_ARGUMENT, {"args.also", "stream"}, [](C& s) { s.more[0].stream = &s; }},
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

// A structure without rows among others, at every place and with the 0 in every dimension: it writes nothing but sums, which
// are zeros, and the others what they write alone.
TEST(Chain, OneIsEmpty) {
  const std::vector<std::vector<int64_t>> shapes = {{0, 3, kCols}, {2, 0, kCols}, {0, 0, kCols}};
  for (const bool threads : {false, true}) {
    for (int empty = 0; empty < 4; ++empty) {
      for (const std::vector<int64_t>& shape : shapes) {
        Slot x[4], y[4], dx[4], weight[4], dweight[4];
        isonorm_forward_args forward[4] = {};
        isonorm_backward_args backward[4] = {};
        ForwardScene scene;  // for its executor
        scene.executor.concurrency = 8;
        for (int i = 3; i >= 0; --i) {
          for (Slot* slot : {&x[i], &y[i], &dx[i]}) {
            slot->Set(slot == &x[i] ? kInputByte : kOutputByte, ISONORM_F32, {2, 3, kCols});
            if (i != empty) continue;
            for (size_t d = 0; d < 3; ++d) slot->shape[d] = shape[d];
            if (empty % 2 == 0) slot->tensor.strides = nullptr;
          }
          weight[i].Set(kInputByte, ISONORM_F32, {kCols});
          dweight[i].Set(kOutputByte, ISONORM_F32, {kCols});
          forward[i] = {};
          forward[i].struct_size = sizeof(forward[i]);
          forward[i].x = &x[i].tensor;
          forward[i].y = &y[i].tensor;
          if (i < 3) forward[i].also = &forward[i + 1];
          backward[i].struct_size = sizeof(backward[i]);
          backward[i].x = backward[i].dy = &x[i].tensor;
          backward[i].weight = &weight[i].tensor;
          backward[i].dx = &dx[i].tensor;
          if (i != 2) backward[i].dweight = &dweight[i].tensor;
          if (i < 3) backward[i].also = &backward[i + 1];
        }
        forward[0].executor = backward[0].executor = threads ? &scene.executor : nullptr;
        const isonorm_contract contract = ISONORM_CONTRACT_TORCH;
        ASSERT_EQ(isonorm_forward(&contract, 1e-6, &forward[0]), ISONORM_OK) << isonorm_last_error();
        std::vector<uint8_t> workspace;
        ASSERT_EQ(isonorm_backward_workspace(&contract, 1e-6, &backward[0], &backward[0].workspace_size), ISONORM_OK);
        workspace.resize(backward[0].workspace_size);
        backward[0].workspace = workspace.data();
        ASSERT_EQ(isonorm_backward(&contract, 1e-6, &backward[0]), ISONORM_OK) << isonorm_last_error();
        const std::vector<uint8_t> untouched(y[0].bytes.size(), kOutputByte);
        const int other = empty == 0 ? 1 : 0;
        for (int i = 0; i < 4; ++i) {
          EXPECT_EQ(y[i].bytes, i == empty ? untouched : y[other].bytes) << i;
          EXPECT_EQ(dx[i].bytes, i == empty ? untouched : dx[other].bytes) << i;
          if (i == 2) continue;
          const bool zeros = std::all_of(dweight[i].data(), dweight[i].data() + 4 * kCols, [](uint8_t b) { return b == 0; });
          EXPECT_EQ(zeros, i == empty) << i;
        }
      }
    }
  }
}

TEST(Chain, OneOfRotatedHeadsIsEmpty) {
  for (const bool heads : {false, true}) {
    C scene;
    Slot& x = scene.more_x[1];
    for (Slot* slot : {&x, &scene.more_y[1]}) {
      slot->Set(kOutputByte, ISONORM_F32, {kTokens, kHeads, kCols});
      slot->shape[heads ? 1 : 0] = 0;
      slot->tensor.strides = nullptr;
    }
    scene.more[1].rope = &scene.rope;
    EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  }
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
