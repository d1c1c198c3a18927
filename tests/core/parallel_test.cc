// Rows shared by ranks: any number of them gives the bits of one call over whole rows, on every target and in every layout.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <set>

#include "environment.h"
#include "executors.h"
#include "parallel_run.h"

namespace core_test {
namespace {

// Compares forward and backward of shards with those of whole rows.
class ParallelTest : public testing::TestWithParam<std::string> {
 protected:
  bool Check(const Problem& problem, const Expected& expected, ParallelHow how) {
    std::string where = std::to_string(how.ranks) + " ranks";
    if (how.targets.empty()) how.targets = {GetParam()};
    const Problem forward = ForwardOf(problem);
    const ParallelResult there = ComputeParallel(forward, expected.inputs, how);
    if (!Same(forward, expected.forward, there.outputs, where + ", forward", &count_)) return false;
    const int usual = problem.contract.statistic == ISONORM_STATISTIC_LAYER ? 2 : 1;
    rounds_.insert({problem.contract.statistic, there.rounds});
    EXPECT_LE(there.rounds, usual == 2 ? 5 : 3);
    for (const Sum sum : {Sum::kFromPair, Sum::kFromStored}) {
      if (sum == Sum::kFromStored && !MayUseStoredSum(problem)) continue;
      const Problem backward = BackwardOf(problem, Rstd::kRecomputed, sum);
      const ParallelResult back = ComputeParallel(backward, expected.inputs, how, there.statistic);
      if (!Same(backward, expected.backward, back.outputs, where + ", backward", &count_)) return false;
    }
    return true;
  }
  // By 1, 2, 4, ... ranks, in one layout or the other.
  bool CheckAll(const Problem& random, int64_t most = 16) {
    const Problem problem = Shareable(random);
    const Expected expected = Reference(problem);
    for (const int64_t ranks : RankCounts(problem, most)) {
      const uint64_t turn = problem.seed + static_cast<uint64_t>(ranks);
      const ParallelHow how = {.ranks = ranks,
                               .slices = turn % 2 == 0,
                               .padding = static_cast<int64_t>(turn % 3) * 8,
                               .gather_in_place = turn % 5 < 2};
      if (!Check(problem, expected, how)) return false;
    }
    return true;
  }

  void TearDown() override {
    EXPECT_GT(count_.outputs, 0u) << "nothing was compared";
    std::printf("%zu outputs with %zu elements compared\n", count_.outputs, count_.elements);
  }

