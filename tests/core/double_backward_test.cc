// Double backward: every target gives the bits of the reference, whatever the types, the data, the layout and the threads.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <isonorm/thread_pool.hpp>

#include "environment.h"
#include "executors.h"
#include "run.h"

namespace core_test {
namespace {

constexpr std::array<Slot, 5> kRowSlots = {kX, kDy, kDdx, kDx, kDdy};

// A valid problem of double backward with all inputs, and with every output that they allow.
Problem RandomDouble(uint64_t seed, int64_t rows, int64_t cols) {
  Problem p = Random(seed, rows, cols);
  const auto draw = [&](uint64_t of, uint64_t limit) { return Mix(seed * 97 + of) % limit; };
  const auto any = [&](uint64_t of) {
    constexpr std::array<Type, 3> kNarrow = {Type::kF32, Type::kBf16, Type::kF16};
    return p.type[kX] == Type::kF64 ? Type::kF64 : kNarrow[draw(of, 3)];
  };
  p.contract.statistic = ISONORM_STATISTIC_RMS;
  p.contract.eps_place = ISONORM_EPS_INSIDE;
  p.contract.gate_place = ISONORM_GATE_NONE;
  p.window = 0;
  p.quantization = {};
  Unrotate(&p);
  for (const Slot slot : {kBias, kResidual, kGate, kDresidual, kY, kScale}) p.type[slot] = Type::kNone;
  p.type[kDdx] = draw(1, 6) == 0 ? Type::kNone : any(2);
  p.type[kDdweight] = p.has(kWeight) && (!p.has(kDdx) || draw(3, 3) != 0) ? any(4) : Type::kNone;
  if (!p.has(kDdx) && !p.has(kDdweight)) p.type[kDdx] = p.type[kX];
  p.type[kDx] = p.type[kX];
  p.type[kDweight] = p.type[kWeight];
  p.type[kDdy] = p.type[kDy];
  if (p.odd != 0) p.odd = static_cast<unsigned>(draw(5, 1u << kResidualOut));
  return p;
}

Problem With(const Problem& problem, Rstd rstd) {
  Problem p = problem;
  p.type[kRstd] = rstd == Rstd::kSaved ? p.compute() : Type::kNone;
  return p;
}

struct Expected {
  Values inputs, outputs;
};

Expected ReferenceOf(const Problem& problem, Values inputs) {
  const ScopedTarget reference("reference");
  Expected expected;
  expected.inputs = std::move(inputs);
  Problem forward = problem;
  for (const Slot slot : {kDy, kDdx, kDdweight, kDx, kDweight, kDdy}) forward.type[slot] = Type::kNone;
  forward.type[kRstd] = forward.compute();
  expected.inputs[kRstd] = Compute(forward, expected.inputs)[kRstd];
  expected.outputs = Compute(With(problem, Rstd::kRecomputed), expected.inputs);
  return expected;
}

Expected ReferenceOf(const Problem& problem) { return ReferenceOf(problem, MakeInputs(problem)); }

// Every target against the reference, each with another form of rstd in turn.
class Sweep {
 public:
  void Check(const Problem& problem) {
    if (failed_ >= 5) return;
    const Expected expected = ReferenceOf(problem);
    size_t turn = problem.seed;
    for (const std::string& target : Targets()) {
      const ScopedTarget scope(target);
      const Problem call = With(problem, turn++ % 2 == 0 ? Rstd::kSaved : Rstd::kRecomputed);
      if (!Same(call, expected.outputs, Compute(call, expected.inputs), target, &count_)) ++failed_;
    }
  }
  ~Sweep() {
    EXPECT_GT(count_.outputs, 0u) << "nothing was compared";
    std::printf("%zu outputs with %zu elements compared\n", count_.outputs, count_.elements);
  }

