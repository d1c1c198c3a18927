// The host's floating-point environment: whatever it is, results stay the same, and it is as before afterwards.
#include <gtest/gtest.h>

#include <atomic>

#include "environment.h"
#include "executors.h"
#include "run.h"

namespace core_test {
namespace {

std::atomic<size_t> g_mode = 0;
std::atomic<int> g_changed = 0;
thread_local uint64_t t_before = 0;

void EnterTask() {
  SetEnvironment(kHostile[g_mode].bits);
  t_before = EnvironmentNow();
}
void LeaveTask() {
  if (EnvironmentNow() != t_before) ++g_changed;
}

class EnvironmentTest : public testing::TestWithParam<std::string> {};

// Data with subnormals among them, which flushing would lose, and odd values, which set exception flags.
Problem Sensitive(uint64_t seed) {
  Problem problem = Random(seed, 40, 1 + static_cast<int64_t>(seed * 37 % 300));
  constexpr std::array<DataKind, 4> kKinds = {DataKind::kPlain, DataKind::kTiny, DataKind::kHuge, DataKind::kSpecial};
  problem.kind = kKinds[seed % 4];
  problem.eps = seed % 3 == 0 ? 0 : problem.eps;
  problem.odd = seed % 5 == 0 ? 0x7F : problem.odd;
  return problem;
}

TEST_P(EnvironmentTest, OfTheCallingThread) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const Problem problem = Sensitive(seed);
    const Expected expected = Reference(problem);
    const ScopedTarget target(GetParam());
    for (const Problem& call : {ForwardOf(problem), BackwardOf(problem, Rstd::kRecomputed)}) {
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
        Same(call, IsBackward(call) ? expected.backward : expected.forward, Compute(call, expected.inputs, how), mode.name);
        EXPECT_EQ(before, after) << "the call left another environment: " << mode.name << ", " << ToString(call);
      }
    }
  }
}

TEST_P(EnvironmentTest, OfTheExecutorsThreads) {
  NewThreads hostile(3, EnterTask, LeaveTask);
  g_changed = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Problem problem = Sensitive(seed);
    const Expected expected = Reference(problem);
    const ScopedTarget target(GetParam());
    for (g_mode = 0; g_mode < kHostile.size(); ++g_mode) {
      How how;
      how.executor = hostile.executor();
      const Problem forward = ForwardOf(problem), backward = BackwardOf(problem, Rstd::kSaved);
      Same(forward, expected.forward, Compute(forward, expected.inputs, how), kHostile[g_mode].name);
      Same(backward, expected.backward, Compute(backward, expected.inputs, how), kHostile[g_mode].name);
    }
  }
  EXPECT_GT(hostile.largest(), 1) << "the executor was not used";
  EXPECT_EQ(g_changed, 0) << "tasks left another environment on their thread";
}

// The modes are real: without a guard they change results. The last one on x86 would trap, and is left out.
TEST(EnvironmentGate, TheModesChangeArithmetic) {
  volatile float third = 3.0f, one = 1.0f, least = 0x1p-126f, up, down, half;
  const auto compute = [&] {
    up = one / third;
    down = -one / third;
    half = least / 2.0f;
  };
  for (size_t mode = 0; mode < 4; ++mode) {
    compute();
    const float before[3] = {up, down, half};
    SetEnvironment(kHostile[mode].bits);
    compute();
    SetEnvironment(kDefaultEnvironment);
    EXPECT_TRUE(up != before[0] || down != before[1] || half != before[2]) << kHostile[mode].name;
  }
}

INSTANTIATE_TEST_SUITE_P(Target, EnvironmentTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
