// The host's floating-point environment: whatever it is, results stay the same, and it is as before afterwards.
#include <gtest/gtest.h>

#include <atomic>
#include <cfenv>

#include "executors.h"
#include "run.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace core_test {
namespace {

#if defined(__SSE2__)
constexpr const char* kModes[] = {"round down", "round up", "toward zero", "flush to zero, denormals are zero",
                                  "all of it, every exception trapped"};
constexpr unsigned kBits[] = {0x3F80, 0x5F80, 0x7F80, 0x9FC0, 0xE040};  // MXCSR
uint64_t Environment() { return _mm_getcsr(); }
void SetEnvironment(int mode) { _mm_setcsr(mode < 0 ? 0x1F80u : kBits[mode]); }
#elif defined(__aarch64__)
constexpr const char* kModes[] = {"round up", "round down", "toward zero", "flush to zero",
                                  "default NaN, flush to zero and toward zero"};
constexpr uint64_t kBits[] = {1u << 22, 2u << 22, 3u << 22, 1u << 24, (1u << 25) | (1u << 24) | (3u << 22)};  // FPCR
uint64_t Environment() {
  uint64_t control, status;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  __asm__ volatile("mrs %0, fpsr" : "=r"(status));
  return control << 32 | (status & 0xFFFFFFFFu);
}
void SetEnvironment(int mode) {
  const uint64_t control = mode < 0 ? 0 : kBits[mode];
  __asm__ volatile("msr fpcr, %0" : : "r"(control));
}
#else
constexpr const char* kModes[] = {"round down", "round up", "toward zero", "round up", "round down"};
constexpr int kBits[] = {FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO, FE_UPWARD, FE_DOWNWARD};
uint64_t Environment() {
  return static_cast<uint64_t>(std::fegetround()) << 8 | static_cast<uint64_t>(std::fetestexcept(FE_ALL_EXCEPT));
}
void SetEnvironment(int mode) {
  std::fesetenv(FE_DFL_ENV);
  std::fesetround(mode < 0 ? FE_TONEAREST : kBits[mode]);
}
#endif

std::atomic<int> g_mode = -1, g_changed = 0;
thread_local uint64_t t_before = 0;

void EnterTask() {
  SetEnvironment(g_mode);
  t_before = Environment();
}
void LeaveTask() {
  if (Environment() != t_before) ++g_changed;
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
      for (int mode = 0; mode < 5; ++mode) {
        How how;
        uint64_t before = 0, after = 0;
        how.before = [mode, &before] {
          SetEnvironment(mode);
          before = Environment();
        };
        how.after = [&after] {
          after = Environment();
          SetEnvironment(-1);
        };
        Same(call, IsBackward(call) ? expected.backward : expected.forward, Compute(call, expected.inputs, how), kModes[mode]);
        EXPECT_EQ(before, after) << "the call left another environment: " << kModes[mode] << ", " << ToString(call);
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
    for (g_mode = 0; g_mode < 5; ++g_mode) {
      How how;
      how.executor = hostile.executor();
      const Problem forward = ForwardOf(problem), backward = BackwardOf(problem, Rstd::kSaved);
      Same(forward, expected.forward, Compute(forward, expected.inputs, how), kModes[g_mode]);
      Same(backward, expected.backward, Compute(backward, expected.inputs, how), kModes[g_mode]);
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
  for (int mode = 0; mode < 4; ++mode) {
    compute();
    const float before[3] = {up, down, half};
    SetEnvironment(mode);
    compute();
    SetEnvironment(-1);
    EXPECT_TRUE(up != before[0] || down != before[1] || half != before[2]) << kModes[mode];
  }
}

INSTANTIATE_TEST_SUITE_P(Target, EnvironmentTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
