// What the benchmark's rows rest on: CPUs, turns, pages.
#include <gtest/gtest.h>

#if defined(__linux__)
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <fstream>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "bench/bench.h"
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

// With both threads on one CPU the rows of two threads would show that a second one gains nothing.
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

TEST(Bench, EveryCandidateFollowsEveryOtherEquallyOften) {
  for (size_t n = 1; n <= 13; ++n) {
    std::map<std::pair<size_t, size_t>, int> follows;
    for (size_t round = 0; round < 2 * n; ++round) {
      const std::vector<size_t> turns = isonorm_cli::bench::TurnsOf(n, round);
      ASSERT_EQ(turns.size(), n);
      std::vector<int> seen(n);
      for (const size_t turn : turns) ++seen.at(turn);
      EXPECT_EQ(seen, std::vector<int>(n, 1)) << n << ", round " << round;
      for (size_t i = 1; i < n; ++i) ++follows[{turns[i - 1], turns[i]}];
    }
    EXPECT_EQ(follows.size(), n * (n - 1)) << n;
    for (const auto& [pair, count] : follows) EXPECT_EQ(count, 2) << n << ": " << pair.second << " behind " << pair.first;
  }
}

TEST(Bench, ARaceTakesTheTurns) {
  std::string order, expected;
  std::vector<isonorm_cli::bench::Candidate> candidates;
  for (const char name : {'a', 'b', 'c', 'd'}) candidates.push_back({{name}, [&order, name] { order += name; }, {}});
  constexpr int kRounds = 8;
  const auto times = isonorm_cli::bench::Race(candidates, {kRounds, 0});
  for (const auto& of_one : times) EXPECT_EQ(of_one.size(), size_t{kRounds});
  for (size_t round = 0; round < kRounds; ++round) {
    for (const size_t turn : isonorm_cli::bench::TurnsOf(4, round)) expected += candidates[turn].name;
  }
  EXPECT_EQ(order, "abcd" + expected);  // each once beforehand
}

// P(fewer than k heads of n coins) <= 1/40 for the largest k: 1 of 6, 4 of 15, 22 of 60, as tables of the sign test have it.
TEST(Bench, ASpreadIsThatOfTheSignTest) {
  using isonorm_cli::bench::SpreadOf;
  const auto spread = [](int n) {
    std::vector<double> values;
    for (int i = 1; i <= n; ++i) values.push_back(7 * i % n + 1);  // 1 to n
    return SpreadOf(values, 2);
  };
  for (const int n : {1, 2, 3, 4, 5}) EXPECT_FALSE(spread(n).within) << n;
  for (const auto& [n, k] : {std::pair{6, 1}, {8, 1}, {9, 2}, {15, 4}, {60, 22}}) {
    const auto of = spread(n);
    ASSERT_TRUE(of.within) << n;
    EXPECT_EQ(of.within->low, 2 * k) << n;
    EXPECT_EQ(of.within->high, 2 * (n + 1 - k)) << n;
    EXPECT_EQ(of.value, 2 * (n / 2 + 1)) << n;
  }
}

// A goal is missed where the run can tell, and a bound stands in its place where it asks for less.
TEST(Bench, GoalsAndBounds) {
  using isonorm_cli::bench::Result, isonorm_cli::bench::Unit, isonorm_cli::bench::Bound, isonorm_cli::bench::Spread;
  for (const bool at_least : {true, false}) {
    const double sign = at_least ? 1 : -1;  // what is to be at least so much is here what is to be at most so much
    const auto at = [&](double value) { return 100 + sign * value; };
    Result result;
    result.unit = at_least ? Unit::kPercentOfLimit : Unit::kTimesReference;
    result.value = at(-10);
    EXPECT_TRUE(result.GoalMet());
    EXPECT_FALSE(result.Goal());
    result.bound = Bound{"a loop", at(-50)};  // of a row without a goal
    EXPECT_TRUE(result.GoalMet());
    EXPECT_FALSE(result.Bounded());
    result.goal = at(0);
    EXPECT_TRUE(result.Bounded());
    EXPECT_EQ(result.Goal(), at(-50));
    EXPECT_TRUE(result.GoalMet());
    result.bound = Bound{"a loop", at(-9)};
    EXPECT_FALSE(result.GoalMet());
    result.bound = Bound{"a loop", at(1)};
    EXPECT_FALSE(result.Bounded());
    EXPECT_EQ(result.Goal(), at(0));
    EXPECT_FALSE(result.GoalMet());
    const auto within = [&](double one, double other) {
      return Spread::Within{std::min(at(one), at(other)), std::max(at(one), at(other))};
    };
    result.within = within(-12, -8);
    EXPECT_FALSE(result.GoalMet());
    EXPECT_FALSE(result.Met());
    result.within = within(-12, 0);
    EXPECT_TRUE(result.GoalMet());
    EXPECT_TRUE(result.Met());
  }
}

// The flags of the mapping that the address lies in, as the system reports them; "" without such a report.
std::string FlagsOf(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  bool within = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long first = 0, last = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &first, &last) == 2) {
      const auto at = reinterpret_cast<unsigned long>(address);
      within = first <= at && at < last;
    }
    if (within && line.starts_with("VmFlags:")) return line + " ";
  }
  return "";
}

TEST(Bench, SmallPagesAreSmall) {
  using isonorm_cli::bench::Buffer;
  const Buffer small(size_t{8} << 20, isonorm_cli::bench::Pages::kSmall),
      huge(size_t{8} << 20, isonorm_cli::bench::Pages::kHuge);
  const std::string of_small = FlagsOf(small.data()), of_huge = FlagsOf(huge.data());
  if (of_huge.find(" hg ") == std::string::npos) GTEST_SKIP() << "this system knows no huge pages";
  EXPECT_NE(of_small.find(" nh "), std::string::npos) << of_small;
  EXPECT_EQ(of_small.find(" hg "), std::string::npos) << of_small;
}

TEST(Bench, AllowedCpusAreThoseOfTheMask) {
  const cpu_set_t before = Mask();
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    EXPECT_EQ(isonorm_cli::bench::MayUseCpu(cpu), CPU_ISSET(static_cast<size_t>(cpu), &before) != 0) << cpu;
  }
  EXPECT_FALSE(isonorm_cli::bench::MayUseCpu(CPU_SETSIZE));
  const int one = sched_getcpu();
  const isonorm_cli::bench::Pin pinned(one);
  EXPECT_EQ(isonorm_cli::bench::AllowedCpus(), std::to_string(one));
}

}  // namespace
}  // namespace isonorm_test
#endif