 private:
  size_t failed_ = 0;
  Count count_;
};

// What `expand` makes of one value: the last stride is 0 too. As if every element were there.
TEST(DoubleBackwardSweep, OneValueForARow) {
  for (const int64_t cols : {2, 5, 64, 300, 1030}) {
    for (uint64_t seed = 1; seed <= 6; ++seed) {
      const Problem problem = RandomDouble(seed * 17 + static_cast<uint64_t>(cols), 3, cols);
      for (const Slot slot : {kX, kDy, kDdx, kWeight, kDdweight}) {
        if (!problem.has(slot)) continue;
        const Expected expected = ReferenceOf(problem, WithOneValue(problem, MakeInputs(problem), slot, false));
        How how;
        how.layout.place[slot].strides = problem.is_vector(slot) ? std::vector<int64_t>{0} : std::vector<int64_t>{3, 0};
        for (const std::string& target : Targets()) {
          const ScopedTarget scope(target);
          Same(problem, expected.outputs, Compute(problem, expected.inputs, how), target + ", one value in " + NameOf(slot));
        }
      }
    }
  }
}

TEST(DoubleBackwardSweep, SmallWidths) {
  Sweep sweep;
  for (int64_t cols = 1; cols <= 130; ++cols) {
    for (uint64_t i = 0; i < 8; ++i) {
      sweep.Check(RandomDouble(1000 * static_cast<uint64_t>(cols) + i, 1 + static_cast<int64_t>(i % 4), cols));
    }
  }
}

TEST(DoubleBackwardSweep, PowersOfTwoAndWidthsOfModels) {
  Sweep sweep;
  for (int64_t power = 256; power <= 16384; power *= 2) {
    for (const int64_t step : {-8, -1, 0, 1, 7}) {
      for (uint64_t i = 0; i < 4; ++i) {
        sweep.Check(RandomDouble(static_cast<uint64_t>(power + step) * 100 + i, 1 + static_cast<int64_t>(i % 3), power + step));
      }
    }
  }
  for (const int64_t cols : {192, 384, 769, 2880, 5120, 7168, 28672, 65537}) {
    for (uint64_t i = 0; i < 3; ++i) {
      sweep.Check(RandomDouble(static_cast<uint64_t>(cols) * 100 + i, i == 0 && cols < 6000 ? 33 : 1, cols));
    }
  }
}

TEST(DoubleBackwardSweep, Rows) {
  Sweep sweep;
  for (const int64_t rows : {0, 1, 2, 3, 7, 31, 32, 33, 61, 63, 64, 65, 97, 127, 129, 257, 1025}) {
    for (const int64_t cols : {1, 8, 33, 128, 257}) {
      for (uint64_t i = 0; i < 3; ++i)
        sweep.Check(RandomDouble(static_cast<uint64_t>(rows * 1000 + cols) * 10 + i, rows, cols));
    }
  }
}

TEST(DoubleBackwardSweep, Types) {
  constexpr std::array<Type, 4> kTypes = {Type::kF32, Type::kBf16, Type::kF16, Type::kNone};
  Sweep sweep;
  uint64_t seed = 1;
  for (const int64_t cols : {1, 63, 129, 640}) {
    for (size_t mix = 0; mix < 4 * 4 * 4 * 4 * 4; ++mix, ++seed) {
      Problem p = RandomDouble(seed, 3, cols);
      const auto type = [&](size_t digit) { return kTypes[mix >> (2 * digit) & 3]; };
      if (p.compute() == Type::kF64 || type(0) == Type::kNone || type(1) == Type::kNone) continue;  // x and dy are there
      p.type[kX] = p.type[kDx] = type(0);
      p.type[kDy] = p.type[kDdy] = type(1);
      p.type[kWeight] = p.type[kDweight] = type(2);
      p.type[kDdx] = type(3);
      p.type[kDdweight] = type(2) == Type::kNone ? Type::kNone : type(4);
      if (!p.has(kDdx) && !p.has(kDdweight)) continue;
      sweep.Check(p);
    }
  }
}

TEST(DoubleBackwardSweep, KindsOfData) {
  Sweep sweep;
  uint64_t seed = 1;
  for (int kind = 0; kind < isonorm_cli::kDataKinds; ++kind) {
    for (const double eps : {0.0, 1e-42, 1e-37, 1e-12, 1e-6, 1.0}) {
      for (const Type type : {Type::kF32, Type::kBf16, Type::kF16, Type::kF64}) {
        for (const int64_t cols : {7, 129, 600}) {
          Problem p = RandomDouble(seed, 12, cols);
          for (Type& each : p.type) each = each == Type::kNone ? each : type;
          p.kind = static_cast<DataKind>(kind);
          if (p.kind == DataKind::kFar && type != Type::kF64) continue;
          p.eps = eps;
          p.seed = seed++;
          sweep.Check(p);
        }
      }
    }
  }
}

// NaN with payloads, infinities, subnormals and the largest numbers, in one tensor and in all.
TEST(DoubleBackwardSweep, OddValuesInEveryTensor) {
  constexpr std::array<Slot, 5> kInputs = {kX, kWeight, kDy, kDdx, kDdweight};
  Sweep sweep;
  for (uint64_t seed = 1; seed <= 1200; ++seed) {
    Problem p = RandomDouble(seed, 4, 1 + static_cast<int64_t>(seed % 300));
    p.odd = seed % 6 == 0 ? (1u << kResidualOut) - 1 : 1u << kInputs[seed % 6 - 1];
    sweep.Check(p);
  }
}

class DoubleBackwardTest : public testing::TestWithParam<std::string> {
 protected:
  static void Check(const Problem& problem, const Expected& expected, const How& how, const std::string& what) {
    const ScopedTarget target(GetParam());
    for (const Rstd rstd : {Rstd::kSaved, Rstd::kRecomputed}) {
      const Problem call = With(problem, rstd);
      Same(call, expected.outputs, Compute(call, expected.inputs, how), what);
    }
  }
};

// What is not asked for changes nothing in the rest.
TEST_P(DoubleBackwardTest, AnySubsetOfTheOutputs) {
  for (const int64_t cols : {5, 128, 300}) {
    for (uint64_t seed = 1; seed <= 6; ++seed) {
      const Problem problem = RandomDouble(seed, 35, cols);
      const Expected expected = ReferenceOf(problem);
      for (int subset = 1; subset < 8; ++subset) {
        Problem p = problem;
        Expected part = expected;
        int bit = 1;
        for (const Slot slot : {kDx, kDweight, kDdy}) {
          if ((subset & bit) == 0) p.type[slot] = Type::kNone, part.outputs[slot].clear();
          bit *= 2;
        }
        if (p.has(kDx) || p.has(kDweight) || p.has(kDdy)) Check(p, part, {}, "subset " + std::to_string(subset));
      }
    }
  }
}

TEST_P(DoubleBackwardTest, InPlace) {
  struct Pair {
    Slot output, input;
  };
  const std::vector<std::vector<Pair>> all = {{{kDx, kX}},
                                              {{kDx, kDy}},
                                              {{kDx, kDdx}},
                                              {{kDdy, kX}},
                                              {{kDdy, kDy}},
                                              {{kDdy, kDdx}},
                                              {{kDx, kX}, {kDdy, kDy}},
                                              {{kDx, kDy}, {kDdy, kX}},
                                              {{kDx, kDdx}, {kDdy, kX}},
                                              {{kDx, kDy}, {kDdy, kDdx}}};
  for (const int64_t cols : {1, 40, 129, 800}) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      Problem problem = RandomDouble(seed * 3 + static_cast<uint64_t>(cols), 5, cols);
      for (Type& each : problem.type) each = each == Type::kNone ? each : problem.type[kX];
      problem.type[kDdx] = problem.type[kX];
      const Expected expected = ReferenceOf(problem);
      for (const std::vector<Pair>& pairs : all) {
        How how;
        std::string what = "in place:";
        for (const Slot slot : kRowSlots) how.layout.place[slot].strides = {cols + static_cast<int64_t>(seed % 3)};
        for (const Pair& pair : pairs) {
          how.layout.place[pair.output].over = pair.input;
          what += std::string(" ") + NameOf(pair.output) + " over " + NameOf(pair.input);
        }
        Check(problem, expected, how, what);
      }
    }
  }
}

