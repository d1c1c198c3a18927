// The pool: every task exactly once, from many callers at once and from inside tasks.
#include <gtest/gtest.h>
#include <isonorm/isonorm.hpp>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <vector>

#include "each_once.h"

namespace isonorm_test {
namespace {

TEST(ThreadPool, EveryTaskOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    const isonorm::thread_pool pool(threads);
    EXPECT_EQ(pool.concurrency(), threads);
    EXPECT_EQ(pool.executor()->concurrency, threads);
    for (std::size_t count = 0; count < 300; ++count) ASSERT_TRUE(EachOnce(pool.executor(), count)) << threads << " " << count;
  }
}

TEST(ThreadPool, ManyCallersAtOnce) {
  const isonorm::thread_pool pool(3);
  std::atomic<bool> good = true;
  std::vector<std::thread> callers;
  for (std::size_t seed = 0; seed < 4; ++seed) {
    callers.emplace_back([&, seed] {
      for (std::size_t i = 0; i < 2000; ++i) {
        if (!EachOnce(pool.executor(), (i * 7 + seed) % 11)) good = false;
        if (i % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // lets the workers fall asleep
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_TRUE(good);
}

TEST(ThreadPool, TasksMayCallThePool) {
  struct Nested {
    isonorm::thread_pool pool{4};
    std::atomic<int> count{0};
  } nested;
  nested.pool.parallel_for(
      5,
      [](void* context, std::int64_t) {
        static_cast<Nested*>(context)->pool.parallel_for(
            7, [](void* inner, std::int64_t) { ++static_cast<Nested*>(inner)->count; }, context);
      },
      &nested);
  EXPECT_EQ(nested.count, 35);
}

TEST(ThreadPool, TasksRunAtTheSameTime) {
  const isonorm::thread_pool pool(2);
  EXPECT_TRUE(AtTheSameTime(pool.executor(), 2));
}

#if defined(__linux__)
// On one CPU the shared pool has no workers. It is never destroyed, and must not be taken for a leak by LeakSanitizer, which
// looks when the child exits.
TEST(ThreadPool, TheSharedExecutorOnOneCpu) {
  const auto exit_on_one_cpu = [] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    const bool done = sched_setaffinity(0, sizeof one, &one) == 0 && isonorm::shared_executor()->concurrency == 1 &&
                      EachOnce(isonorm::shared_executor(), 20);
    std::exit(done ? 0 : 1);
  };
  testing::GTEST_FLAG(death_test_style) = "threadsafe";  // a new process, in which no other test has made the pool
  EXPECT_EXIT(exit_on_one_cpu(), testing::ExitedWithCode(0), "");
}
#endif

TEST(ThreadPool, TheSharedExecutorIsComplete) {
  const isonorm_executor* const executor = isonorm::shared_executor();
  EXPECT_EQ(executor->struct_size, sizeof(isonorm_executor));
  EXPECT_EQ(executor->concurrency, isonorm::thread_pool::available_cpus());
  EXPECT_TRUE(EachOnce(executor, 20));
}

}  // namespace
}  // namespace isonorm_test
