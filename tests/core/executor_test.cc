// Threads: however a call is cut and in whatever order its tasks run, and whoever else calls at the same time.
#include <gtest/gtest.h>

#include <atomic>
#include <cfenv>
#include <isonorm/thread_pool.hpp>
#include <thread>

#include "executors.h"
#include "run.h"

namespace core_test {
namespace {

class ExecutorTest : public testing::TestWithParam<std::string> {
 protected:
  static void Check(const Problem& problem, const Expected& expected, const isonorm_executor* executor,
                    const std::string& what) {
    How how;
    how.executor = executor;
    const ScopedTarget target(GetParam());
    const Problem forward = ForwardOf(problem),
                  backward = BackwardOf(problem, problem.seed % 2 == 0 ? Rstd::kSaved : Rstd::kRecomputed);
    Same(forward, expected.forward, Compute(forward, expected.inputs, how), what);
    Same(backward, expected.backward, Compute(backward, expected.inputs, how), what);
  }
};

TEST_P(ExecutorTest, AnyNumberOfTasksInAnyOrder) {
  for (const int64_t rows : {1, 2, 5, 31, 33, 64, 100, 257, 1000}) {
    for (const int64_t cols : {1, 17, 130}) {
      for (uint64_t seed = 1; seed <= 3; ++seed) {
        const Problem problem = Random(seed + static_cast<uint64_t>(rows * 1000 + cols), rows, cols);
        const Expected expected = Reference(problem);
        for (const int tasks : {1, 2, 3, 8, 17}) {
          Shuffled shuffled(tasks, seed);
          Check(problem, expected, shuffled.executor(), std::to_string(tasks) + " tasks in shuffled order");
          EXPECT_LE(shuffled.largest(), tasks);
          // 257 rows are enough for anyone; main.cc sees to it that no call is too small.
          if (rows >= 257 && cols > 1 && tasks > 1) {
            EXPECT_GT(shuffled.largest(), 1) << "the executor was not used";
          }
        }
      }
    }
  }
}

// What the executor leaves behind on the calling thread is not what the sums over rows are put together with.
TEST_P(ExecutorTest, LeavesAnotherRoundingMode) {
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    static int wanted;
    wanted = mode;
    Shuffled executor(8, 1, [] { std::fesetround(wanted); });
    for (uint64_t seed = 1; seed <= 6; ++seed) {
      const Problem problem = Random(seed, 500, 130);
      Check(problem, Reference(problem), executor.executor(), "rounding mode " + std::to_string(mode));
      std::fesetround(FE_TONEAREST);
    }
    EXPECT_GT(executor.largest(), 1);
  }
}

TEST_P(ExecutorTest, TasksAtTheSameTime) {
  for (const int64_t rows : {3, 64, 100, 257}) {
    for (const int64_t cols : {17, 300}) {
      for (uint64_t seed = 1; seed <= 3; ++seed) {
        const Problem problem = Random(seed + static_cast<uint64_t>(rows * 1000 + cols), rows, cols);
        const Expected expected = Reference(problem);
        for (const int tasks : {2, 3, 8, 17}) {
          NewThreads threads(tasks);
          Check(problem, expected, threads.executor(), std::to_string(tasks) + " threads");
        }
        for (const int threads : {2, 5}) {
          const isonorm::thread_pool pool(threads);
          Check(problem, expected, pool.executor(), "a pool");
        }
      }
    }
  }
}

// A race would show in some of these, and in ThreadSanitizer at once.
TEST_P(ExecutorTest, TheSameEveryTime) {
  const isonorm::thread_pool pool(4);
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const Problem problem = Random(seed, 200, 96);
    const Expected expected = Reference(problem);
    for (int turn = 0; turn < 100; ++turn) Check(problem, expected, pool.executor(), "turn " + std::to_string(turn));
  }
}

// Eight hosts, each with problems of its own, half of them through one shared pool.
TEST_P(ExecutorTest, ManyCallersAtOnce) {
  const isonorm::thread_pool pool(3);
  constexpr size_t kCallers = 8, kProblems = 6;
  std::vector<Problem> problems;
  std::vector<Expected> expected;
  for (uint64_t seed = 1; seed <= kProblems; ++seed) {
    problems.push_back(Random(seed, 70, 90 + static_cast<int64_t>(seed)));
    expected.push_back(Reference(problems.back()));
  }
  const ScopedTarget target(GetParam());
  std::vector<std::thread> callers;
  std::atomic<int> compared = 0;
  for (size_t caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&, caller] {
      How how;
      how.executor = caller % 2 == 0 ? pool.executor() : nullptr;
      for (size_t turn = 0; turn < 4 * kProblems; ++turn) {
        const size_t i = (caller + turn) % kProblems;
        const Problem forward = ForwardOf(problems[i]), backward = BackwardOf(problems[i], Rstd::kRecomputed);
        compared +=
            Same(forward, expected[i].forward, Compute(forward, expected[i].inputs, how), "one of many callers") ? 1 : 0;
        compared +=
            Same(backward, expected[i].backward, Compute(backward, expected[i].inputs, how), "one of many callers") ? 1 : 0;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(compared, static_cast<int>(kCallers * 4 * kProblems * 2));
}

INSTANTIATE_TEST_SUITE_P(Target, ExecutorTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