// Leading dimensions, rows apart, reversed or in one place, and every tensor at another misalignment.
TEST_P(DoubleBackwardTest, Layouts) {
  for (const int64_t cols : {1, 17, 64, 130, 769}) {
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      const Problem problem = RandomDouble(seed * 100 + static_cast<uint64_t>(cols), 36, cols);
      const Expected expected = ReferenceOf(problem);
      How apart, nested, reversed, unaligned;
      for (int slot = 0; slot < kSlots; ++slot) {
        unaligned.layout.place[static_cast<size_t>(slot)].bytes = (static_cast<int>(seed) + slot) % 7 + 1;
      }
      nested.layout.lead = {3, 4, 3};
      for (size_t i = 0; i < kRowSlots.size(); ++i) {
        const auto padding = static_cast<int64_t>(1 + (seed + i) % 67), row = cols + padding;
        apart.layout.place[kRowSlots[i]].strides = {row};
        apart.layout.place[kRowSlots[i]].offset = nested.layout.place[kRowSlots[i]].offset =
            static_cast<int>(seed * 5 + i) % 33;
        nested.layout.place[kRowSlots[i]].strides = {row * 3, row * 9 + 1, row};
        reversed.layout.place[kRowSlots[i]].strides = {-row};
      }
      for (const Slot slot : {kWeight, kDdweight, kDweight, kRstd})
        apart.layout.place[slot].offset = static_cast<int>(seed % 7);
      Check(problem, expected, apart, "rows apart");
      Check(problem, expected, nested, "leading dimensions nested otherwise");
      Check(problem, expected, reversed, "rows reversed");
      Check(problem, expected, unaligned, "elements unaligned");
    }
  }
}

