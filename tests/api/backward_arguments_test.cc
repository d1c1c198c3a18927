// isonorm_backward and isonorm_backward_workspace: which tensors go together, flags, workspace, and all that forward checks.
#include <cmath>

#include "api/fault.h"

namespace isonorm_test {
namespace {

using S = BackwardScene;

// The same call as a question about its workspace: the same faults, and the answer stays unwritten.
class WorkspaceScene : public BackwardScene {
 public:
  isonorm_status Run() override { return isonorm_backward_workspace(contract_pointer, eps, args_pointer, bytes_pointer); }
  std::vector<uint8_t> Picture() const override {
    std::vector<uint8_t> picture = BackwardScene::Picture();
    Append(&picture, &bytes, sizeof(bytes));
    return picture;
  }
  size_t bytes = 12345;
  size_t* bytes_pointer = &bytes;
};

void RunBoth(const std::vector<Fault<S>>& faults) {
  RunFaults<S>(faults);
  for (const Fault<S>& fault : faults) {
    WorkspaceScene scene;
    fault.spoil(scene);
    EXPECT_EQ(Judge(scene, fault.status, fault.says), "") << "workspace: " << fault.name;
  }
}

TEST(BackwardArguments, Null) {
  RunBoth({
      {"contract", ISONORM_ERROR_NULL, {"contract", "null"}, [](S& s) { s.contract_pointer = nullptr; }},
      {"args", ISONORM_ERROR_NULL, {"args", "null"}, [](S& s) { s.args_pointer = nullptr; }},
      {"dy", ISONORM_ERROR_NULL, {"dy", "null"}, [](S& s) { s.args.dy = nullptr; }},
      {"x", ISONORM_ERROR_NULL, {"x", "null"}, [](S& s) { s.args.x = nullptr; }},
      {"x and dx",
       ISONORM_ERROR_NULL,
       {"x", "dx", "null"},
       [](S& s) {
         s.args.x = s.args.dx = s.args.residual = nullptr;
         s.args.residual_out = &s.residual_out.tensor;
       }},
  });
}

TEST(BackwardArguments, Scalars) {
  RunBoth({
      {"contract", ISONORM_ERROR_CONTRACT, {"eps_place", "9"}, [](S& s) { s.contract.eps_place = 9; }},
      {"stream", ISONORM_ERROR_ARGUMENT, {"stream", "CPU"}, [](S& s) { s.args.stream = &s; }},
      {"mean of a norm without one",
       ISONORM_ERROR_ARGUMENT,
       {"mean", "ISONORM_STATISTIC_RMS"},
       [](S& s) { s.args.mean = &s.rstd.tensor; }},
      {"eps negative", ISONORM_ERROR_EPS, {"eps", "-1"}, [](S& s) { s.eps = -1; }},
      {"eps NaN", ISONORM_ERROR_EPS, {"eps", "nan"}, [](S& s) { s.eps = NAN; }},
      {"eps inf", ISONORM_ERROR_EPS, {"eps", "inf"}, [](S& s) { s.eps = HUGE_VAL; }},
      {"groups negative", ISONORM_ERROR_GROUPS, {"groups", "-1"}, [](S& s) { s.args.groups = -1; }},
      {"groups do not divide", ISONORM_ERROR_GROUPS, {"groups", "3", "64"}, [](S& s) { s.args.groups = 3; }},
      {"window negative", ISONORM_ERROR_WINDOW, {"window", "-5"}, [](S& s) { s.args.window = -5; }},
      {"window too large", ISONORM_ERROR_WINDOW, {"window", "65", "64"}, [](S& s) { s.args.window = 65; }},
      {"window with LayerNorm",
       ISONORM_ERROR_WINDOW,
       {"window", "16"},
       [](S& s) {
         s.args.window = 16;
         s.contract.statistic = ISONORM_STATISTIC_LAYER;
       }},
      {"unknown flag", ISONORM_ERROR_ARGUMENT, {"flags", "6"}, [](S& s) { s.args.flags = 6; }},
      {"unknown flag beside a known one",
       ISONORM_ERROR_ARGUMENT,
       {"flags", "2147483649"},
       [](S& s) { s.args.flags = 0x80000001u; }},
      {"reserved", ISONORM_ERROR_ARGUMENT, {"reserved", "4"}, [](S& s) { s.args.reserved = 4; }},
      {"executor without threads",
       ISONORM_ERROR_EXECUTOR,
       {"executor.concurrency", "0"},
       [](S& s) {
         s.args.executor = &s.executor;
         s.executor.concurrency = 0;
       }},
      {"executor without function",
       ISONORM_ERROR_EXECUTOR,
       {"executor.parallel_for", "null"},
       [](S& s) {
         s.args.executor = &s.executor;
         s.executor.parallel_for = nullptr;
       }},
  });
}

TEST(BackwardArguments, TensorsThatExcludeOrNeedEachOther) {
  RunBoth({
      {"no output at all",
       ISONORM_ERROR_ARGUMENT,
       {"dx", "dweight", "dbias", "dgate"},
       [](S& s) { s.args.dx = s.args.dweight = s.args.dbias = nullptr; }},
      {"residual and residual_out",
       ISONORM_ERROR_ARGUMENT,
       {"residual", "residual_out"},
       [](S& s) { s.args.residual_out = &s.residual_out.tensor; }},
      {"residual_out of a kept sum",
       ISONORM_ERROR_ARGUMENT,
       {"residual_out", "sum_rounding"},
       [](S& s) {
         s.args.residual = nullptr;
         s.args.residual_out = &s.residual_out.tensor;
         s.contract.sum_rounding = ISONORM_SUM_KEPT;
       }},
      {"dweight without weight", ISONORM_ERROR_ARGUMENT, {"dweight", "weight"}, [](S& s) { s.args.weight = nullptr; }},
      {"dgate without gate", ISONORM_ERROR_ARGUMENT, {"dgate", "gate"}, [](S& s) { s.args.dgate = &s.dgate.tensor; }},
      {"gate without a place", ISONORM_ERROR_ARGUMENT, {"gate", "gate_place"}, [](S& s) { s.args.gate = &s.gate.tensor; }},
      {"a place without gate",
       ISONORM_ERROR_ARGUMENT,
       {"gate", "gate_place"},
       [](S& s) { s.contract.gate_place = ISONORM_GATE_AFTER; }},
      {"gate before with a residual",
       ISONORM_ERROR_ARGUMENT,
       {"gate", "residual"},
       [](S& s) {
         s.contract.gate_place = ISONORM_GATE_BEFORE;
         s.args.gate = &s.gate.tensor;
       }},
      {"gate before with residual_out",
       ISONORM_ERROR_ARGUMENT,
       {"gate", "residual"},
       [](S& s) {
         s.UseGate(ISONORM_GATE_BEFORE);
         s.args.residual_out = &s.residual_out.tensor;
       }},
  });
}

TEST(BackwardArguments, OneOutputAloneIsEnough) {
  for (const isonorm_tensor* isonorm_backward_args::*const wanted :
       {&isonorm_backward_args::dx, &isonorm_backward_args::dweight, &isonorm_backward_args::dbias}) {
    S scene;
    const isonorm_tensor* const output = scene.args.*wanted;
    scene.args.dx = scene.args.dweight = scene.args.dbias = nullptr;
    scene.args.*wanted = output;
    ASSERT_EQ(scene.Measure(), ISONORM_OK) << isonorm_last_error();
    EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  }
}

TEST(BackwardArguments, Workspace) {
  S scene;
  if (scene.args.workspace_size == 0) {  // one block of rows that is stored at once may need none
    scene.args.workspace = nullptr;
    EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  }
  for (Slot* slot : {&scene.dy, &scene.x, &scene.residual, &scene.dresidual, &scene.dx})
    slot->Set(slot->bytes[0], ISONORM_F32, {100, kCols});
  scene.rstd.Set(kInputByte, ISONORM_F32, {100});
  ASSERT_EQ(scene.Measure(), ISONORM_OK) << isonorm_last_error();
  const size_t needed = scene.args.workspace_size;
  ASSERT_GT(needed, 0u) << "100 rows are several blocks";
  EXPECT_LE(needed, 2 * (2 + 2) * kCols * sizeof(float))
      << "the header's bound: log2(100 / 32) + 2 rows, for dweight and dbias";
  scene.args.workspace_size = needed - 1;
  EXPECT_EQ(Judge(scene, ISONORM_ERROR_WORKSPACE, {"workspace_size", std::to_string(needed - 1), std::to_string(needed)}), "");
  scene.args.workspace_size = 0;
  EXPECT_EQ(Judge(scene, ISONORM_ERROR_WORKSPACE, {"workspace_size", "0", std::to_string(needed)}), "");
  scene.args.workspace_size = needed;
  scene.args.workspace = nullptr;
  EXPECT_EQ(Judge(scene, ISONORM_ERROR_WORKSPACE, {"workspace", "null", std::to_string(needed)}), "");
  scene.args.workspace = scene.workspace.data() + 1;  // any alignment; one byte of the margin is used
  EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
}

TEST(BackwardArguments, WorkspaceIsNotWrittenBeyondItsSize) {
  S scene;
  for (Slot* slot : {&scene.dy, &scene.x, &scene.residual, &scene.dresidual, &scene.dx})
    slot->Set(slot->bytes[0], ISONORM_F32, {1000, kCols});
  scene.rstd.Set(kInputByte, ISONORM_F32, {1000});
  ASSERT_EQ(scene.Measure(), ISONORM_OK) << isonorm_last_error();
  ASSERT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  const std::vector<uint8_t>& bytes = scene.workspace.bytes;
  for (size_t i = 0; i < Slot::kMargin; ++i) {
    ASSERT_EQ(bytes[i], kOutputByte) << "below, byte " << i;
    ASSERT_EQ(bytes[bytes.size() - 1 - i], kOutputByte) << "above, byte " << i;
  }
}

TEST(BackwardArguments, WorkspaceQuestionNeedsAPlaceForItsAnswer) {
  WorkspaceScene scene;
  scene.bytes_pointer = nullptr;
  EXPECT_EQ(Judge(scene, ISONORM_ERROR_NULL, {"bytes", "null"}), "");
}

TEST(BackwardArguments, WithoutSumsOverRowsNoWorkspaceIsNeeded) {
  S scene;
  scene.args.dweight = scene.args.dbias = nullptr;
  size_t bytes = 1;
  ASSERT_EQ(isonorm_backward_workspace(&scene.contract, scene.eps, &scene.args, &bytes), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(bytes, 0u);
  scene.args.workspace = nullptr;
  scene.args.workspace_size = 0;
  EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
}

}  // namespace
}  // namespace isonorm_test