  Count count_;
  std::set<std::pair<int32_t, int>> rounds_;  // statistic, and how many a call took
};

TEST_P(ParallelTest, Widths) {
  for (const int64_t cols :
       {1,   8,   24,  128, 129,  130,  136,  144,  192,  256,  272,  288,  320,  512,  520,  528,  544, 576,
        640, 768, 832, 960, 1000, 1024, 1088, 1536, 2048, 2304, 2880, 3584, 4032, 4095, 4096, 4160, 4224}) {
    for (uint64_t i = 0; i < 6; ++i) {
      if (!CheckAll(Random(static_cast<uint64_t>(cols) * 100 + i, 1 + static_cast<int64_t>(i % 4), cols))) return;
    }
  }
}

TEST_P(ParallelTest, WidthsOfModels) {
  for (const int64_t cols : {5120, 6144, 7168, 8192, 12288, 14336, 16384, 28672, 53248, 65536}) {
    for (uint64_t i = 0; i < 3; ++i) {
      if (!CheckAll(Random(static_cast<uint64_t>(cols) * 100 + i, i == 0 && cols < 8000 ? 3 : 1, cols), 128)) return;
    }
  }
}

TEST_P(ParallelTest, Rows) {
  for (const int64_t rows : {0, 1, 2, 7, 31, 32, 33, 61, 64, 127, 257}) {
    for (uint64_t i = 0; i < 4; ++i) {
      if (!CheckAll(Random(static_cast<uint64_t>(rows) * 10 + i, rows, i % 2 == 0 ? 256 : 640))) return;
    }
  }
}

// Every kind of data, so that rows overflow and vanish: the rounds of the scaled path, in both norms.
TEST_P(ParallelTest, KindsOfData) {
  uint64_t seed = 1;
  for (int kind = 0; kind < isonorm_cli::kDataKinds; ++kind) {
    for (const double eps : {0.0, 1e-42, 1e-6}) {
      for (const int32_t statistic : {ISONORM_STATISTIC_RMS, ISONORM_STATISTIC_LAYER}) {
        for (const int32_t place : {ISONORM_EPS_INSIDE, ISONORM_EPS_OUTSIDE}) {
          for (const Type type : {Type::kF32, Type::kBf16, Type::kF16, Type::kF64}) {
            Problem p = Simple(type, 5, kind % 2 == 0 ? 1024 : 320);
            p.kind = static_cast<DataKind>(kind);
            if (p.kind == DataKind::kFar && type != Type::kF64) continue;
            p.contract.statistic = statistic;
            p.contract.eps_place = place;
            p.eps = eps;
            p.seed = seed++;
            if (!CheckAll(p)) return;
          }
        }
      }
    }
  }
  const std::set<std::pair<int32_t, int>> all = {{ISONORM_STATISTIC_RMS, 1},   {ISONORM_STATISTIC_RMS, 2},
                                                 {ISONORM_STATISTIC_RMS, 3},   {ISONORM_STATISTIC_LAYER, 2},
                                                 {ISONORM_STATISTIC_LAYER, 3}, {ISONORM_STATISTIC_LAYER, 5}};
  EXPECT_EQ(rounds_, all) << "some number of rounds never came up";
}

// What has tuned loops, which must take the statistics of shared rows: plain, with a residual, quantised.
TEST_P(ParallelTest, TunedCombinations) {
  uint64_t seed = 1;
  for (const Type type : {Type::kF32, Type::kBf16, Type::kF16}) {
    for (const Type weight : {type, Type::kF32, Type::kNone}) {
      for (const Type residual : {Type::kNone, type}) {
        for (const Type y : {type, Type::kI8, Type::kE4M3}) {
          for (const DataKind kind : {DataKind::kPlain, DataKind::kHuge, DataKind::kSpecial}) {
            Problem p = Simple(type, 19, seed % 2 == 0 ? 1024 : 2304);
            p.kind = kind;
            p.type[kWeight] = weight;
            p.type[kResidual] = residual;
            if (y != type) {
              p.quantization = {sizeof(p.quantization), ISONORM_SCALE_STATIC, {0, 0, 0}, 0, 0, 0};
              p.type[kScale] = Type::kF32;
            }
            p.type[kY] = y;
            p.seed = seed++;
            if (!CheckAll(p, 8)) return;
          }
        }
      }
    }
  }
}

// Every scale but one for a whole row, which no rank has alone.
TEST_P(ParallelTest, Quantised) {
  std::set<int32_t> kinds;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Problem p = Shareable(Random(seed, 3, seed % 2 == 0 ? 1024 : 4096));
    Quantize(seed, &p);
    if (p.quantizes() && CanShare(p, 8)) kinds.insert(p.quantization.scale_kind);
    if (!CheckAll(p)) return;
  }
  EXPECT_EQ(kinds.size(), 3u) << "some kind of scale never came up";
}

TEST_P(ParallelTest, OddValuesInEveryTensor) {
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    Problem p = Random(seed, 4, seed % 3 == 0 ? 1024 : 272);
    p.odd = seed % 2 == 0 ? (1u << kResidualOut) - 1 : 1u << (seed % kResidualOut);
    if (!CheckAll(p)) return;
  }
}

