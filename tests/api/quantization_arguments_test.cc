// Bad calls with a quantised output: status, sentence, nothing written.
#include <gtest/gtest.h>

#include <cmath>

#include "api/fault.h"

namespace isonorm_test {
namespace {

// y in e4m3 with a dynamic scale for each row.
class QuantizedScene : public ForwardScene {
 public:
  QuantizedScene() {
    slots.emplace_back("scale", &scale);
    y.Set(kOutputByte, ISONORM_E4M3, {kRows, kCols});
    scale.Set(kOutputByte, ISONORM_F32, {kRows});
    quantization.struct_size = sizeof(quantization);
    quantization.scale_kind = ISONORM_SCALE_DYNAMIC;
    args.quantization = &quantization;
    args.scale = &scale.tensor;
  }
  void UseStatic(float value) {
    quantization.scale_kind = ISONORM_SCALE_STATIC;
    scale.Set(0, ISONORM_F32, {1});
    std::memcpy(scale.data(), &value, sizeof(value));
  }
  void UsePowersOfTwo(int64_t group_cols) {
    quantization.scale_kind = ISONORM_SCALE_POWER_OF_TWO;
    quantization.group_cols = group_cols;
    scale.Set(kOutputByte, ISONORM_E8M0, {kRows, group_cols == 0 ? 1 : kCols / group_cols});
  }