TEST_P(DoubleBackwardTest, NothingBesideIsTouched) {
  for (const Guard guard : {Guard::kPageBehind, Guard::kPageInFront}) {
    How how;
    for (Place& place : how.layout.place) place.guard = guard;
    for (int64_t cols = 1; cols <= 140; ++cols) {
      for (uint64_t seed = 1; seed <= 3; ++seed) {
        const Problem problem = RandomDouble(static_cast<uint64_t>(cols) * 7 + seed, 1 + static_cast<int64_t>(seed % 2), cols);
        Check(problem, ReferenceOf(problem), how, "guarded");
      }
    }
    for (const int64_t cols : {255, 256, 257, 511, 513, 1000, 4097}) {
      const Problem problem = RandomDouble(static_cast<uint64_t>(cols), 33, cols);
      Check(problem, ReferenceOf(problem), how, "guarded");
    }
  }
}

TEST_P(DoubleBackwardTest, Threads) {
  const isonorm::thread_pool pool(3);
  for (const int64_t rows : {1, 2, 31, 33, 64, 257, 1000}) {
    for (const int64_t cols : {1, 17, 130}) {
      const Problem problem = RandomDouble(static_cast<uint64_t>(rows * 1000 + cols), rows, cols);
      const Expected expected = ReferenceOf(problem);
      for (const int tasks : {1, 2, 3, 8, 17}) {
        Shuffled shuffled(tasks, static_cast<uint64_t>(rows));
        How how;
        how.executor = shuffled.executor();
        Check(problem, expected, how, std::to_string(tasks) + " tasks in shuffled order");
        if (rows >= 257 && cols > 1 && tasks > 1) {
          EXPECT_GT(shuffled.largest(), 1) << "the executor was not used";
        }
      }
      How how;
      how.executor = pool.executor();
      Check(problem, expected, how, "a pool");
    }
  }
}

// The old value, plus the sum, in the compute type.
TEST_P(DoubleBackwardTest, Accumulates) {
  How how;
  how.flags = ISONORM_ACCUMULATE;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    Problem problem = RandomDouble(seed, 70, 65);
    if (!problem.has(kWeight)) problem.type[kWeight] = problem.type[kDweight] = problem.type[kX];
    Expected expected = ReferenceOf(problem);
    expected.inputs[kDweight] = expected.inputs[kWeight];
    {
      const ScopedTarget reference("reference");
      expected.outputs = Compute(With(problem, Rstd::kRecomputed), expected.inputs, how);
    }
    Check(problem, expected, how, "accumulated");
  }
  Problem problem = Simple(Type::kF32, 70, 65);
  problem.type[kDdx] = problem.type[kDweight] = Type::kF32;
  problem.type[kY] = Type::kNone;
  Expected expected = ReferenceOf(problem);
  expected.inputs[kDweight] = expected.inputs[kWeight];
  for (size_t i = 0; i < 65 * sizeof(float); i += sizeof(float)) {
    float sum, old;
    std::memcpy(&sum, &expected.outputs[kDweight][i], sizeof(sum));
    std::memcpy(&old, &expected.inputs[kDweight][i], sizeof(old));
    sum = old + sum;
    std::memcpy(&expected.outputs[kDweight][i], &sum, sizeof(sum));
  }
  Check(problem, expected, how, "old + sum");
}

TEST_P(DoubleBackwardTest, HostileEnvironments) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    Problem problem = RandomDouble(seed, 40, 1 + static_cast<int64_t>(seed * 37 % 300));
    problem.kind = std::array<DataKind, 3>{DataKind::kPlain, DataKind::kTiny, DataKind::kHuge}[seed % 3];
    const Expected expected = ReferenceOf(problem);
    for (const Environment& mode : kHostile) {
      How how;
      uint64_t before = 0, after = 0;
      how.before = [&mode, &before] {
        SetEnvironment(mode.bits);
        before = EnvironmentNow();
      };
      how.after = [&after] {
        after = EnvironmentNow();
        SetEnvironment(kDefaultEnvironment);
      };
      Check(problem, expected, how, mode.name);
      EXPECT_EQ(before, after) << "the call left another environment: " << mode.name << ", " << ToString(problem);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Target, DoubleBackwardTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