// dweight and dbias need nothing from other ranks but the statistic.
TEST_P(ParallelTest, GradientsOfVectorsAlone) {
  std::set<int32_t> gates;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Problem p = seed % 2 == 0 ? Random(seed, 5, 640) : Simple(seed % 4 == 1 ? Type::kF32 : Type::kBf16, 5, 1024);
    if (seed % 2 == 1) {
      p.seed = seed;
      p.contract.gate_place = seed % 3 == 0 ? ISONORM_GATE_NONE : seed % 3 == 1 ? ISONORM_GATE_BEFORE : ISONORM_GATE_AFTER;
      if (p.contract.gate_place != ISONORM_GATE_NONE) p.type[kGate] = p.type[kX];
      p.kind = seed % 5 == 0 ? DataKind::kSpecial : DataKind::kPlain;
    }
    p = Shareable(p);
    Problem backward = BackwardOf(p, Rstd::kRecomputed);
    for (const Slot slot : {kDx, kDgate, kDresidual}) backward.type[slot] = Type::kNone;
    if (seed % 2 == 1) backward.type[kDbias] = Type::kNone;  // which no tuned loop has
    if ((!backward.has(kDweight) && !backward.has(kDbias)) || !CanShare(p, 4)) continue;
    gates.insert(p.contract.gate_place);
    const Expected expected = Reference(p);
    const ParallelHow how = {.ranks = 4, .targets = {GetParam()}};
    const Bytes statistic = ComputeParallel(ForwardOf(p), expected.inputs, how).statistic;
    const Values outputs = ComputeParallel(backward, expected.inputs, how, statistic).outputs;
    ASSERT_TRUE(Same(backward, expected.backward, outputs, "vectors alone", &count_));
  }
  EXPECT_EQ(gates.size(), 3u) << "some gate never came up";
}

// Where the only value that is not finite, or the largest, lies on one rank.
TEST_P(ParallelTest, OneRankDecidesForAll) {
  for (const int32_t statistic : {ISONORM_STATISTIC_RMS, ISONORM_STATISTIC_LAYER}) {
    for (const float value : {3e38f, -3e38f, 1e-44f, 1e-30f, 0.0f, HUGE_VALF, NAN}) {
      for (int64_t at = 0; at < 1024; at += 128) {
        Problem p = Simple(Type::kF32, 2, 1024);
        p.contract.statistic = statistic;
        p.eps = 0;
        Values inputs = MakeInputs(p);
        if (value < 1) std::memset(inputs[kX].data(), 0, 1024 * sizeof(float));  // else the second row is as it was
        std::memcpy(inputs[kX].data() + static_cast<size_t>(at) * sizeof(float), &value, sizeof(value));
        if (!Check(p, Reference(p, inputs), {.ranks = 8})) return;
      }
    }
  }
}

TEST_P(ParallelTest, LeadingDimensions) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    for (const std::vector<int64_t>& lead : {std::vector<int64_t>{2, 3, 2}, {12, 1}, {1, 1, 3, 4}}) {
      const Problem p = Shareable(Random(seed, 12, 576));
      if (!CanShare(p, 4)) continue;
      const Expected expected = Reference(p);
      for (const bool slices : {true, false}) {
        if (!Check(p, expected, {.ranks = 4, .slices = slices, .padding = 16, .lead = lead})) return;
      }
    }
  }
}

TEST_P(ParallelTest, UnalignedElements) {
  for (size_t bytes = 1; bytes < 8; ++bytes) {
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      Problem p = Shareable(Random(seed, 3, 576));
      if (seed % 2 == 0) Quantize(seed, &p);
      if (seed % 4 == 1) p.kind = DataKind::kHuge;
      if (CanShare(p, 4) && !Check(p, Reference(p), {.ranks = 4, .unaligned = bytes})) return;
    }
  }
}

