// Sizes and types that are fine alone but do not fit together. No shape is ever broadcast.
#include <isonorm/isonorm.hpp>

#include "api/fault.h"

namespace isonorm_test {
namespace {

using F = ForwardScene;
using B = BackwardScene;

TEST(Shapes, AVectorOfAnotherWidthIsNeverBroadcast) {
  for (const int64_t width : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{32}, kCols - 1, kCols + 1, 2 * kCols, kRows}) {
    for (const char* name : {"weight", "bias"}) {
      F forward;
      forward.slot(name).shape[0] = width;
      EXPECT_EQ(Judge(forward, ISONORM_ERROR_SHAPE, {name, std::to_string(width), "64"}), "") << name << " " << width;
    }
    for (const char* name : {"weight", "bias", "dweight", "dbias"}) {
      B backward;
      backward.slot(name).shape[0] = width;
      EXPECT_EQ(Judge(backward, ISONORM_ERROR_SHAPE, {name, std::to_string(width), "64"}), "") << name << " " << width;
    }
  }
}

// Backward reads residual_out in place of x, and then it is of no matter that x repeats a value.
TEST(Shapes, AnXThatRepeatsBesideResidualOut) {
  const std::vector<float> stored = {1, -2, 3, 4, 5, -6, 7, 8}, dy = {1, 2, 1, -1, 3, 1, 2, 1}, one = {1};
  std::vector<float> wanted(8), dx(8);
  isonorm::backward_args args{.dy = {dy, 1, 8}, .residual_out = {stored, 1, 8}, .dx = {wanted, 1, 8}};
  isonorm::backward(isonorm::contracts::torch, 1e-6, args);
  args.x = {one.data(), {1, 8}, {0, 0}};
  args.dx = {dx, 1, 8};
  isonorm::backward(isonorm::contracts::torch, 1e-6, args);
  EXPECT_EQ(dx, wanted);
}

// The bytes of the outputs with this vector in another shape and other strides; its own are compact.
template <class SceneType>
void SameInShape(const char* name, int64_t groups, std::initializer_list<int64_t> shape, std::vector<int64_t> strides = {}) {
  SceneType compact, shaped;
  for (SceneType* scene : {&compact, &shaped}) {
    scene->args.groups = groups;
    scene->rstd.Set(kInputByte, ISONORM_F32, {kRows, groups});
    for (size_t i = 0; i < 4 * kCols; ++i) scene->slot(name).data()[i] = static_cast<uint8_t>(i % 4 == 2 ? i / 4 : 0x3d);
  }
  Slot& slot = shaped.slot(name);
  const std::vector<uint8_t> bytes = slot.bytes;
  slot.Set(kInputByte, ISONORM_F32, shape);
  if (!strides.empty()) {  // wider than the memory of a vector: every element as `compact` has it
    slot.bytes.assign(64 * Slot::kMargin, kInputByte);
    slot.tensor.data = slot.data();
    for (size_t i = 0; i < strides.size(); ++i) slot.strides[i] = strides[i];
    for (int64_t g = 0; g < slot.shape[0]; ++g) {
      for (int64_t j = 0; j < slot.shape[1]; ++j) {
        const int64_t column = strides[1] == 0 ? 0 : j, group = strides[0] == 0 ? 0 : g;
        const auto from = static_cast<size_t>(group * slot.shape[1] + column);
        uint8_t* const to = slot.data() + 4 * (g * strides[0] + j * strides[1]);
        std::memcpy(to, bytes.data() + Slot::kMargin + 4 * from, 4);
        if (strides[1] == 0) std::memcpy(compact.slot(name).data() + 4 * (g * slot.shape[1] + j), to, 4);
      }
    }
  } else {
    slot.bytes = bytes;
    slot.tensor.data = slot.data();
  }
  if constexpr (requires(SceneType & s) { s.Measure(); }) {
    ASSERT_EQ(compact.Measure(), ISONORM_OK) << isonorm_last_error();
    ASSERT_EQ(shaped.Measure(), ISONORM_OK) << isonorm_last_error();
  }
  ASSERT_EQ(compact.Run(), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(shaped.Run(), ISONORM_OK) << name << ": " << isonorm_last_error();
  for (const auto& [its_name, output] : compact.slots) {
    const bool compared = its_name != std::string("workspace") && (its_name != std::string(name) || strides.empty());
    if (compared) EXPECT_EQ(shaped.slot(its_name).bytes, output->bytes) << its_name;
  }
}

TEST(Shapes, AVectorMayHaveTheShapeOfOneRowOrOfTheGroups) {
  for (const char* name : {"weight", "bias"}) {
    for (const int64_t groups : {1, 4}) {
      SameInShape<F>(name, groups, {1, kCols});
      SameInShape<F>(name, groups, {1, 1, kCols});
      SameInShape<F>(name, groups, {1, kCols}, {1, 0});
    }
    SameInShape<F>(name, 4, {4, kCols / 4});
    SameInShape<F>(name, 4, {4, kCols / 4}, {kCols / 4 + 3, 1});
    SameInShape<F>(name, 4, {4, kCols / 4}, {1, 0});
    SameInShape<F>(name, 4, {4, kCols / 4}, {0, 0});
  }
  for (const char* name : {"weight", "bias", "dweight", "dbias"}) {
    SameInShape<B>(name, 1, {1, kCols});
    SameInShape<B>(name, 4, {4, kCols / 4});
  }
  for (const char* name : {"weight", "bias"}) {
    F rows, heads;
    rows.slot(name).Set(kInputByte, ISONORM_F32, {kRows, kCols});
    EXPECT_EQ(Judge(rows, ISONORM_ERROR_SHAPE, {name, "shape[0]", "3", "groups = heads"}), "") << name;
    heads.args.groups = 4;
    heads.args.rstd = nullptr;
    heads.slot(name).Set(kInputByte, ISONORM_F32, {4, kCols});
    EXPECT_EQ(Judge(heads, ISONORM_ERROR_SHAPE, {name, "shape[1]", "64", "16"}), "") << name;
    heads.slot(name).Set(kInputByte, ISONORM_F32, {2, kCols / 2});
    EXPECT_EQ(Judge(heads, ISONORM_ERROR_SHAPE, {name, "shape[0]", "2"}), "") << name;
  }
  B apart;
  apart.args.groups = 4;
  apart.args.rstd = nullptr;
  apart.dweight.Set(kOutputByte, ISONORM_F32, {4, kCols / 4});
  apart.dweight.strides[0] = kCols / 4 + 1;
  EXPECT_EQ(Judge(apart, ISONORM_ERROR_STRIDE, {"dweight.strides[0]", "17", "16"}), "");
}

template <class SceneType>
void RowsMustBeLikeX(const std::vector<const char*>& tensors, void (*prepare)(SceneType&)) {
  for (const char* name : tensors) {
    for (const int dimension : {0, 1}) {
      for (const int64_t size : {int64_t{0}, int64_t{1}, int64_t{2}}) {
        SceneType scene;
        prepare(scene);
        scene.slot(name).shape[dimension] = size;
        EXPECT_EQ(Judge(scene, ISONORM_ERROR_SHAPE, {name, std::to_string(size)}), "")
            << name << " " << dimension << " " << size;
      }
    }
    SceneType vector, cube;
    prepare(vector);
    vector.slot(name).Set(kInputByte, ISONORM_F32, {kRows * kCols});
    EXPECT_EQ(Judge(vector, ISONORM_ERROR_RANK, {name, "ndim", "1"}), "") << name;
    prepare(cube);
    cube.slot(name).Set(kInputByte, ISONORM_F32, {1, kRows, kCols});
    EXPECT_EQ(Judge(cube, ISONORM_ERROR_RANK, {name, "ndim", "3"}), "") << name;
  }
}

TEST(Shapes, RowsMustBeLikeX) {
  RowsMustBeLikeX<F>({"residual", "y", "residual_out"}, [](F&) {});
  RowsMustBeLikeX<F>({"gate"}, [](F& s) { s.UseGate(ISONORM_GATE_AFTER); });
  RowsMustBeLikeX<B>({"dy", "residual", "dresidual", "dx"}, [](B&) {});
  RowsMustBeLikeX<B>({"gate", "dgate"}, [](B& s) { s.UseGate(ISONORM_GATE_BEFORE); });
  RowsMustBeLikeX<B>({"residual_out"}, [](B& s) {
    s.args.residual = nullptr;
    s.args.residual_out = &s.residual_out.tensor;
  });
}

TEST(Shapes, RstdHasOneEntryPerGroup) {
  RunFaults<F>({
      {"one row too few", ISONORM_ERROR_SHAPE, {"rstd", "2", "3"}, [](F& s) { s.rstd.shape[0] = 2; }},
      {"as wide as x",
       ISONORM_ERROR_SHAPE,
       {"rstd", "64"},
       [](F& s) {
         s.rstd.Set(kOutputByte, ISONORM_F32, {kRows, kCols});
       }},
      {"groups, but no dimension for them", ISONORM_ERROR_RANK, {"rstd", "1"}, [](F& s) { s.args.groups = 4; }},
      {"another number of groups",
       ISONORM_ERROR_SHAPE,
       {"rstd", "2", "4"},
       [](F& s) {
         s.args.groups = 4;
         s.rstd.Set(kOutputByte, ISONORM_F32, {kRows, 2});
       }},
      {"f64 beside f32", ISONORM_ERROR_DTYPE, {"rstd", "f64", "f32"}, [](F& s) { s.rstd.Retype(ISONORM_F64); }},
  });
  RunFaults<B>({
      {"one row too few", ISONORM_ERROR_SHAPE, {"rstd", "2", "3"}, [](B& s) { s.rstd.shape[0] = 2; }},
      {"groups, but no dimension for them", ISONORM_ERROR_RANK, {"rstd", "1"}, [](B& s) { s.args.groups = 4; }},
      {"f64 beside f32", ISONORM_ERROR_DTYPE, {"rstd", "f64", "f32"}, [](B& s) { s.rstd.Retype(ISONORM_F64); }},
  });
  F grouped, one_group;
  grouped.args.groups = 4;
  grouped.rstd.Set(kOutputByte, ISONORM_F32, {kRows, 4});
  EXPECT_EQ(grouped.Run(), ISONORM_OK) << isonorm_last_error();
  one_group.rstd.Set(kOutputByte, ISONORM_F32, {kRows, 1});
  EXPECT_EQ(one_group.Run(), ISONORM_OK) << isonorm_last_error();
}

TEST(Shapes, GradientsHaveTheTypeOfWhatTheyDerive) {
  RunFaults<B>({
      {"dx", ISONORM_ERROR_DTYPE, {"dx", "bf16", "f32"}, [](B& s) { s.dx.Retype(ISONORM_BF16); }},
      {"dweight", ISONORM_ERROR_DTYPE, {"dweight", "f16", "f32"}, [](B& s) { s.dweight.Retype(ISONORM_F16); }},
      {"dbias", ISONORM_ERROR_DTYPE, {"dbias", "bf16", "f32"}, [](B& s) { s.dbias.Retype(ISONORM_BF16); }},
      {"dgate",
       ISONORM_ERROR_DTYPE,
       {"dgate", "f16", "f32"},
       [](B& s) {
         s.UseGate(ISONORM_GATE_AFTER);
         s.dgate.Retype(ISONORM_F16);
       }},
  });
}

TEST(Shapes, ResidualOutHasTheTypeOfTheResidual) {
  RunFaults<F>({
      {"bf16 for f32",
       ISONORM_ERROR_DTYPE,
       {"residual_out is bf16", "f32", "the type of residual"},
       [](F& s) { s.residual_out.Retype(ISONORM_BF16); }},
      {"f32 for f16, although x is f32",
       ISONORM_ERROR_DTYPE,
       {"residual_out is f32", "f16", "the type of residual"},
       [](F& s) { s.residual.Retype(ISONORM_F16); }},
      {"f16 for bf16",
       ISONORM_ERROR_DTYPE,
       {"residual_out is f16", "bf16", "the type of residual"},
       [](F& s) {
         s.residual.Retype(ISONORM_BF16);
         s.residual_out.Retype(ISONORM_F16);
       }},
  });
  F both;
  both.residual.Retype(ISONORM_BF16);
  both.residual_out.Retype(ISONORM_BF16);
  EXPECT_EQ(both.Run(), ISONORM_OK) << isonorm_last_error();
}

TEST(Shapes, F64MixesWithNothing) {
  for (const char* name : {"weight", "bias", "residual", "residual_out", "rstd"}) {
    F scene;
    for (auto& [its_name, slot] : scene.slots) slot->Set(slot->bytes[0], ISONORM_F64, {kRows, kCols});
    for (const char* vector : {"weight", "bias"}) scene.slot(vector).Set(kInputByte, ISONORM_F64, {kCols});
    scene.rstd.Set(kOutputByte, ISONORM_F64, {kRows});
    ASSERT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
    scene.y.Retype(ISONORM_F32);
    ASSERT_EQ(scene.Run(), ISONORM_OK) << "y alone may be f32: " << isonorm_last_error();
    scene.y.Retype(ISONORM_BF16);
    EXPECT_EQ(Judge(scene, ISONORM_ERROR_DTYPE, {"y", "bf16", "f64"}), "");
    scene.y.Retype(ISONORM_F64);
    scene.slot(name).Retype(ISONORM_F32);
    EXPECT_EQ(Judge(scene, ISONORM_ERROR_DTYPE, {name, "f32", "f64"}), "") << name;
  }
}

TEST(Shapes, F64MixesWithNothingBackward) {
  for (const char* name : {"dy", "weight", "residual", "bias", "rstd", "dresidual", "dx", "dweight", "dbias"}) {
    B scene;
    for (auto& [its_name, slot] : scene.slots) slot->Set(slot->bytes[0], ISONORM_F64, {kRows, kCols});
    for (const char* vector : {"weight", "bias", "dweight", "dbias"}) scene.slot(vector).Set(kInputByte, ISONORM_F64, {kCols});
    scene.rstd.Set(kInputByte, ISONORM_F64, {kRows});
    ASSERT_EQ(scene.Measure(), ISONORM_OK) << isonorm_last_error();
    ASSERT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
    scene.slot(name).Retype(ISONORM_F32);
    EXPECT_EQ(Judge(scene, ISONORM_ERROR_DTYPE, {name, "f32", "f64"}), "") << name;
  }
}

TEST(Shapes, AGateHasNoF64) {
  B backward;
  backward.UseGate(ISONORM_GATE_AFTER);
  backward.args.weight = backward.args.bias = backward.args.rstd = backward.args.dweight = backward.args.dbias = nullptr;
  for (Slot* slot : {&backward.x, &backward.dy, &backward.gate, &backward.dx, &backward.dgate}) {
    slot->Set(kInputByte, ISONORM_F64, {kRows, kCols});
  }
  EXPECT_EQ(Judge(backward, ISONORM_ERROR_DTYPE, {"gate", "f64"}), "");
  F scene;
  scene.UseGate(ISONORM_GATE_AFTER);
  for (Slot* slot : {&scene.x, &scene.gate, &scene.y}) slot->Set(kInputByte, ISONORM_F64, {kRows, kCols});
  scene.args.weight = scene.args.bias = scene.args.rstd = nullptr;
  EXPECT_EQ(Judge(scene, ISONORM_ERROR_DTYPE, {"gate", "f64"}), "");
}

TEST(Shapes, OutputsMustNotOverlapThemselves) {
  RunFaults<F>({
      {"y, stride 0", ISONORM_ERROR_STRIDE, {"y", "0"}, [](F& s) { s.y.strides[0] = 0; }},
      {"y, stride one short of a row", ISONORM_ERROR_STRIDE, {"y", "252", "256"}, [](F& s) { s.y.strides[0] = kCols - 1; }},
      {"y, negative stride one short", ISONORM_ERROR_STRIDE, {"y"}, [](F& s) { s.y.strides[0] = 1 - kCols; }},
      {"residual_out, stride 0", ISONORM_ERROR_STRIDE, {"residual_out", "0"}, [](F& s) { s.residual_out.strides[0] = 0; }},
      {"rstd, stride 0", ISONORM_ERROR_STRIDE, {"rstd", "0"}, [](F& s) { s.rstd.strides[0] = 0; }},
  });
  RunFaults<B>({
      {"dx, stride 0", ISONORM_ERROR_STRIDE, {"dx", "0"}, [](B& s) { s.dx.strides[0] = 0; }},
      {"dgate, stride 0",
       ISONORM_ERROR_STRIDE,
       {"dgate", "0"},
       [](B& s) {
         s.UseGate(ISONORM_GATE_AFTER);
         s.dgate.strides[0] = 0;
       }},
  });
  // Inputs may: this is what an expanded tensor is, and the gradient of a sum.
  F forward;
  forward.x.strides[0] = forward.residual.strides[0] = 0;
  EXPECT_EQ(forward.Run(), ISONORM_OK) << isonorm_last_error();
  B backward;
  backward.dy.strides[0] = 0;
  EXPECT_EQ(backward.Run(), ISONORM_OK) << isonorm_last_error();
}

TEST(Shapes, ARowHasAtLeastOneValue) {
  F forward;
  for (Slot* slot : {&forward.x, &forward.residual, &forward.y, &forward.residual_out}) slot->shape[1] = 0;
  forward.weight.shape[0] = forward.bias.shape[0] = 0;
  EXPECT_EQ(Judge(forward, ISONORM_ERROR_SHAPE, {"x.shape[1]", "0"}), "");
}

}  // namespace
}  // namespace isonorm_test
