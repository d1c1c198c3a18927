// Rows shared by ranks: every fault of a shard, of its split, and of what is exchanged.
#include "api/fault.h"

namespace isonorm_test {
namespace {

constexpr int64_t kShard = 128, kRanks = 4;  // 4 leaves of 128 columns

// The tensors of a shard, with which a scene makes its call.
struct Exchange {
  void Set(int64_t rows, int64_t values) {
    partial.Set(kOutputByte, ISONORM_F32, {rows, values});
    gathered.Set(kInputByte, ISONORM_F32, {kRanks, rows, values});
    statistic.Set(kInputByte, ISONORM_F32, {rows, 4});
    shard = {sizeof(shard), kRanks, &partial.tensor, &gathered.tensor, &statistic.tensor};
  }
  void AddTo(std::vector<std::pair<const char*, Slot*>>* slots) {
    slots->insert(slots->end(), {{"shard.partial", &partial}, {"shard.gathered", &gathered}, {"shard.statistic", &statistic}});
  }
  Slot partial, gathered, statistic;
  isonorm_shard shard = {};
  const isonorm_shard* pointer = &shard;
  bool finish = false;
};

class ForwardShard : public ForwardScene {
 public:
  ForwardShard() {
    for (Slot* slot : {&x, &residual, &gate}) slot->Set(kInputByte, ISONORM_F32, {kRows, kShard});
    for (Slot* slot : {&weight, &bias}) slot->Set(kInputByte, ISONORM_F32, {kShard});
    for (Slot* slot : {&y, &residual_out}) slot->Set(kOutputByte, ISONORM_F32, {kRows, kShard});
    exchange.Set(kRows, 1);
    exchange.AddTo(&slots);
  }
  isonorm_status Run() override {
    return exchange.finish ? isonorm_forward_finish(contract_pointer, eps, args_pointer, exchange.pointer, round_pointer)
                           : isonorm_forward_partial(contract_pointer, eps, args_pointer, exchange.pointer, round);
  }
  std::vector<uint8_t> Picture() const override {
    std::vector<uint8_t> picture = ForwardScene::Picture();
    Append(&picture, &exchange.shard, sizeof(exchange.shard));
    Append(&picture, &round, sizeof(round));
    return picture;
  }
  void UseLayerNorm() {
    contract.statistic = ISONORM_STATISTIC_LAYER;
    exchange.Set(kRows, 2);
  }
  Exchange exchange;
  int32_t round = 0;
  int32_t* round_pointer = &round;
};

class BackwardShard : public BackwardScene {
 public:
  BackwardShard() {
    for (Slot* slot : {&dy, &x, &residual, &residual_out, &gate, &dresidual})
      slot->Set(kInputByte, ISONORM_F32, {kRows, kShard});
    for (Slot* slot : {&weight, &bias}) slot->Set(kInputByte, ISONORM_F32, {kShard});
    for (Slot* slot : {&dx, &dgate}) slot->Set(kOutputByte, ISONORM_F32, {kRows, kShard});
    for (Slot* slot : {&dweight, &dbias}) slot->Set(kOutputByte, ISONORM_F32, {kShard});
    args.rstd = nullptr;
    Measure();
    exchange.Set(kRows, 1);
    exchange.AddTo(&slots);
  }
  isonorm_status Run() override {
    return exchange.finish ? isonorm_backward_finish(contract_pointer, eps, args_pointer, exchange.pointer)
                           : isonorm_backward_partial(contract_pointer, eps, args_pointer, exchange.pointer);
  }
  Exchange exchange;
};

// Both functions must object.
template <class S>
void RunBoth(const std::vector<Fault<S>>& faults) {
  for (const Fault<S>& fault : faults) {
    for (const bool finish : {false, true}) {
      S scene;
      scene.exchange.finish = finish;
      fault.spoil(scene);
      EXPECT_EQ(Judge(scene, fault.status, fault.says), "") << fault.name << (finish ? ", finish" : ", partial");
    }
  }
}

template <class S>
std::vector<Fault<S>> CommonFaults() {
  return {
      {"contract", ISONORM_ERROR_NULL, {"contract", "null"}, [](S& s) { s.contract_pointer = nullptr; }},
      {"args", ISONORM_ERROR_NULL, {"args", "null"}, [](S& s) { s.args_pointer = nullptr; }},
      {"shard", ISONORM_ERROR_NULL, {"shard", "null"}, [](S& s) { s.exchange.pointer = nullptr; }},
      {"eps", ISONORM_ERROR_EPS, {"eps", "-1"}, [](S& s) { s.eps = -1; }},
      {"also", ISONORM_ERROR_ARGUMENT, {"args.also", "ranks"}, [](S& s) { s.args.also = &s.args; }},
      {"statistic", ISONORM_ERROR_NULL, {"shard.statistic", "null"}, [](S& s) { s.exchange.shard.statistic = nullptr; }},
      {"no ranks", ISONORM_ERROR_SPLIT, {"shard.ranks", "0", "power of two"}, [](S& s) { s.exchange.shard.ranks = 0; }},
      {"negative ranks", ISONORM_ERROR_SPLIT, {"shard.ranks", "-4"}, [](S& s) { s.exchange.shard.ranks = -4; }},
      {"three ranks",
       ISONORM_ERROR_SPLIT,
       {"shard.ranks", "3", "power of two", "1 to 4", "384"},
       [](S& s) { s.exchange.shard.ranks = 3; }},
      {"more ranks than leaves",
       ISONORM_ERROR_SPLIT,
       {"shard.ranks", "16", "1 to 8", "2048", "128 on each"},
       [](S& s) { s.exchange.shard.ranks = 16; }},
      {"ranks that overflow",
       ISONORM_ERROR_SPLIT,
       {"shard.ranks", "4611686018427387904"},
       [](S& s) { s.exchange.shard.ranks = int64_t{1} << 62; }},
      {"groups",
       ISONORM_ERROR_GROUPS,
       {"groups", "2", "0 or 1"},
       [](S& s) {
         s.args.groups = 2;
         s.args.rstd = nullptr;
       }},
      {"window", ISONORM_ERROR_WINDOW, {"window", "128", "0"}, [](S& s) { s.args.window = kShard; }},
      {"statistic of another row count",
       ISONORM_ERROR_SHAPE,
       {"shard.statistic", "2", "3"},
       [](S& s) { s.exchange.statistic.shape[0] = 2; }},
      {"statistic too narrow",
       ISONORM_ERROR_SHAPE,
       {"shard.statistic.shape[1]", "3", "4"},
       [](S& s) { s.exchange.statistic.shape[1] = 3; }},
      {"statistic as a vector",
       ISONORM_ERROR_RANK,
       {"shard.statistic.ndim", "1", "2"},
       [](S& s) {
         s.exchange.statistic.tensor.ndim = 1;
         s.exchange.statistic.strides[0] = 1;
       }},
      {"statistic as bf16",
       ISONORM_ERROR_DTYPE,
       {"shard.statistic", "bf16", "f32"},
       [](S& s) { s.exchange.statistic.Retype(ISONORM_BF16); }},
      {"statistic elsewhere",
       ISONORM_ERROR_DEVICE,
       {"shard.statistic", "2"},
       [](S& s) { s.exchange.statistic.tensor.device.device_type = 2; }},
      {"executor",
       ISONORM_ERROR_EXECUTOR,
       {"executor.concurrency", "0"},
       [](S& s) {
         s.args.executor = &s.executor;
         s.executor.concurrency = 0;
       }},
  };
}

TEST(ParallelArguments, ForwardShard) {
  using S = ForwardShard;
  RunBoth(CommonFaults<S>());
  RunBoth<S>({
      {"no output",
       ISONORM_ERROR_ARGUMENT,
       {"y", "rstd"},
       [](S& s) { s.args.y = s.args.residual_out = s.args.rstd = nullptr; }},
      {"a quantised row",
       ISONORM_ERROR_SPLIT,
       {"quantization.group_cols", "0", "32, 64 or 128"},
       [](S& s) {
         static const isonorm_quantization dynamic = {sizeof(dynamic), ISONORM_SCALE_DYNAMIC, {0, 0, 0}, 0, 0, 0};
         s.args.quantization = &dynamic;
         s.args.scale = &s.rstd.tensor;
         s.args.rstd = nullptr;
         s.y.Retype(ISONORM_I8);
       }},
      {"negative round", ISONORM_ERROR_ARGUMENT, {"round", "-1"}, [](S& s) { s.round = -1; }},
      {"no such round", ISONORM_ERROR_ARGUMENT, {"round", "3", "2 at most"}, [](S& s) { s.round = 3; }},
      {"no such round of LayerNorm",
       ISONORM_ERROR_ARGUMENT,
       {"round", "5", "4 at most"},
       [](S& s) {
         s.UseLayerNorm();
         s.round = 5;
       }},
      {"statistic over y",
       ISONORM_ERROR_OVERLAP,
       {"shard.statistic", "y"},
       [](S& s) { s.exchange.statistic.tensor.data = s.y.data(); }},
      {"statistic over x",
       ISONORM_ERROR_OVERLAP,
       {"shard.statistic", "x"},
       [](S& s) { s.exchange.statistic.tensor.data = s.x.data(); }},
  });
}

TEST(ParallelArguments, BackwardShard) {
  using S = BackwardShard;
  RunBoth(CommonFaults<S>());
  RunBoth<S>({
      {"dy", ISONORM_ERROR_NULL, {"dy", "null"}, [](S& s) { s.args.dy = nullptr; }},
      {"rstd", ISONORM_ERROR_ARGUMENT, {"rstd", "shard.statistic"}, [](S& s) { s.args.rstd = &s.rstd.tensor; }},
      {"statistic over dx",
       ISONORM_ERROR_OVERLAP,
       {"shard.statistic", "dx"},
       [](S& s) { s.exchange.statistic.tensor.data = s.dx.data(); }},
  });
}

template <class S>
void PartialFaults() {
  RunFaults<S>({
      {"no partial", ISONORM_ERROR_NULL, {"shard.partial", "null"}, [](S& s) { s.exchange.shard.partial = nullptr; }},
      {"partial of LayerNorm's width",
       ISONORM_ERROR_SHAPE,
       {"shard.partial.shape[1]", "2", "1"},
       [](S& s) { s.exchange.Set(kRows, 2); }},
      {"partial as f64",
       ISONORM_ERROR_DTYPE,
       {"shard.partial", "f64", "f32"},
       [](S& s) {
         s.exchange.partial.Set(kOutputByte, ISONORM_F64, {kRows, 1});
       }},
      {"partial over x",
       ISONORM_ERROR_OVERLAP,
       {"shard.partial", "x"},
       [](S& s) { s.exchange.partial.tensor.data = s.x.data(); }},
      {"partial over the statistic",
       ISONORM_ERROR_OVERLAP,
       {"shard.partial", "shard.statistic"},
       [](S& s) { s.exchange.partial.tensor.data = s.exchange.statistic.data(); }},
      {"partial with rows in one place",
       ISONORM_ERROR_STRIDE,
       {"shard.partial", "0"},
       [](S& s) { s.exchange.partial.strides[0] = 0; }},
  });
}
TEST(ParallelArguments, PartialOfForward) { PartialFaults<ForwardShard>(); }
TEST(ParallelArguments, PartialOfBackward) { PartialFaults<BackwardShard>(); }

// The scene as a call of finish.
template <class S>
S& Finish(S& scene) {
  scene.exchange.finish = true;
  return scene;
}

template <class S>
void FinishFaults() {
  RunFaults<S>({
      {"nothing gathered",
       ISONORM_ERROR_NULL,
       {"shard.gathered", "null"},
       [](S& s) { Finish(s).exchange.shard.gathered = nullptr; }},
      {"gathered of fewer ranks",
       ISONORM_ERROR_SHAPE,
       {"shard.gathered.shape[0]", "2", "4"},
       [](S& s) { Finish(s).exchange.gathered.shape[0] = 2; }},
      {"gathered of more rows",
       ISONORM_ERROR_SHAPE,
       {"shard.gathered.shape[1]", "4", "3"},
       [](S& s) { Finish(s).exchange.gathered.shape[1] = 4; }},
      {"gathered without ranks",
       ISONORM_ERROR_RANK,
       {"shard.gathered.ndim", "2", "3"},
       [](S& s) { Finish(s).exchange.gathered.tensor.ndim = 2; }},
      {"gathered as f16",
       ISONORM_ERROR_DTYPE,
       {"shard.gathered", "f16", "f32"},
       [](S& s) { Finish(s).exchange.gathered.Retype(ISONORM_F16); }},
  });
}

TEST(ParallelArguments, FinishOfForward) {
  using S = ForwardShard;
  FinishFaults<S>();
  RunFaults<S>({
      {"no round", ISONORM_ERROR_NULL, {"round", "null"}, [](S& s) { Finish(s).round_pointer = nullptr; }},
      {"gathered over the statistic",
       ISONORM_ERROR_OVERLAP,
       {"shard.gathered", "shard.statistic"},
       [](S& s) { Finish(s).exchange.statistic.tensor.data = s.exchange.gathered.data(); }},
  });
}

TEST(ParallelArguments, FinishOfBackward) {
  using S = BackwardShard;
  FinishFaults<S>();
  RunFaults<S>({
      {"no workspace", ISONORM_ERROR_WORKSPACE, {"workspace", "null"}, [](S& s) { Finish(s).args.workspace = nullptr; }},
  });
}

TEST(ParallelArguments, WhatIsAllowed) {
  ForwardShard forward;
  EXPECT_EQ(forward.Run(), ISONORM_OK) << isonorm_last_error();
  forward.exchange.finish = true;
  EXPECT_EQ(forward.Run(), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(forward.round, 0);
  forward.exchange.shard.partial = nullptr;  // finish does not send
  EXPECT_EQ(forward.Run(), ISONORM_OK) << isonorm_last_error();

  BackwardShard backward;
  backward.args.workspace = nullptr;  // partial needs none
  backward.exchange.shard.gathered = nullptr;
  EXPECT_EQ(backward.Run(), ISONORM_OK) << isonorm_last_error();
  backward.args.dx = nullptr;  // sums over rows need nothing from other ranks
  backward.exchange.finish = true;
  ASSERT_EQ(backward.Measure(), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(backward.Run(), ISONORM_OK) << isonorm_last_error();
}

TEST(ParallelArguments, MaxRanks) {
  const std::vector<std::pair<int64_t, int64_t>> known = {
      {-1, 0},    {0, 0},     {1, 1},     {128, 1},    {129, 1},    {136, 1},     {144, 2},   {256, 2},
      {264, 1},   {272, 2},   {288, 4},   {512, 4},    {520, 1},    {528, 2},     {544, 4},   {576, 8},
      {1000, 1},  {1024, 8},  {2880, 8},  {4095, 1},   {4096, 8},   {4104, 1},    {4224, 16}, {5120, 16},
      {7168, 16}, {8192, 16}, {8448, 32}, {12288, 32}, {28672, 64}, {65536, 128}, {65537, 1}, {INT64_MAX, 1}};
  for (const auto& [cols, most] : known) EXPECT_EQ(isonorm_max_ranks(cols), most) << cols;
  EXPECT_GT(isonorm_max_ranks(int64_t{1} << 62), int64_t{1} << 50);
}

}  // namespace
}  // namespace isonorm_test
