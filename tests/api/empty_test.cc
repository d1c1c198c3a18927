// No rows: a success that writes nothing but the sums over rows, which are zeros.
#include "api/double_scene.h"
#include "api/fault.h"
#include "api/rope_scene.h"

namespace isonorm_test {
namespace {

const std::vector<std::vector<int64_t>> kEmpty = {{0, 7168}, {3, 0, 2520}, {0, 0, 8}, {5, 4, 3, 2, 1, 0, 16}};

// What an empty tensor's strides may be: none, zeros as NumPy exports them, or anything, for nobody goes along them.
constexpr int64_t kNoStrides = 1, kStrides[] = {kNoStrides, 0, 77, INT64_MIN};

void Reshape(Slot& slot, const std::vector<int64_t>& shape, int64_t stride, int64_t without_last = 0) {
  slot.tensor.ndim = static_cast<int32_t>(shape.size()) - static_cast<int32_t>(without_last);
  slot.tensor.strides = stride == kNoStrides ? nullptr : slot.strides;
  for (size_t i = 0; i < shape.size(); ++i) slot.shape[i] = shape[i];
  for (int64_t& each : slot.strides) each = stride;
}

TEST(Empty, ForwardWritesNothing) {
  for (const std::vector<int64_t>& shape : kEmpty) {
    for (const int64_t stride : kStrides) {
      const bool no_data = stride == 0;
      ForwardScene scene;
      for (Slot* slot : {&scene.x, &scene.residual, &scene.y, &scene.residual_out}) Reshape(*slot, shape, stride);
      Reshape(scene.rstd, shape, stride, 1);
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
    for (const int64_t stride : kStrides) {
      const uint32_t flags = stride == 0 ? ISONORM_ACCUMULATE : 0;
      BackwardScene scene;
      for (Slot* slot : {&scene.dy, &scene.x, &scene.residual, &scene.dresidual, &scene.dx}) {
        Reshape(*slot, shape, stride);
        slot->tensor.data = nullptr;
      }
      Reshape(scene.rstd, shape, stride, 1);
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

TEST(Empty, DoubleBackwardSumsOverNoRows) {
  for (const std::vector<int64_t>& shape : kEmpty) {
    for (const int64_t stride : kStrides) {
      DoubleScene scene;
      for (Slot* slot : {&scene.dy, &scene.x, &scene.ddx, &scene.dx, &scene.ddy}) Reshape(*slot, shape, stride);
      Reshape(scene.rstd, shape, stride, 1);
      for (Slot* slot : {&scene.weight, &scene.ddweight, &scene.dweight}) slot->Set(kInputByte, ISONORM_F32, {shape.back()});
      ASSERT_EQ(scene.Measure(), ISONORM_OK) << isonorm_last_error();
      ASSERT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
      const std::vector<uint8_t> zeros(static_cast<size_t>(shape.back()) * sizeof(float), 0);
      EXPECT_EQ(std::memcmp(scene.dweight.data(), zeros.data(), zeros.size()), 0);
    }
  }
}

TEST(Empty, RmsFunctions) {
  for (const std::vector<int64_t>& shape : kEmpty) {
    for (const int64_t stride : kStrides) {
      for (const RmsScene::Function function : {RmsScene::kRms, RmsScene::kBackward, RmsScene::kPenalty}) {
        RmsScene scene;
        scene.function = function;
        for (Slot* slot : {&scene.x, &scene.dx}) Reshape(*slot, shape, stride);
        for (Slot* slot : {&scene.rms, &scene.drms, &scene.penalty}) Reshape(*slot, shape, stride, 1);
        const std::vector<uint8_t> before = scene.Picture();
        EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
        EXPECT_EQ(scene.Picture(), before);
      }
    }
  }
}

TEST(Empty, RotatedQuantisedAndShared) {
  for (const int64_t stride : kStrides) {
    RopeScene rope;
    rope.UsePositions({});
    for (Slot* slot : {&rope.x, &rope.y}) Reshape(*slot, {0, kHeads, kCols}, stride);
    Reshape(rope.positions, {0}, stride);
    EXPECT_EQ(rope.Run(), ISONORM_OK) << isonorm_last_error();

    ForwardScene quantised;
    Slot scale;
    scale.Set(kOutputByte, ISONORM_F32, {kRows});
    for (Slot* slot : {&quantised.x, &quantised.residual, &quantised.y, &quantised.residual_out}) {
      Reshape(*slot, {0, kCols}, stride);
    }
    for (Slot* slot : {&quantised.rstd, &scale}) Reshape(*slot, {0}, stride);
    quantised.y.Retype(ISONORM_I8);
    const isonorm_quantization dynamic = {sizeof dynamic, ISONORM_SCALE_DYNAMIC, {0, 0, 0}, 0, 0, 0};
    quantised.args.quantization = &dynamic;
    quantised.args.scale = &scale.tensor;
    EXPECT_EQ(quantised.Run(), ISONORM_OK) << isonorm_last_error();

    ForwardScene shared;
    Slot partial, gathered, statistic;
    for (Slot* slot : {&partial, &gathered, &statistic}) slot->Set(kOutputByte, ISONORM_F32, {1});
    for (Slot* slot : {&shared.x, &shared.residual, &shared.y, &shared.residual_out}) Reshape(*slot, {0, kCols}, stride);
    Reshape(shared.rstd, {0}, stride);
    Reshape(partial, {0, 1}, stride);
    Reshape(gathered, {1, 0, 1}, stride);
    Reshape(statistic, {0, 4}, stride);
    const isonorm_shard shard = {sizeof shard, 1, &partial.tensor, &gathered.tensor, &statistic.tensor};
    int32_t round = 0;
    EXPECT_EQ(isonorm_forward_partial(&shared.contract, 1e-6, &shared.args, &shard, round), ISONORM_OK) << isonorm_last_error();
    EXPECT_EQ(isonorm_forward_finish(&shared.contract, 1e-6, &shared.args, &shard, &round), ISONORM_OK) << isonorm_last_error();
    EXPECT_EQ(round, 0);

    Slot parts, gradient;
    parts.Set(kInputByte, ISONORM_F32, {1, kCols});
    gradient.Set(kOutputByte, ISONORM_F32, {kCols});
    Reshape(parts, {0, kCols}, stride);
    const isonorm_combine_args combine = {sizeof combine, &parts.tensor, &gradient.tensor, 0, 32, 0, 0, nullptr, nullptr};
    EXPECT_EQ(isonorm_combine_gradients(&combine), ISONORM_OK) << isonorm_last_error();
    EXPECT_EQ(std::vector<uint8_t>(gradient.data(), gradient.data() + 4 * kCols), std::vector<uint8_t>(4 * kCols, 0));
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
