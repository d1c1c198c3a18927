// isonorm_combine_gradients: every fault of parts, of their rows and of the gradient.
#include "api/fault.h"

namespace isonorm_test {
namespace {

class CombineScene : public Scene {
 public:
  CombineScene() {
    slots = {{"parts", &parts}, {"gradient", &gradient}};
    parts.Set(kInputByte, ISONORM_F32, {3, kCols});
    gradient.Set(kOutputByte, ISONORM_F32, {kCols});
  }
  isonorm_status Run() override { return isonorm_combine_gradients(args_pointer); }

  Slot parts, gradient;
  isonorm_combine_args args = {sizeof(args), &parts.tensor, &gradient.tensor, 150, 64, 0, 0, nullptr, nullptr};
  const isonorm_combine_args* args_pointer = &args;
};

TEST(CombineArguments, Faults) {
  using S = CombineScene;
  RunFaults<S>({
      {"args", ISONORM_ERROR_NULL, {"args", "null"}, [](S& s) { s.args_pointer = nullptr; }},
      {"parts", ISONORM_ERROR_NULL, {"parts", "null"}, [](S& s) { s.args.parts = nullptr; }},
      {"gradient", ISONORM_ERROR_NULL, {"gradient", "null"}, [](S& s) { s.args.gradient = nullptr; }},
      {"flags", ISONORM_ERROR_ARGUMENT, {"flags", "2"}, [](S& s) { s.args.flags = 2; }},
      {"reserved", ISONORM_ERROR_ARGUMENT, {"reserved", "1"}, [](S& s) { s.args.reserved = 1; }},
      {"stream", ISONORM_ERROR_ARGUMENT, {"stream", "CPU"}, [](S& s) { s.args.stream = &s; }},
      {"rows", ISONORM_ERROR_SHAPE, {"rows", "-150"}, [](S& s) { s.args.rows = -150; }},
      {"part_rows of no rows", ISONORM_ERROR_SPLIT, {"part_rows", "0", "32"}, [](S& s) { s.args.part_rows = 0; }},
      {"part_rows below a block", ISONORM_ERROR_SPLIT, {"part_rows", "16", "32"}, [](S& s) { s.args.part_rows = 16; }},
      {"part_rows of three blocks",
       ISONORM_ERROR_SPLIT,
       {"part_rows", "96", "power of two"},
       [](S& s) { s.args.part_rows = 96; }},
      {"part_rows negative", ISONORM_ERROR_SPLIT, {"part_rows", "-64"}, [](S& s) { s.args.part_rows = -64; }},
      {"part_rows the least number",
       ISONORM_ERROR_SPLIT,
       {"part_rows", "-9223372036854775808"},
       [](S& s) { s.args.part_rows = INT64_MIN; }},
      {"too many rows", ISONORM_ERROR_SPLIT, {"parts.shape[0]", "3", "4", "193", "64"}, [](S& s) { s.args.rows = 193; }},
      {"too few rows", ISONORM_ERROR_SPLIT, {"parts.shape[0]", "3", "2", "128"}, [](S& s) { s.args.rows = 128; }},
      {"no rows", ISONORM_ERROR_SPLIT, {"parts.shape[0]", "3", "0"}, [](S& s) { s.args.rows = 0; }},
      {"parts as a vector",
       ISONORM_ERROR_RANK,
       {"parts.ndim", "1", "2"},
       [](S& s) {
         s.parts.tensor.ndim = 1;
         s.parts.strides[0] = 1;
       }},
      {"parts rounded", ISONORM_ERROR_DTYPE, {"parts", "bf16", "f32 or f64"}, [](S& s) { s.parts.Retype(ISONORM_BF16); }},
      {"no columns", ISONORM_ERROR_SHAPE, {"parts.shape[1]", "0"}, [](S& s) { s.parts.shape[1] = s.gradient.shape[0] = 0; }},
      {"gradient narrower", ISONORM_ERROR_SHAPE, {"gradient", "32", "64"}, [](S& s) { s.gradient.shape[0] = 32; }},
      {"gradient as f64",
       ISONORM_ERROR_DTYPE,
       {"gradient", "f64"},
       [](S& s) { s.gradient.Set(kOutputByte, ISONORM_F64, {kCols}); }},
      {"gradient of f64 parts as f32",
       ISONORM_ERROR_DTYPE,
       {"gradient", "f32", "f64"},
       [](S& s) {
         s.parts.Set(kInputByte, ISONORM_F64, {3, kCols});
       }},
      {"gradient over a part",
       ISONORM_ERROR_OVERLAP,
       {"gradient", "parts"},
       [](S& s) { s.gradient.tensor.data = s.parts.data(); }},
      {"executor",
       ISONORM_ERROR_EXECUTOR,
       {"executor.parallel_for", "null"},
       [](S& s) {
         s.args.executor = &s.executor;
         s.executor.parallel_for = nullptr;
       }},
  });
}

TEST(CombineArguments, WhatIsAllowed) {
  CombineScene scene;
  for (const int64_t rows : {129, 150, 192}) {  // the last part may have any number of rows
    scene.args.rows = rows;
    EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  }
  for (const isonorm_dtype type : {ISONORM_BF16, ISONORM_F16}) {
    scene.gradient.Retype(type);
    EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  }
  scene.parts.shape[0] = 0;
  scene.args.rows = 0;
  EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
}

// A sum over rows is rounded to the type of its parameter, or not at all; nothing between.
TEST(CombineArguments, SumsOfTheComputeType) {
  for (const char* name : {"dweight", "dbias"}) {
    BackwardScene scene;
    scene.weight.Retype(ISONORM_F16);
    scene.bias.Retype(ISONORM_F16);
    scene.dweight.Retype(ISONORM_F16);
    scene.dbias.Retype(ISONORM_F16);
    EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
    scene.slot(name).Retype(ISONORM_F32);
    EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
    scene.slot(name).Retype(ISONORM_BF16);
    EXPECT_EQ(Judge(scene, ISONORM_ERROR_DTYPE, {name, "bf16", "f16", "f32"}), "");
  }
}

}  // namespace
}  // namespace isonorm_test
