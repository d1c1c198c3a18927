// The benchmark's rows of two threads: with both threads on one CPU they would show that a second one gains nothing.
#include <gtest/gtest.h>

#if defined(__linux__)
#include <sched.h>

#include <array>
#include <atomic>
#include <cstring>
#include <thread>

#include "bench/timing.h"

namespace isonorm_test {
namespace {

cpu_set_t Mask() {
  cpu_set_t mask;
  std::memset(&mask, 0, sizeof mask);
  EXPECT_EQ(sched_getaffinity(0, sizeof mask, &mask), 0);
  return mask;
}

// The CPUs that each thread of a pool of two may use.
struct Masks {
  std::thread::id caller = std::this_thread::get_id();
  std::atomic<int> arrived = 0;
  std::array<cpu_set_t, 2> of = {};  // the caller's, the worker's
  explicit Masks(isonorm::thread_pool& pool) {
    pool.parallel_for(
        2,
        [](void* context, std::int64_t) {
          Masks& masks = *static_cast<Masks*>(context);
          ++masks.arrived;
          while (masks.arrived < 2) std::this_thread::yield();
          masks.of[std::this_thread::get_id() == masks.caller ? 0 : 1] = Mask();
        },
        this);
  }
};

TEST(Bench, TwoThreadsHaveACpuEach) {
  if (isonorm::thread_pool::available_cpus() < 2) GTEST_SKIP() << "this process has one CPU";
  const cpu_set_t before = Mask();
  isonorm::thread_pool pool(2);
  {
    const isonorm_cli::bench::PinPair pinned(pool);
    const Masks masks(pool);
    for (const cpu_set_t& mask : masks.of) EXPECT_EQ(CPU_COUNT(&mask), 1);
    EXPECT_FALSE(CPU_EQUAL(&masks.of[0], &masks.of[1]));
  }
  const cpu_set_t after = Mask();
  EXPECT_TRUE(CPU_EQUAL(&before, &after)) << "the calling thread stays pinned";
}

// With one CPU, or a pool of another size, nothing is pinned and nothing waits for a thread that does not come.
TEST(Bench, OtherPoolsStayAsTheyAre) {
  for (const int threads : {1, 3}) {
    isonorm::thread_pool pool(threads);
    const cpu_set_t before = Mask();
    const isonorm_cli::bench::PinPair pinned(pool);
    const cpu_set_t after = Mask();
    EXPECT_TRUE(CPU_EQUAL(&before, &after)) << threads;
  }
  const isonorm_cli::bench::Pin one(sched_getcpu());
  isonorm::thread_pool pool(2);
  const isonorm_cli::bench::PinPair pinned(pool);
  const cpu_set_t mask = Mask();
  EXPECT_EQ(CPU_COUNT(&mask), 1);
}

}  // namespace
}  // namespace isonorm_test
#endif