TEST_P(ParallelTest, InPlace) {
  const std::vector<std::vector<std::pair<Slot, Slot>>> forward = {{{kY, kX}}, {{kY, kResidual}, {kResidualOut, kX}}};
  const std::vector<std::vector<std::pair<Slot, Slot>>> backward = {{{kDx, kDy}}, {{kDx, kX}}, {{kDx, kDy}, {kDgate, kGate}}};
  std::set<std::pair<Slot, Slot>> tried;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    Problem p = Shareable(Random(seed, 35, 640));
    if (p.quantizes()) continue;  // y has a type of its own then
    const Type type = p.compute() == Type::kF64 ? Type::kF64 : p.type[kX];
    for (Type& each : p.type) each = each == Type::kNone ? each : type;
    const Expected expected = Reference(p);
    ParallelHow how = {.ranks = 4, .slices = seed % 2 == 0, .targets = {GetParam()}};
    const Bytes statistic = ComputeParallel(ForwardOf(p), expected.inputs, how).statistic;
    const auto check = [&](const Problem& call, const Values& wanted, const auto& pairs) {
      how.in_place.clear();
      for (const auto& pair : pairs) {
        if (call.has(pair.first) && call.has(pair.second)) how.in_place.push_back(pair);
      }
      tried.insert(how.in_place.begin(), how.in_place.end());
      return Same(call, wanted, ComputeParallel(call, expected.inputs, how, statistic).outputs, "in place", &count_);
    };
    for (const auto& pairs : forward) ASSERT_TRUE(check(ForwardOf(p), expected.forward, pairs));
    for (const auto& pairs : backward) ASSERT_TRUE(check(BackwardOf(p, Rstd::kRecomputed), expected.backward, pairs));
  }
  EXPECT_EQ(tried.size(), 6u) << "some pair never came up";
}

// Half a megabyte a task: both parts in many tasks, in any order and at the same time.
TEST_P(ParallelTest, Threads) {
  if (GetParam() == "reference") return void(CheckAll(Random(1, 2, 256)));  // would take a minute
  for (const int32_t statistic : {ISONORM_STATISTIC_RMS, ISONORM_STATISTIC_LAYER}) {
    Problem p = Simple(Type::kBf16, 1201, 4096);
    p.type[kResidual] = Type::kF32;
    p.contract.statistic = statistic;
    const Values inputs = MakeInputs(p);
    Expected expected = {inputs, Compute(ForwardOf(p), inputs), {}};
    expected.inputs[kResidualOut] = expected.forward[kResidualOut];
    expected.backward = Compute(BackwardOf(p, Rstd::kRecomputed), inputs);
    Shuffled shuffled(7);
    NewThreads threads(3);
    for (const isonorm_executor* executor : {shuffled.executor(), threads.executor()}) {
      Check(p, expected, {.ranks = 2, .executor = executor});
    }
    EXPECT_GT(shuffled.largest(), 1);
    EXPECT_GT(threads.largest(), 1);
  }
}

// Every call of every rank under every environment that a host may have set, which is as before afterwards.
TEST_P(ParallelTest, HostileEnvironment) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    Problem p = Shareable(Random(seed, 3, 640));
    constexpr std::array<DataKind, 4> kKinds = {DataKind::kPlain, DataKind::kTiny, DataKind::kHuge, DataKind::kSpecial};
    p.kind = kKinds[seed % 4];
    if (!CanShare(p, 4)) continue;
    const Expected expected = Reference(p);
    const ParallelHow how = {.ranks = 4, .targets = {GetParam()}};
    const Problem forward = ForwardOf(p), backward = BackwardOf(p, Rstd::kRecomputed);
    for (const Environment& mode : kHostile) {
      SetEnvironment(mode.bits);
      const uint64_t before = EnvironmentNow();
      const ParallelResult there = ComputeParallel(forward, expected.inputs, how);
      const ParallelResult back = ComputeParallel(backward, expected.inputs, how, there.statistic);
      const uint64_t after = EnvironmentNow();
      SetEnvironment(kDefaultEnvironment);
      EXPECT_EQ(before, after) << "the calls left another environment: " << mode.name;
      ASSERT_TRUE(Same(forward, expected.forward, there.outputs, mode.name, &count_));
      ASSERT_TRUE(Same(backward, expected.backward, back.outputs, mode.name, &count_));
    }
  }
}

