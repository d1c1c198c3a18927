// What a call needs of the stack of the thread that makes it: programs give their threads as little as 256 KB.
#include <gtest/gtest.h>
#include <pthread.h>

#include <functional>

#include "run.h"

namespace core_test {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kStack = 2 << 20;  // they put room around every array
#else
constexpr size_t kStack = 192 << 10;  // of which the test itself needs some
#endif

// Runs `body` in a thread with so much of a stack; beyond it lies a guard page.
void WithSmallStack(const std::function<void()>& body) {
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_attr_init(&attributes), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, kStack), 0);
  pthread_t thread;
  const auto run = [](void* argument) -> void* {
    (*static_cast<const std::function<void()>*>(argument))();
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, run, const_cast<std::function<void()>*>(&body)), 0);
  ASSERT_EQ(pthread_join(thread, nullptr), 0);
  pthread_attr_destroy(&attributes);
}

class StackTest : public testing::TestWithParam<std::string> {};

// The widths are those up to which fused loops have buffers of a row: 8192 columns, and 64 KB.
TEST_P(StackTest, IsSmall) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Problem p = Random(seed, 3, seed % 3 == 0 ? 16384 : 8192);
    p.groups = 1;
    p.window = 0;
    if (seed % 2 == 0 && p.compute() != Type::kF64) {  // one type for all, as tuned loops want it
      const Type type = seed % 4 == 0 ? Type::kF32 : Type::kBf16;
      for (const Slot slot : {kX, kWeight, kResidual, kGate, kResidualOut, kDy, kDx, kDgate, kY}) {
        if (p.has(slot) && !(slot == kY && p.quantizes())) p.type[slot] = type;
      }
      p.contract.statistic = ISONORM_STATISTIC_RMS;
      p.type[kBias] = p.type[kDresidual] = Type::kNone;
    }
    p.odd = seed % 5 == 0 ? 1u << kX : 0;  // rows that a tuned loop hands on
    const Expected expected = Reference(p);
    const Problem forward = ForwardOf(p), backward = BackwardOf(p, Rstd::kRecomputed);
    WithSmallStack([&] {
      const ScopedTarget target(GetParam());
      Same(forward, expected.forward, Compute(forward, expected.inputs), "forward");
      Same(backward, expected.backward, Compute(backward, expected.inputs), "backward");
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Target, StackTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
