// Valid calls with a rotation, to be spoilt.
#pragma once

#include <initializer_list>
#include <utility>

#include "api/fault.h"

namespace isonorm_test {

constexpr int64_t kTokens = 2, kHeads = 3, kTable = 9;

inline void SetRope(isonorm_rope* rope, Slot* cos, Slot* sin, Slot* positions) {
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

}  // namespace isonorm_test