  Slot scale;
  isonorm_quantization quantization = {};
};
using S = QuantizedScene;

TEST(Quantization, WhatIsRight) {
  S dynamic, fixed, powers, bytes;
  EXPECT_EQ(dynamic.Run(), ISONORM_OK) << isonorm_last_error();
  fixed.UseStatic(0.5f);
  EXPECT_EQ(fixed.Run(), ISONORM_OK) << isonorm_last_error();
  powers.UsePowersOfTwo(32);
  EXPECT_EQ(powers.Run(), ISONORM_OK) << isonorm_last_error();
  bytes.UsePowersOfTwo(0);
  bytes.scale.Retype(ISONORM_U8);
  EXPECT_EQ(bytes.Run(), ISONORM_OK) << isonorm_last_error();
}

TEST(Quantization, Fields) {
  RunFaults<S>({
      {"kind unset", ISONORM_ERROR_QUANTIZATION, {"scale_kind", "0"}, [](S& s) { s.quantization.scale_kind = 0; }},
      {"kind 4", ISONORM_ERROR_QUANTIZATION, {"scale_kind", "4"}, [](S& s) { s.quantization.scale_kind = 4; }},
      {"rounded_to f32",
       ISONORM_ERROR_QUANTIZATION,
       {"rounded_to", "bits 32"},
       [](S& s) { s.quantization.rounded_to = ISONORM_F32; }},
      {"group 16", ISONORM_ERROR_QUANTIZATION, {"group_cols", "16"}, [](S& s) { s.quantization.group_cols = 16; }},
      {"group -32", ISONORM_ERROR_QUANTIZATION, {"group_cols", "-32"}, [](S& s) { s.quantization.group_cols = -32; }},
      {"group does not divide cols",
       ISONORM_ERROR_GROUPS,
       {"group_cols", "128", "64"},
       [](S& s) { s.quantization.group_cols = 128; }},
      {"group does not divide a group of the norm",
       ISONORM_ERROR_GROUPS,
       {"group_cols", "32", "16"},
       [](S& s) {
         s.args.groups = 4;
         s.args.rstd = nullptr;
         s.quantization.group_cols = 32;
       }},
      {"min_scale", ISONORM_ERROR_QUANTIZATION, {"min_scale", "1e-39"}, [](S& s) { s.quantization.min_scale = 1e-39; }},
      {"min_scale NaN", ISONORM_ERROR_QUANTIZATION, {"min_scale", "nan"}, [](S& s) { s.quantization.min_scale = NAN; }},
      {"min_scale negative", ISONORM_ERROR_QUANTIZATION, {"min_scale", "-1"}, [](S& s) { s.quantization.min_scale = -1; }},
      {"min_scale no power",
       ISONORM_ERROR_QUANTIZATION,
       {"min_scale", "3", "power of two"},
       [](S& s) {
         s.UsePowersOfTwo(32);
         s.quantization.min_scale = 3;
       }},
      {"scale_ub negative", ISONORM_ERROR_QUANTIZATION, {"scale_ub", "-1"}, [](S& s) { s.quantization.scale_ub = -1; }},
      {"scale_ub inf", ISONORM_ERROR_QUANTIZATION, {"scale_ub", "inf"}, [](S& s) { s.quantization.scale_ub = HUGE_VAL; }},
      {"scale_ub NaN", ISONORM_ERROR_QUANTIZATION, {"scale_ub", "nan"}, [](S& s) { s.quantization.scale_ub = NAN; }},
      {"group with a static scale",
       ISONORM_ERROR_QUANTIZATION,
       {"group_cols", "32", "static"},
       [](S& s) {
         s.UseStatic(1);
         s.quantization.group_cols = 32;
       }},
  });
}

TEST(Quantization, StaticScale) {
  RunFaults<S>({
      {"zero", ISONORM_ERROR_QUANTIZATION, {"scale", "0"}, [](S& s) { s.UseStatic(0); }},
      {"negative", ISONORM_ERROR_QUANTIZATION, {"scale", "-1"}, [](S& s) { s.UseStatic(-1); }},
      {"NaN", ISONORM_ERROR_QUANTIZATION, {"scale", "nan"}, [](S& s) { s.UseStatic(NAN); }},
      {"too small", ISONORM_ERROR_QUANTIZATION, {"scale", "2^-126"}, [](S& s) { s.UseStatic(0x1p-127f); }},
      {"too large", ISONORM_ERROR_QUANTIZATION, {"scale", "2^126"}, [](S& s) { s.UseStatic(0x1p127f); }},
      {"two of them",
       ISONORM_ERROR_SHAPE,
       {"scale", "2", "[1]"},
       [](S& s) {
         s.UseStatic(1);
         s.scale.Set(kInputByte, ISONORM_F32, {2});
       }},
      {"bf16",
       ISONORM_ERROR_DTYPE,
       {"scale is bf16"},
       [](S& s) {
         s.UseStatic(1);
         s.scale.Retype(ISONORM_BF16);
       }},
  });
}

TEST(Quantization, Tensors) {
  RunFaults<S>({
      {"no scale", ISONORM_ERROR_NULL, {"scale is null"}, [](S& s) { s.args.scale = nullptr; }},
      {"scale alone",
       ISONORM_ERROR_ARGUMENT,
       {"scale", "quantization is null"},
       [](S& s) {
         s.args.quantization = nullptr;
         s.y.Retype(ISONORM_F32);
         s.y.Set(kOutputByte, ISONORM_F32, {kRows, kCols});
       }},
      {"y of 8 bits alone",
       ISONORM_ERROR_DTYPE,
       {"y is e4m3", "quantization is null"},
       [](S& s) {
         s.args.quantization = nullptr;
         s.args.scale = nullptr;
       }},
      {"y in f32",
       ISONORM_ERROR_DTYPE,
       {"y is f32", "i8, e4m3 or e5m2"},
       [](S& s) {
         s.y.Set(kOutputByte, ISONORM_F32, {kRows, kCols});
       }},
      {"y in e8m0", ISONORM_ERROR_DTYPE, {"y is e8m0"}, [](S& s) { s.y.Retype(ISONORM_E8M0); }},
      {"no y", ISONORM_ERROR_ARGUMENT, {"quantization", "y is null"}, [](S& s) { s.args.y = nullptr; }},
      {"x in i8", ISONORM_ERROR_DTYPE, {"x is i8"}, [](S& s) { s.x.Retype(ISONORM_I8); }},
      {"weight in e4m3", ISONORM_ERROR_DTYPE, {"weight is e4m3"}, [](S& s) { s.weight.Retype(ISONORM_E4M3); }},
      {"too few scales",
       ISONORM_ERROR_SHAPE,
       {"scale.shape[0]", "2", "3"},
       [](S& s) { s.scale.Set(kOutputByte, ISONORM_F32, {kRows - 1}); }},
      {"a scale for each row, groups asked for",
       ISONORM_ERROR_RANK,
       {"scale.ndim", "group_cols"},
       [](S& s) { s.quantization.group_cols = 32; }},
      {"scales of another width",
       ISONORM_ERROR_SHAPE,
       {"scale.shape[1]", "4", "2"},
       [](S& s) {
         s.quantization.group_cols = 32;
         s.scale.Set(kOutputByte, ISONORM_F32, {kRows, 4});
       }},
      {"powers of two in f32",
       ISONORM_ERROR_DTYPE,
       {"scale is f32", "e8m0"},
       [](S& s) {
         s.UsePowersOfTwo(0);
         s.scale.Set(kOutputByte, ISONORM_F32, {kRows, 1});
       }},
      {"dynamic in e8m0", ISONORM_ERROR_DTYPE, {"scale is e8m0", "f32"}, [](S& s) { s.scale.Retype(ISONORM_E8M0); }},
      {"scale over rstd", ISONORM_ERROR_OVERLAP, {"scale", "rstd"}, [](S& s) { s.scale.tensor.data = s.rstd.tensor.data; }},
      {"scale over x", ISONORM_ERROR_OVERLAP, {"scale", "x"}, [](S& s) { s.scale.tensor.data = s.x.tensor.data; }},
      {"y over x", ISONORM_ERROR_OVERLAP, {"y", "x"}, [](S& s) { s.y.tensor.data = s.x.tensor.data; }},
      {"f64",
       ISONORM_ERROR_DTYPE,
       {"quantization", "f64"},
       [](S& s) {
         for (Slot* slot : {&s.x, &s.residual}) slot->Set(kInputByte, ISONORM_F64, {kRows, kCols});
       }},
  });
}

}  // namespace
}  // namespace isonorm_test
