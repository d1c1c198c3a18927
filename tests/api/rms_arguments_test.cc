// isonorm_rms, isonorm_rms_backward and isonorm_rms_penalty.
#include <cmath>

#include "api/fault.h"

namespace isonorm_test {
namespace {

using S = RmsScene;

constexpr RmsScene::Function kAll[] = {RmsScene::kRms, RmsScene::kBackward, RmsScene::kPenalty};

TEST(RmsArguments, Null) {
  RunFaults<S>({
      {"rms of no x", ISONORM_ERROR_NULL, {"x", "null"}, [](S& s) { s.x_pointer = nullptr; }},
      {"rms to nowhere", ISONORM_ERROR_NULL, {"rms", "null"}, [](S& s) { s.rms_pointer = nullptr; }},
      {"backward of no x",
       ISONORM_ERROR_NULL,
       {"x", "null"},
       [](S& s) {
         s.function = S::kBackward;
         s.x_pointer = nullptr;
       }},
      {"backward of no drms",
       ISONORM_ERROR_NULL,
       {"drms", "null"},
       [](S& s) {
         s.function = S::kBackward;
         s.drms_pointer = nullptr;
       }},
      {"backward to nowhere",
       ISONORM_ERROR_NULL,
       {"dx", "null"},
       [](S& s) {
         s.function = S::kBackward;
         s.dx_pointer = nullptr;
       }},
      {"penalty of no x",
       ISONORM_ERROR_NULL,
       {"x", "null"},
       [](S& s) {
         s.function = S::kPenalty;
         s.x_pointer = nullptr;
       }},
      {"penalty to nowhere",
       ISONORM_ERROR_ARGUMENT,
       {"penalty", "dx", "null"},
       [](S& s) {
         s.function = S::kPenalty;
         s.penalty_pointer = s.dx_pointer = nullptr;
       }},
  });
}

TEST(RmsArguments, LambdaAndFlags) {
  RunFaults<S>({
      {"lambda NaN",
       ISONORM_ERROR_ARGUMENT,
       {"lambda", "nan"},
       [](S& s) {
         s.function = S::kPenalty;
         s.lambda = NAN;
       }},
      {"lambda inf",
       ISONORM_ERROR_ARGUMENT,
       {"lambda", "inf"},
       [](S& s) {
         s.function = S::kPenalty;
         s.lambda = HUGE_VAL;
       }},
      {"unknown flag",
       ISONORM_ERROR_ARGUMENT,
       {"flags", "2"},
       [](S& s) {
         s.function = S::kPenalty;
         s.flags = 2;
       }},
      {"accumulate over x",
       ISONORM_ERROR_OVERLAP,
       {"dx", "x"},
       [](S& s) {
         s.function = S::kPenalty;
         s.flags = ISONORM_ACCUMULATE;
         s.dx.tensor.data = s.x.data();
       }},
  });
}

TEST(RmsArguments, Executor) {
  for (const RmsScene::Function function : kAll) {
    S scene;
    scene.function = function;
    scene.executor_pointer = &scene.executor;
    EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
    scene.executor.concurrency = -1;
    EXPECT_EQ(Judge(scene, ISONORM_ERROR_EXECUTOR, {"executor.concurrency", "-1"}), "") << function;
  }
}

TEST(RmsArguments, Shapes) {
  RunFaults<S>({
      {"rms with one row too many", ISONORM_ERROR_SHAPE, {"rms", "4", "3"}, [](S& s) { s.rms.shape[0] = 4; }},
      {"rms as bf16", ISONORM_ERROR_DTYPE, {"rms", "bf16", "f32"}, [](S& s) { s.rms.Retype(ISONORM_BF16); }},
      {"drms with one row",
       ISONORM_ERROR_SHAPE,
       {"drms", "1", "3"},
       [](S& s) {
         s.function = S::kBackward;
         s.drms.shape[0] = 1;
       }},
      {"dx narrower",
       ISONORM_ERROR_SHAPE,
       {"dx", "32", "64"},
       [](S& s) {
         s.function = S::kBackward;
         s.dx.shape[1] = 32;
       }},
      {"dx of another rank",
       ISONORM_ERROR_RANK,
       {"dx", "1"},
       [](S& s) {
         s.function = S::kPenalty;
         s.dx.Set(kOutputByte, ISONORM_F32, {kRows * kCols});
       }},
      {"dx with rows in one place",
       ISONORM_ERROR_STRIDE,
       {"dx", "0"},
       [](S& s) {
         s.function = S::kPenalty;
         s.dx.strides[0] = 0;
       }},
  });
  for (const RmsScene::Function function : kAll) {
    S scene;
    scene.function = function;
    scene.x.shape[1] = scene.dx.shape[1] = 0;
    EXPECT_EQ(Judge(scene, ISONORM_ERROR_SHAPE, {"x.shape[1]", "0"}), "") << "width 0, " << function;
  }
}

TEST(RmsArguments, GradientsHaveATypeOfTheirOwn) {
  for (const RmsScene::Function function : {RmsScene::kBackward, RmsScene::kPenalty}) {
    S scene;
    scene.function = function;
    scene.dx.Retype(ISONORM_BF16);
    EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  }
}

TEST(RmsArguments, AVectorGivesOneValue) {
  S scene;
  scene.x.Set(kInputByte, ISONORM_F32, {kCols});
  scene.rms.Set(kOutputByte, ISONORM_F32, {1});
  EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  scene.rms.shape[0] = 2;
  EXPECT_EQ(Judge(scene, ISONORM_ERROR_SHAPE, {"rms", "2", "1"}), "");
}

}  // namespace
}  // namespace isonorm_test
