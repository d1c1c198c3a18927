// No rows: a success that writes nothing but the sums over rows, which are zeros.
#include "api/fault.h"

namespace isonorm_test {
namespace {

const std::vector<std::vector<int64_t>> kEmpty = {{0, 7168}, {3, 0, 2520}, {0, 0, 8}, {5, 4, 3, 2, 1, 0, 16}};

void Reshape(Slot& slot, const std::vector<int64_t>& shape, int64_t without_last = 0) {
  slot.tensor.ndim = static_cast<int32_t>(shape.size()) - static_cast<int32_t>(without_last);
  slot.tensor.strides = nullptr;
  for (size_t i = 0; i < shape.size(); ++i) slot.shape[i] = shape[i];
}

TEST(Empty, ForwardWritesNothing) {
  for (const std::vector<int64_t>& shape : kEmpty) {
    for (const bool no_data : {false, true}) {
      ForwardScene scene;
      for (Slot* slot : {&scene.x, &scene.residual, &scene.y, &scene.residual_out}) Reshape(*slot, shape);
      Reshape(scene.rstd, shape, 1);
      for (Slot* slot : {&scene.weight, &scene.bias}) slot->Set(kInputByte, ISONORM_F32, {shape.back()});
      if (no_data) {
        for (Slot* slot : {&scene.x, &scene.residual, &scene.y, &scene.residual_out, &scene.rstd}) slot->tensor.data = nullptr;
      }
      const std::vector<uint8_t> before = scene.Picture();
      EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
      EXPECT_EQ(scene.Picture(), before);
    }
  }
}

TEST(Empty, BackwardSumsOverNoRows) {
  for (const std::vector<int64_t>& shape : kEmpty) {
    for (const uint32_t flags : {0u, static_cast<uint32_t>(ISONORM_ACCUMULATE)}) {
      BackwardScene scene;
      for (Slot* slot : {&scene.dy, &scene.x, &scene.residual, &scene.dresidual, &scene.dx}) {
        Reshape(*slot, shape);
        slot->tensor.data = nullptr;
      }
      Reshape(scene.rstd, shape, 1);
      for (Slot* slot : {&scene.weight, &scene.bias}) slot->Set(kInputByte, ISONORM_F32, {shape.back()});
      for (Slot* slot : {&scene.dweight, &scene.dbias}) slot->Set(kInputByte, ISONORM_F32, {shape.back()});
      scene.args.flags = flags;
      ASSERT_EQ(scene.Measure(), ISONORM_OK) << isonorm_last_error();
      ASSERT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
      const auto size = static_cast<size_t>(shape.back()) * sizeof(float);
      const std::vector<uint8_t> expected(size, flags == 0 ? 0 : kInputByte);
      EXPECT_EQ(std::memcmp(scene.dweight.data(), expected.data(), size), 0) << shape.back() << " flags " << flags;
      EXPECT_EQ(std::memcmp(scene.dbias.data(), expected.data(), size), 0) << shape.back() << " flags " << flags;
    }
  }
}

TEST(Empty, RmsFunctions) {
  for (const std::vector<int64_t>& shape : kEmpty) {
    for (const RmsScene::Function function : {RmsScene::kRms, RmsScene::kBackward, RmsScene::kPenalty}) {
      RmsScene scene;
      scene.function = function;
      for (Slot* slot : {&scene.x, &scene.dx}) Reshape(*slot, shape);
      for (Slot* slot : {&scene.rms, &scene.drms, &scene.penalty}) Reshape(*slot, shape, 1);
      const std::vector<uint8_t> before = scene.Picture();
      EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
      EXPECT_EQ(scene.Picture(), before);
    }
  }
}

TEST(Empty, BadInputIsStillBad) {
  ForwardScene scene;
  for (Slot* slot : {&scene.x, &scene.residual, &scene.y, &scene.residual_out}) slot->shape[0] = 0;
  scene.rstd.shape[0] = 0;
  ASSERT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  scene.weight.shape[0] = 1;
  EXPECT_EQ(Judge(scene, ISONORM_ERROR_SHAPE, {"weight", "1", "64"}), "");
  scene.weight.tensor.data = nullptr;
  scene.weight.shape[0] = kCols;
  EXPECT_EQ(Judge(scene, ISONORM_ERROR_NULL, {"weight.data", "null"}), "");
}

}  // namespace
}  // namespace isonorm_test
