// isonorm_double_backward and isonorm_double_backward_workspace: what is refused, and that nothing is written then.
#include <cmath>

#include "api/double_scene.h"
#include "api/fault.h"

namespace isonorm_test {
namespace {

using S = DoubleScene;

// The same call as a question about its workspace: the same faults, and the answer stays unwritten.
class WorkspaceScene : public DoubleScene {
 public:
  isonorm_status Run() override {
    return isonorm_double_backward_workspace(contract_pointer, eps, args_pointer, bytes_pointer);
  }
  std::vector<uint8_t> Picture() const override {
    std::vector<uint8_t> picture = DoubleScene::Picture();
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

TEST(DoubleBackwardArguments, TheSceneIsValidBeforeItIsSpoilt) {
  S scene;
  EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  WorkspaceScene workspace;
  EXPECT_EQ(workspace.Run(), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(workspace.bytes, workspace.args.workspace_size);
}

TEST(DoubleBackwardArguments, Null) {
  RunBoth({
      {"contract", ISONORM_ERROR_NULL, {"contract", "null"}, [](S& s) { s.contract_pointer = nullptr; }},
      {"args", ISONORM_ERROR_NULL, {"args", "null", "isonorm_double_backward_args"}, [](S& s) { s.args_pointer = nullptr; }},
      {"x", ISONORM_ERROR_NULL, {"x", "null"}, [](S& s) { s.args.x = nullptr; }},
      {"dy", ISONORM_ERROR_NULL, {"dy", "null"}, [](S& s) { s.args.dy = nullptr; }},
  });
  WorkspaceScene scene;
  scene.bytes_pointer = nullptr;
  EXPECT_EQ(Judge(scene, ISONORM_ERROR_NULL, {"bytes", "null"}), "");
}

TEST(DoubleBackwardArguments, ContractsOfOtherNorms) {
  RunBoth({
      {"stream", ISONORM_ERROR_ARGUMENT, {"stream", "CPU"}, [](S& s) { s.args.stream = &s; }},
      {"LayerNorm",
       ISONORM_ERROR_CONTRACT,
       {"contract.statistic", "2", "ISONORM_STATISTIC_RMS"},
       [](S& s) { s.contract.statistic = ISONORM_STATISTIC_LAYER; }},
      {"eps outside",
       ISONORM_ERROR_CONTRACT,
       {"contract.eps_place", "2", "ISONORM_EPS_INSIDE"},
       [](S& s) { s.contract.eps_place = ISONORM_EPS_OUTSIDE; }},
      {"gate before",
       ISONORM_ERROR_CONTRACT,
       {"contract.gate_place", "2", "ISONORM_GATE_NONE"},
       [](S& s) { s.contract.gate_place = ISONORM_GATE_BEFORE; }},
      {"gate after",
       ISONORM_ERROR_CONTRACT,
       {"contract.gate_place", "3", "ISONORM_GATE_NONE"},
       [](S& s) { s.contract.gate_place = ISONORM_GATE_AFTER; }},
      {"unknown statistic", ISONORM_ERROR_CONTRACT, {"statistic", "7"}, [](S& s) { s.contract.statistic = 7; }},
      {"weight_offset NaN", ISONORM_ERROR_CONTRACT, {"weight_offset", "nan"}, [](S& s) { s.contract.weight_offset = NAN; }},
  });
}

TEST(DoubleBackwardArguments, Scalars) {
  RunBoth({
      {"eps negative", ISONORM_ERROR_EPS, {"eps", "-1"}, [](S& s) { s.eps = -1; }},
      {"eps NaN", ISONORM_ERROR_EPS, {"eps", "nan"}, [](S& s) { s.eps = NAN; }},
      {"eps inf", ISONORM_ERROR_EPS, {"eps", "inf"}, [](S& s) { s.eps = HUGE_VAL; }},
      {"groups negative", ISONORM_ERROR_GROUPS, {"groups", "-1"}, [](S& s) { s.args.groups = -1; }},
      {"groups do not divide", ISONORM_ERROR_GROUPS, {"groups", "3", "64"}, [](S& s) { s.args.groups = 3; }},
      {"unknown flag", ISONORM_ERROR_ARGUMENT, {"flags", "6"}, [](S& s) { s.args.flags = 6; }},
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

TEST(DoubleBackwardArguments, TensorsThatExcludeOrNeedEachOther) {
  RunBoth({
      {"no cotangent",
       ISONORM_ERROR_ARGUMENT,
       {"ddx", "ddweight", "null"},
       [](S& s) { s.args.ddx = s.args.ddweight = nullptr; }},
      {"no output",
       ISONORM_ERROR_ARGUMENT,
       {"dx", "dweight", "ddy", "null"},
       [](S& s) { s.args.dx = s.args.dweight = s.args.ddy = nullptr; }},
      {"ddweight without weight", ISONORM_ERROR_ARGUMENT, {"ddweight", "weight"}, [](S& s) { s.args.weight = nullptr; }},
      {"dweight without weight",
       ISONORM_ERROR_ARGUMENT,
       {"dweight is given", "weight"},
       [](S& s) { s.args.weight = s.args.ddweight = nullptr; }},
  });
}

TEST(DoubleBackwardArguments, ShapesAndTypes) {
  RunBoth({
      {"width 0", ISONORM_ERROR_SHAPE, {"x.shape[1]", "0"}, [](S& s) { s.x.shape[1] = 0; }},
      {"ddx narrower", ISONORM_ERROR_SHAPE, {"ddx.shape[1]", "32", "64"}, [](S& s) { s.ddx.shape[1] = 32; }},
      {"ddy with a row less", ISONORM_ERROR_SHAPE, {"ddy.shape[0]", "2", "3"}, [](S& s) { s.ddy.shape[0] = 2; }},
      {"ddweight narrower", ISONORM_ERROR_SHAPE, {"ddweight.shape[0]", "63", "64"}, [](S& s) { s.ddweight.shape[0] = 63; }},
      {"ddweight with a row for each of x",
       ISONORM_ERROR_SHAPE,
       {"ddweight.shape[0]", "3", "1"},
       [](S& s) {
         s.ddweight.Set(kInputByte, ISONORM_F32, {kRows, kCols});
       }},
      {"ddx of another rank",
       ISONORM_ERROR_RANK,
       {"ddx.ndim", "1", "2"},
       [](S& s) { s.ddx.Set(kInputByte, ISONORM_F32, {kRows * kCols}); }},
      {"rstd of groups", ISONORM_ERROR_RANK, {"rstd.ndim", "1", "2"}, [](S& s) { s.args.groups = 2; }},
      {"dx of another type than x", ISONORM_ERROR_DTYPE, {"dx", "bf16", "f32"}, [](S& s) { s.dx.Retype(ISONORM_BF16); }},
      {"ddy of another type than dy", ISONORM_ERROR_DTYPE, {"ddy", "f16", "f32"}, [](S& s) { s.ddy.Retype(ISONORM_F16); }},
      {"dweight of another type than the weight",
       ISONORM_ERROR_DTYPE,
       {"dweight", "bf16", "f32"},
       [](S& s) { s.dweight.Retype(ISONORM_BF16); }},
      {"rstd as f64", ISONORM_ERROR_DTYPE, {"rstd", "f64", "f32"}, [](S& s) { s.rstd.Retype(ISONORM_F64); }},
      {"dx with rows in one place", ISONORM_ERROR_STRIDE, {"dx", "0"}, [](S& s) { s.dx.strides[0] = 0; }},
      {"ddy with rows in one place", ISONORM_ERROR_STRIDE, {"ddy", "0"}, [](S& s) { s.ddy.strides[0] = 0; }},
  });
}

TEST(DoubleBackwardArguments, WhatIsFreeIsFree) {
  for (const isonorm_dtype type : {ISONORM_BF16, ISONORM_F16}) {
    S scene;
    scene.ddx.Retype(type);
    scene.ddweight.Retype(type);
    EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  }
  for (const int32_t rounding : {ISONORM_ROUND_NONE, ISONORM_ROUND_TO_X, ISONORM_ROUND_TO_WEIGHT}) {
    S scene;
    scene.contract.scaled_rounding = rounding;
    EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  }
  for (const auto wanted :
       {&isonorm_double_backward_args::dx, &isonorm_double_backward_args::dweight, &isonorm_double_backward_args::ddy}) {
    for (const auto missing : {&isonorm_double_backward_args::ddx, &isonorm_double_backward_args::ddweight}) {
      S scene;
      const isonorm_tensor* const output = scene.args.*wanted;
      scene.args.dx = scene.args.dweight = scene.args.ddy = scene.args.rstd = nullptr;
      scene.args.*wanted = output;
      scene.args.*missing = nullptr;
      ASSERT_EQ(scene.Measure(), ISONORM_OK) << isonorm_last_error();
      EXPECT_EQ(scene.args.workspace_size == 0, wanted != &isonorm_double_backward_args::dweight);
      EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
    }
  }
}

TEST(DoubleBackwardArguments, Overlap) {
  const std::vector<const char*> inputs = {"dy", "x", "weight", "rstd", "ddx", "ddweight"}, outputs = {"dx", "dweight", "ddy"};
  for (const char* output : outputs) {
    for (const auto& [other, slot] : S().slots) {
      const std::string name = other;
      if (name == output) continue;
      for (const int64_t shift : {0, 4}) {
        S scene;
        if (name == "workspace" && shift != 0) continue;
        Slot& moved = scene.slot(output);
        moved.tensor.data = scene.slot(other).data() + shift;
        const bool rows = std::string(output) != "dweight" && (name == "x" || name == "dy" || name == "ddx");
        if (rows && shift == 0) {
          EXPECT_EQ(scene.Run(), ISONORM_OK) << output << " over " << name << ": " << isonorm_last_error();
        } else {
          EXPECT_EQ(Judge(scene, ISONORM_ERROR_OVERLAP, {output, name, "overlap"}), "") << output << " over " << name;
        }
      }
    }
  }
}

TEST(DoubleBackwardArguments, Workspace) {
  S scene;
  scene.SetRows(1000);
  ASSERT_EQ(scene.Measure(), ISONORM_OK) << isonorm_last_error();
  const size_t needed = scene.args.workspace_size;
  ASSERT_GT(needed, 0u) << "1000 rows are several blocks";
  EXPECT_LE(needed, (5 + 2) * kCols * sizeof(float)) << "the header's bound: log2(1000 / 32) + 2 rows";
  scene.args.workspace_size = needed - 1;
  EXPECT_EQ(Judge(scene, ISONORM_ERROR_WORKSPACE, {"workspace_size", std::to_string(needed - 1), std::to_string(needed)}), "");
  scene.args.workspace_size = needed;
  scene.args.workspace = nullptr;
  EXPECT_EQ(Judge(scene, ISONORM_ERROR_WORKSPACE, {"workspace", "null", std::to_string(needed)}), "");
  scene.args.workspace = scene.dx.data();
  EXPECT_EQ(Judge(scene, ISONORM_ERROR_OVERLAP, {"workspace", "dx"}), "");
  scene.args.workspace = scene.workspace.data() + 1;  // any alignment; one byte of the margin is used
  EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(scene.workspace.bytes[Slot::kMargin], kOutputByte);
  EXPECT_EQ(scene.workspace.bytes[Slot::kMargin + 1 + needed], kOutputByte);
}

TEST(DoubleBackwardArguments, NoRowsSumToZeros) {
  for (const uint32_t flags : {0u, static_cast<uint32_t>(ISONORM_ACCUMULATE)}) {
    S scene;
    for (Slot* slot : {&scene.dy, &scene.x, &scene.ddx, &scene.dx, &scene.ddy, &scene.rstd}) {
      slot->shape[0] = 0;
      slot->tensor.data = nullptr;
    }
    scene.dweight.Set(kInputByte, ISONORM_F32, {kCols});
    scene.args.flags = flags;
    ASSERT_EQ(scene.Measure(), ISONORM_OK) << isonorm_last_error();
    EXPECT_EQ(scene.args.workspace_size, 0u);
    ASSERT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
    const std::vector<uint8_t> expected(kCols * sizeof(float), flags == 0 ? 0 : kInputByte);
    EXPECT_EQ(std::memcmp(scene.dweight.data(), expected.data(), expected.size()), 0) << "flags " << flags;
  }
}

}  // namespace
}  // namespace isonorm_test
