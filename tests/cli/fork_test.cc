// Pools and fork(): a child has the one thread that forked. Whatever its parent was doing, it may use every pool of its parent,
// destroy it, and make new ones.
#include <gtest/gtest.h>
#include <isonorm/isonorm.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <memory>
#include <thread>
#include <vector>

#include "each_once.h"

namespace isonorm_test {
namespace {

constexpr int kSizes[] = {1, 2, 4, 16};

// The end of a child, as an exit() that leaves no thread and no memory behind.
[[noreturn]] void End(bool good) { std::exit(good ? 0 : 1); }

void ExpectGoodEnd(pid_t child) {
  ASSERT_GT(child, 0);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "wait status " << status;
}

// fork() whose child is ended by SIGALRM if it hangs.
pid_t Fork() {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) alarm(20);
  return child;
}

template <class Function>
void InChild(Function function) {
  const pid_t child = Fork();
  if (child == 0) End(function());
  ExpectGoodEnd(child);
}

TEST(ThreadPoolFork, TheChildOnlyEnds) {
  for (const int threads : kSizes) {
    for (const bool used : {false, true}) {
      auto pool = std::make_unique<isonorm::thread_pool>(threads);
      if (used) EXPECT_TRUE(EachOnce(pool->executor(), 100));
      InChild([&] {
        pool.reset();
        return true;
      });
      EXPECT_TRUE(AtTheSameTime(pool->executor(), threads));
    }
  }
}

// Nobody is asked to start threads who may only want to fork.
TEST(ThreadPool, ThreadsStartWhenAJobNeedsThem) {
  const auto threads = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
  };
  std::thread([] {}).join();  // with the first one a sanitizer starts one of its own
  const auto before = threads();
  const isonorm::thread_pool pool(4);
  EXPECT_TRUE(EachOnce(pool.executor(), 1));
  EXPECT_EQ(threads(), before);
  EXPECT_TRUE(EachOnce(pool.executor(), 2));
  EXPECT_EQ(threads(), before + 3);
}

TEST(ThreadPoolFork, SpawnedProgramsChangeNothing) {
  const isonorm::thread_pool pool(4);
  EXPECT_TRUE(AtTheSameTime(pool.executor(), 4));
  const pid_t child = vfork();
  if (child == 0) {
    execl("/bin/true", "true", static_cast<char*>(nullptr));
    _exit(1);
  }
  ExpectGoodEnd(child);
  EXPECT_TRUE(AtTheSameTime(pool.executor(), 4));
  EXPECT_EQ(std::system("true"), 0);
  EXPECT_TRUE(AtTheSameTime(pool.executor(), 4));
}

#if !defined(__SANITIZE_THREAD__)  // which forbids threads after fork

// The pool of the parent, then one of its own.
bool UseAndDestroy(std::unique_ptr<isonorm::thread_pool>& pool) {
  const int threads = pool->concurrency();
  const bool used = EachOnce(pool->executor(), 100) && AtTheSameTime(pool->executor(), threads);
  pool.reset();
  const isonorm::thread_pool own(threads);
  return used && EachOnce(own.executor(), 100) && AtTheSameTime(own.executor(), threads);
}

TEST(ThreadPoolFork, TheChildUsesThePool) {
  for (const int threads : kSizes) {
    for (const bool used : {false, true}) {
      auto pool = std::make_unique<isonorm::thread_pool>(threads);
      if (used) EXPECT_TRUE(EachOnce(pool->executor(), 100));
      InChild([&] { return UseAndDestroy(pool); });
      InChild([&] {
        InChild([&] { return UseAndDestroy(pool); });
        return !testing::Test::HasFailure() && UseAndDestroy(pool);
      });
      EXPECT_TRUE(AtTheSameTime(pool->executor(), threads));
    }
  }
}

TEST(ThreadPoolFork, AnotherThreadUsesThePoolMeanwhile) {
  auto pool = std::make_unique<isonorm::thread_pool>(4);
  std::atomic<bool> end = false, good = true;
  std::thread caller([&] {
    std::atomic<int> sum = 0;
    const auto add = [](void* context, std::int64_t) { ++*static_cast<std::atomic<int>*>(context); };
    while (!end) {
      sum = 0;
      pool->parallel_for(4, add, &sum);
      if (sum != 4) good = false;
    }
  });
  for (int turn = 0; turn < 30; ++turn) InChild([&] { return UseAndDestroy(pool); });
  end = true;
  caller.join();
  EXPECT_TRUE(good);
}

// 8 MB of traffic, which the shared pool spreads over the CPUs.
std::vector<float>& Normalise(const std::vector<float>& x, std::vector<float>& y) {
  isonorm::forward(isonorm::contracts::torch, 1e-6,
                   {.x = {x, 1024, 1024}, .y = {y, 1024, 1024}, .executor = isonorm::shared_executor()});
  return y;
}

TEST(ThreadPoolFork, TheSharedPoolGivesTheSameBits) {
  std::vector<float> x(1024 * 1024), y(x.size()), out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 8191) - 4000;
  Normalise(x, y);
  const auto same_in_child = [&] {
    InChild([&] {
      const isonorm_executor* const shared = isonorm::shared_executor();
      std::vector<float> own(x.size());
      return Normalise(x, own) == y && AtTheSameTime(shared, shared->concurrency);
    });
  };
  same_in_child();
  std::atomic<bool> end = false, good = true;
  std::thread caller([&] {
    while (!end) {
      if (Normalise(x, out) != y) good = false;
    }
  });
  for (int turn = 0; turn < 10; ++turn) same_in_child();
  end = true;
  caller.join();
  EXPECT_TRUE(good);
}

// Two tasks at the same time, one on the caller's thread and one on a thread of the pool, and both fork. Each child goes on in
// its task; the caller's then returns from parallel_for, the other one ends.
TEST(ThreadPoolFork, InsideATask) {
  struct Job {
    std::unique_ptr<isonorm::thread_pool> pool = std::make_unique<isonorm::thread_pool>(2);
    std::thread::id caller = std::this_thread::get_id();
    std::atomic<int> arrived = 0;
    std::atomic<int> finished = 0;
    std::atomic<pid_t> children[2] = {};
  } job;
  const pid_t parent = getpid();
  job.pool->parallel_for(
      2,
      [](void* context, std::int64_t index) {
        Job& all = *static_cast<Job*>(context);
        ++all.arrived;
        while (all.arrived < 2) std::this_thread::yield();
        const pid_t child = Fork();
        if (child == 0 && !UseAndDestroy(all.pool)) _exit(1);
        // What the lost main thread held would be a leak to LeakSanitizer, which looks after this function.
        if (child == 0 && std::this_thread::get_id() != all.caller) std::atexit([] { _exit(0); });
        all.children[index] = child;
        ++all.finished;
      },
      &job);
  if (getpid() != parent) End(job.finished <= 2 && job.pool == nullptr);
  EXPECT_EQ(job.finished, 2);
  for (const std::atomic<pid_t>& child : job.children) ExpectGoodEnd(child);
  EXPECT_TRUE(AtTheSameTime(job.pool->executor(), 2));
}

#endif

}  // namespace
}  // namespace isonorm_test
