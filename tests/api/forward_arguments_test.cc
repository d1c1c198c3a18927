// isonorm_forward: the contract, eps, groups, window, executor, and which tensors go together.
#include <cmath>
#include <limits>

#include "api/fault.h"

namespace isonorm_test {
namespace {

using S = ForwardScene;

TEST(ForwardArguments, Null) {
  RunFaults<S>({
      {"contract", ISONORM_ERROR_NULL, {"contract", "null"}, [](S& s) { s.contract_pointer = nullptr; }},
      {"args", ISONORM_ERROR_NULL, {"args", "null"}, [](S& s) { s.args_pointer = nullptr; }},
      {"x", ISONORM_ERROR_NULL, {"x", "null"}, [](S& s) { s.args.x = nullptr; }},
  });
}

TEST(ForwardArguments, EveryContractFieldMustBeSet) {
  RunFaults<S>({
      {"statistic unset", ISONORM_ERROR_CONTRACT, {"statistic", "0"}, [](S& s) { s.contract.statistic = 0; }},
      {"statistic 3", ISONORM_ERROR_CONTRACT, {"statistic", "3"}, [](S& s) { s.contract.statistic = 3; }},
      {"statistic negative", ISONORM_ERROR_CONTRACT, {"statistic", "-1"}, [](S& s) { s.contract.statistic = -1; }},
      {"eps_place unset", ISONORM_ERROR_CONTRACT, {"eps_place", "0"}, [](S& s) { s.contract.eps_place = 0; }},
      {"eps_place 3", ISONORM_ERROR_CONTRACT, {"eps_place", "3"}, [](S& s) { s.contract.eps_place = 3; }},
      {"scaled_rounding unset", ISONORM_ERROR_CONTRACT, {"scaled_rounding", "0"}, [](S& s) { s.contract.scaled_rounding = 0; }},
      {"scaled_rounding 4", ISONORM_ERROR_CONTRACT, {"scaled_rounding", "4"}, [](S& s) { s.contract.scaled_rounding = 4; }},
      {"sum_rounding unset", ISONORM_ERROR_CONTRACT, {"sum_rounding", "0"}, [](S& s) { s.contract.sum_rounding = 0; }},
      {"sum_rounding 3", ISONORM_ERROR_CONTRACT, {"sum_rounding", "3"}, [](S& s) { s.contract.sum_rounding = 3; }},
      {"gate_place unset", ISONORM_ERROR_CONTRACT, {"gate_place", "0"}, [](S& s) { s.contract.gate_place = 0; }},
      {"gate_place 4", ISONORM_ERROR_CONTRACT, {"gate_place", "4"}, [](S& s) { s.contract.gate_place = 4; }},
      {"gate_function unset", ISONORM_ERROR_CONTRACT, {"gate_function", "0"}, [](S& s) { s.contract.gate_function = 0; }},
      {"gate_function 3", ISONORM_ERROR_CONTRACT, {"gate_function", "3"}, [](S& s) { s.contract.gate_function = 3; }},
      {"weight_offset NaN", ISONORM_ERROR_CONTRACT, {"weight_offset", "nan"}, [](S& s) { s.contract.weight_offset = NAN; }},
      {"weight_offset inf",
       ISONORM_ERROR_CONTRACT,
       {"weight_offset", "inf"},
       [](S& s) { s.contract.weight_offset = HUGE_VAL; }},
  });
}

TEST(ForwardArguments, Eps) {
  RunFaults<S>({
      {"negative", ISONORM_ERROR_EPS, {"eps", "-1e-06"}, [](S& s) { s.eps = -1e-6; }},
      {"smallest negative", ISONORM_ERROR_EPS, {"eps", "-"}, [](S& s) { s.eps = -std::numeric_limits<double>::denorm_min(); }},
      {"NaN", ISONORM_ERROR_EPS, {"eps", "nan"}, [](S& s) { s.eps = NAN; }},
      {"inf", ISONORM_ERROR_EPS, {"eps", "inf"}, [](S& s) { s.eps = HUGE_VAL; }},
      {"-inf", ISONORM_ERROR_EPS, {"eps", "-inf"}, [](S& s) { s.eps = -HUGE_VAL; }},
      {"inf once it is f32", ISONORM_ERROR_EPS, {"eps", "1e+39"}, [](S& s) { s.eps = 1e39; }},
  });
  for (const double eps : {0.0, -0.0, 1e-300, 1e-12, 1e30}) {
    S scene;
    scene.eps = eps;
    EXPECT_EQ(scene.Run(), ISONORM_OK) << eps << ": " << isonorm_last_error();
  }
}

TEST(ForwardArguments, Groups) {
  RunFaults<S>({
      {"negative", ISONORM_ERROR_GROUPS, {"groups", "-2"}, [](S& s) { s.args.groups = -2; }},
      {"does not divide", ISONORM_ERROR_GROUPS, {"groups", "7", "64"}, [](S& s) { s.args.groups = 7; }},
      {"more than cols", ISONORM_ERROR_GROUPS, {"groups", "128"}, [](S& s) { s.args.groups = 128; }},
      {"largest int64", ISONORM_ERROR_GROUPS, {"groups", "9223372036854775807"}, [](S& s) { s.args.groups = INT64_MAX; }},
      {"smallest int64", ISONORM_ERROR_GROUPS, {"groups", "-9223372036854775808"}, [](S& s) { s.args.groups = INT64_MIN; }},
  });
}

TEST(ForwardArguments, Window) {
  RunFaults<S>({
      {"negative", ISONORM_ERROR_WINDOW, {"window", "-1"}, [](S& s) { s.args.window = -1; }},
      {"larger than cols", ISONORM_ERROR_WINDOW, {"window", "65", "64"}, [](S& s) { s.args.window = 65; }},
      {"larger than a group",
       ISONORM_ERROR_WINDOW,
       {"window", "33", "32"},
       [](S& s) {
         s.args.groups = 2;
         s.args.window = 33;
         s.args.rstd = nullptr;
       }},
      {"with LayerNorm",
       ISONORM_ERROR_WINDOW,
       {"window", "16"},
       [](S& s) {
         s.args.window = 16;
         s.contract.statistic = ISONORM_STATISTIC_LAYER;
       }},
  });
  S whole;
  whole.args.window = kCols;
  EXPECT_EQ(whole.Run(), ISONORM_OK) << isonorm_last_error();
}

TEST(ForwardArguments, TensorsThatExcludeOrNeedEachOther) {
  RunFaults<S>({
      {"no output at all",
       ISONORM_ERROR_ARGUMENT,
       {"y", "residual_out", "mean", "rstd"},
       [](S& s) { s.args.y = s.args.residual_out = s.args.rstd = nullptr; }},
      {"residual_out without residual",
       ISONORM_ERROR_ARGUMENT,
       {"residual_out", "residual"},
       [](S& s) { s.args.residual = nullptr; }},
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
  });
}

TEST(ForwardArguments, MeanAndStream) {
  RunFaults<S>({
      {"mean of a norm without one",
       ISONORM_ERROR_ARGUMENT,
       {"mean", "ISONORM_STATISTIC_RMS"},
       [](S& s) { s.args.mean = &s.rstd.tensor; }},
      {"stream", ISONORM_ERROR_ARGUMENT, {"stream", "CPU"}, [](S& s) { s.args.stream = &s; }},
  });
  S plain;
  plain.args.bias = plain.args.residual = plain.args.residual_out = plain.args.rstd = nullptr;
  plain.args.stream = &plain;
  EXPECT_EQ(Judge(plain, ISONORM_ERROR_ARGUMENT, {"stream", "CPU"}), "");
}

TEST(ForwardArguments, Workspace) {  // none is needed, and one that is there is not touched
  S scene;
  size_t bytes = 77;
  EXPECT_EQ(isonorm_forward_workspace(&scene.contract, 1e-6, &scene.args, &bytes), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(bytes, 0u);
  EXPECT_EQ(isonorm_forward_workspace(&scene.contract, 1e-6, &scene.args, nullptr), ISONORM_ERROR_NULL);
  EXPECT_EQ(isonorm_forward_workspace(&scene.contract, -1, &scene.args, &bytes), ISONORM_ERROR_EPS);
  std::vector<uint8_t> workspace(64, kInputByte);
  scene.args.workspace = workspace.data();
  scene.args.workspace_size = workspace.size();
  EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(workspace, std::vector<uint8_t>(64, kInputByte));
}

TEST(ForwardArguments, Executor) {
  RunFaults<S>({
      {"concurrency 0",
       ISONORM_ERROR_EXECUTOR,
       {"executor.concurrency", "0"},
       [](S& s) {
         s.args.executor = &s.executor;
         s.executor.concurrency = 0;
       }},
      {"concurrency negative",
       ISONORM_ERROR_EXECUTOR,
       {"executor.concurrency", "-4"},
       [](S& s) {
         s.args.executor = &s.executor;
         s.executor.concurrency = -4;
       }},
      {"no parallel_for",
       ISONORM_ERROR_EXECUTOR,
       {"executor.parallel_for", "null"},
       [](S& s) {
         s.args.executor = &s.executor;
         s.executor.parallel_for = nullptr;
       }},
  });
}

}  // namespace
}  // namespace isonorm_test