// As in a cluster of several kinds of CPU: every rank computes on another target.
TEST_P(ParallelTest, TargetsMixed) {
  std::vector<std::string> targets = Targets();
  std::rotate(targets.begin(), std::find(targets.begin(), targets.end(), GetParam()), targets.end());
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Problem p = Shareable(Random(seed, 3, 1024));
    if (!CanShare(p, 8)) continue;
    ASSERT_TRUE(Check(p, Reference(p), {.ranks = 8, .targets = targets}));
  }
}

// What ranks send is specified too, and a cluster may mix targets: the bytes of every round are those of the reference.
TEST_P(ParallelTest, WhatRanksSend) {
  const auto sent = [](const Problem& p, const Values& inputs, int64_t ranks, const std::string& target) {
    const ParallelHow how = {.ranks = ranks, .targets = {target}};
    const ParallelResult there = ComputeParallel(ForwardOf(p), inputs, how);
    const ParallelResult back = ComputeParallel(BackwardOf(p, Rstd::kRecomputed), inputs, how, there.statistic);
    return std::pair(there.exchanged, back.exchanged);
  };
  for (const int64_t cols : {7, 24, 37, 72, 80, 104, 144, 160, 208, 240, 272, 336, 640, 1024}) {
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      Problem p = Shareable(Random(static_cast<uint64_t>(cols) * 10 + seed, 9, cols));
      const bool vanishes = seed <= 2;  // every product is negative, and rounds to -0
      if (vanishes) {
        p = Simple(seed == 1 ? Type::kF32 : Type::kF64, 9, cols);
        p.type[kDy] = p.type[kX];
        p.type[kWeight] = Type::kNone;
        p.kind = DataKind::kLeast;
        p.eps = 1;
      }
      Values inputs = MakeInputs(p);
      if (vanishes && p.type[kX] == Type::kF64) {
        const double least = std::numeric_limits<double>::denorm_min();
        for (size_t i = 0; i < inputs[kX].size(); i += sizeof(least)) std::memcpy(&inputs[kX][i], &least, sizeof(least));
      }
      inputs[kResidualOut] = Reference(p, inputs).forward[kResidualOut];
      for (const int64_t ranks : RankCounts(p)) {
        const auto expected = sent(p, inputs, ranks, "reference"), got = sent(p, inputs, ranks, GetParam());
        ASSERT_TRUE(got == expected) << ranks << " ranks: " << ToString(p);
        count_.elements += expected.first.size() + expected.second.size();
        ++count_.outputs;
        const Bytes zeros(expected.second.size(), 0);
        EXPECT_TRUE(!vanishes || expected.second == zeros) << ranks << " ranks: " << ToString(p);
      }
    }
  }
}

// The comparison notices sums in the wrong order of ranks.
TEST_P(ParallelTest, OrderOfRanksShows) {
  const Problem p = Simple(Type::kF32, 64, 1024), forward = ForwardOf(p), backward = BackwardOf(p, Rstd::kRecomputed);
  const Expected expected = Reference(p);
  ParallelHow how = {.ranks = 8, .targets = {GetParam()}};
  const ParallelResult right = ComputeParallel(forward, expected.inputs, how);
  Same(forward, expected.forward, right.outputs, "in order", &count_);
  how.rotate_gathered = true;
  EXPECT_NE(ComputeParallel(forward, expected.inputs, how).outputs[kY], expected.forward[kY]);
  EXPECT_NE(ComputeParallel(backward, expected.inputs, how, right.statistic).outputs[kDx], expected.backward[kDx]);
}

INSTANTIATE_TEST_SUITE_P(Target, ParallelTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
