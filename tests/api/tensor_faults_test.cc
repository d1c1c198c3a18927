// What can be wrong with a tensor by itself, tried on every tensor of every function.
#include <functional>

#include "api/double_scene.h"
#include "api/fault.h"

namespace isonorm_test {
namespace {

struct TensorFault {
  const char* name;
  isonorm_status status;
  const char* field;  // what the message names after the tensor
  const char* value;
  std::function<void(Slot&)> spoil;
};

const std::vector<TensorFault>& TensorFaults() {
  static const std::vector<TensorFault> faults = {
      {"rank 0", ISONORM_ERROR_RANK, ".ndim", "0", [](Slot& s) { s.tensor.ndim = 0; }},
      {"rank 8", ISONORM_ERROR_RANK, ".ndim", "8", [](Slot& s) { s.tensor.ndim = 8; }},
      {"rank negative", ISONORM_ERROR_RANK, ".ndim", "-3", [](Slot& s) { s.tensor.ndim = -3; }},
      {"no shape", ISONORM_ERROR_NULL, ".shape", "null", [](Slot& s) { s.tensor.shape = nullptr; }},
      {"no data", ISONORM_ERROR_NULL, ".data", "null", [](Slot& s) { s.tensor.data = nullptr; }},
      {"int16", ISONORM_ERROR_DTYPE, ".dtype", "bits 16",
       [](Slot& s) {
         s.Retype({ISONORM_CODE_INT, 16, 1});
       }},
      {"int32", ISONORM_ERROR_DTYPE, "", "i32", [](Slot& s) { s.Retype(ISONORM_I32); }},
      {"f8", ISONORM_ERROR_DTYPE, ".dtype", "bits 8", [](Slot& s) { s.tensor.dtype.bits = 8; }},
      {"bf32", ISONORM_ERROR_DTYPE, ".dtype", "code 4", [](Slot& s) { s.tensor.dtype.code = ISONORM_CODE_BFLOAT; }},
      {"2 lanes", ISONORM_ERROR_DTYPE, ".dtype", "lanes 2", [](Slot& s) { s.tensor.dtype.lanes = 2; }},
      {"f64 among f32", ISONORM_ERROR_DTYPE, "", "f64", [](Slot& s) { s.Retype(ISONORM_F64); }},
      {"on a GPU", ISONORM_ERROR_DEVICE, ".device", "2", [](Slot& s) { s.tensor.device.device_type = 2; }},
      {"negative size", ISONORM_ERROR_SHAPE, ".shape[0]", "-3", [](Slot& s) { s.shape[0] = -3; }},
      {"smallest int64 as size", ISONORM_ERROR_SHAPE, ".shape[0]", "-9223372036854775808",
       [](Slot& s) { s.shape[0] = INT64_MIN; }},
      {"last stride 2", ISONORM_ERROR_STRIDE, ".strides", "2", [](Slot& s) { s.strides[s.tensor.ndim - 1] = 2; }},
      {"last stride -1", ISONORM_ERROR_STRIDE, ".strides", "-1", [](Slot& s) { s.strides[s.tensor.ndim - 1] = -1; }},
      {"byte_offset behind the end of memory", ISONORM_ERROR_OVERFLOW, ".byte_offset", "9223372036854775807",
       [](Slot& s) { s.tensor.byte_offset = INT64_MAX; }},
      {"byte_offset that wraps", ISONORM_ERROR_OVERFLOW, ".byte_offset", "18446744073709551612",
       [](Slot& s) { s.tensor.byte_offset = UINT64_MAX - 3; }},
      {"bytes overflow", ISONORM_ERROR_OVERFLOW, "", "",
       [](Slot& s) { s.shape[0] = s.tensor.ndim == 1 ? INT64_MAX / 2 : INT64_MAX / kCols / 2; }},
      {"bytes overflow without strides", ISONORM_ERROR_OVERFLOW, "", "",
       [](Slot& s) {
         s.tensor.strides = nullptr;
         s.shape[0] = s.tensor.ndim == 1 ? INT64_MAX / 2 : INT64_MAX / kCols / 2;
       }},
  };
  return faults;
}

// Only tensors of two dimensions have a leading one.
const std::vector<TensorFault>& RowFaults() {
  static const std::vector<TensorFault> faults = {
      {"elements overflow", ISONORM_ERROR_OVERFLOW, "", "",
       [](Slot& s) {
         s.tensor.strides = nullptr;
         s.shape[0] = s.shape[1] = int64_t{1} << 33;
       }},
      {"strides times sizes overflow", ISONORM_ERROR_OVERFLOW, "", "", [](Slot& s) { s.strides[0] = int64_t{1} << 62; }},
      {"negative strides times sizes overflow", ISONORM_ERROR_OVERFLOW, "", "", [](Slot& s) { s.strides[0] = INT64_MIN; }},
      {"overflow behind an empty dimension", ISONORM_ERROR_OVERFLOW, "", "",
       [](Slot& s) {
         s.tensor.strides = nullptr;
         s.tensor.ndim = 3;
         s.shape[0] = 0;
         s.shape[1] = s.shape[2] = int64_t{1} << 33;
       }},
  };
  return faults;
}

template <class SceneType>
void TryEach(const std::vector<const char*>& tensors, void (*prepare)(SceneType&)) {
  for (const char* tensor : tensors) {
    for (const auto* faults : {&TensorFaults(), &RowFaults()}) {
      for (const TensorFault& fault : *faults) {
        SceneType scene;
        prepare(scene);
        Slot& slot = scene.slot(tensor);
        if (faults == &RowFaults() && slot.tensor.ndim == 1) continue;
        fault.spoil(slot);
        // x is what the types of the others are held against, so the message may name another tensor.
        const bool by_others = fault.spoil && std::string(fault.value) == "f64" && std::string(tensor) == "x";
        const std::string named = by_others ? "f64" : tensor + std::string(fault.field);
        EXPECT_EQ(Judge(scene, fault.status, {named, fault.value}), "") << tensor << ": " << fault.name;
      }
    }
  }
}

TEST(TensorFaults, Forward) {
  TryEach<ForwardScene>({"x", "weight", "bias", "residual", "y", "residual_out", "rstd"}, [](ForwardScene&) {});
}

TEST(TensorFaults, ForwardGate) {
  TryEach<ForwardScene>({"gate"}, [](ForwardScene& s) { s.UseGate(ISONORM_GATE_BEFORE); });
}

TEST(TensorFaults, Backward) {
  TryEach<BackwardScene>({"dy", "x", "weight", "residual", "bias", "rstd", "dresidual", "dx", "dweight", "dbias"},
                         [](BackwardScene&) {});
}

TEST(TensorFaults, LayerNorm) {
  TryEach<ForwardScene>({"x", "rstd", "mean"}, [](ForwardScene& s) { s.UseLayerNorm(); });
  TryEach<BackwardScene>({"x", "rstd", "mean"}, [](BackwardScene& s) { s.UseLayerNorm(); });
}

TEST(TensorFaults, BackwardFromResidualOut) {
  TryEach<BackwardScene>({"residual_out"}, [](BackwardScene& s) {
    s.args.residual = nullptr;
    s.args.residual_out = &s.residual_out.tensor;
  });
}

TEST(TensorFaults, BackwardGate) {
  TryEach<BackwardScene>({"gate", "dgate"}, [](BackwardScene& s) { s.UseGate(ISONORM_GATE_AFTER); });
}

TEST(TensorFaults, DoubleBackward) {
  TryEach<DoubleScene>({"dy", "x", "weight", "rstd", "ddx", "ddweight", "dx", "dweight", "ddy"}, [](DoubleScene&) {});
}

TEST(TensorFaults, Rms) {
  TryEach<RmsScene>({"x", "rms"}, [](RmsScene& s) { s.function = RmsScene::kRms; });
}

TEST(TensorFaults, RmsBackward) {
  TryEach<RmsScene>({"x", "drms", "dx"}, [](RmsScene& s) { s.function = RmsScene::kBackward; });
}

TEST(TensorFaults, RmsPenalty) {
  TryEach<RmsScene>({"x", "penalty", "dx"}, [](RmsScene& s) { s.function = RmsScene::kPenalty; });
}

// Of one value, or one for each row, `expand` makes a tensor whose last stride is 0. Inputs may be such, outputs not.
template <class SceneType>
void LastStride0(const std::vector<const char*>& inputs, const std::vector<const char*>& outputs, void (*prepare)(SceneType&)) {
  for (const char* input : inputs) {
    SceneType scene, expanded;
    prepare(scene);
    prepare(expanded);
    Slot& slot = scene.slot(input);
    slot.strides[slot.tensor.ndim - 1] = 0;  // all bytes of an input are alike
    ASSERT_EQ(expanded.Run(), ISONORM_OK) << isonorm_last_error();
    EXPECT_EQ(scene.Run(), ISONORM_OK) << input << ": " << isonorm_last_error();
    for (const auto& [name, output] : expanded.slots) {
      if (name != std::string("workspace")) EXPECT_EQ(scene.slot(name).bytes, output->bytes) << input << ": " << name;
    }
  }
  for (const char* output : outputs) {
    SceneType scene;
    prepare(scene);
    Slot& slot = scene.slot(output);
    slot.strides[slot.tensor.ndim - 1] = 0;
    EXPECT_EQ(Judge(scene, ISONORM_ERROR_STRIDE, {output, "0"}), "") << output;
  }
}

TEST(TensorFaults, LastStride0) {
  LastStride0<ForwardScene>({"x", "weight", "bias", "residual"}, {"y", "residual_out", "rstd"}, [](ForwardScene&) {});
  LastStride0<ForwardScene>({"gate"}, {}, [](ForwardScene& s) { s.UseGate(ISONORM_GATE_BEFORE); });
  LastStride0<ForwardScene>({}, {"mean", "rstd"}, [](ForwardScene& s) { s.UseLayerNorm(); });
  LastStride0<BackwardScene>({"mean", "rstd"}, {}, [](BackwardScene& s) { s.UseLayerNorm(); });
  LastStride0<BackwardScene>({"dy", "x", "weight", "residual", "bias", "rstd", "dresidual"}, {"dx", "dweight", "dbias"},
                             [](BackwardScene&) {});
  LastStride0<BackwardScene>({"residual_out"}, {}, [](BackwardScene& s) {
    s.args.residual = nullptr;
    s.args.residual_out = &s.residual_out.tensor;
  });
  LastStride0<BackwardScene>({"gate"}, {"dgate"}, [](BackwardScene& s) { s.UseGate(ISONORM_GATE_AFTER); });
  LastStride0<DoubleScene>({"dy", "x", "weight", "rstd", "ddx", "ddweight"}, {"dx", "dweight", "ddy"}, [](DoubleScene&) {});
  LastStride0<RmsScene>({"x"}, {"rms"}, [](RmsScene&) {});
  LastStride0<RmsScene>({"x", "drms"}, {"dx"}, [](RmsScene& s) { s.function = RmsScene::kBackward; });
  LastStride0<RmsScene>({"x"}, {"penalty", "dx"}, [](RmsScene& s) { s.function = RmsScene::kPenalty; });
  ForwardScene over;  // one element of x lies under all of y
  over.x.strides[1] = 0;
  over.y.tensor.data = over.x.data();
  EXPECT_EQ(Judge(over, ISONORM_ERROR_OVERLAP, {"y overlaps x"}), "");
  BackwardScene groups;
  groups.args.groups = 4;
  groups.rstd.Set(kInputByte, ISONORM_F32, {kRows, 4});
  groups.rstd.strides[1] = 0;
  EXPECT_EQ(Judge(groups, ISONORM_ERROR_STRIDE, {"rstd.strides[1]", "0"}), "");
}

}  // namespace
}  // namespace isonorm_test
