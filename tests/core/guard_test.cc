// With an inaccessible page right behind or right in front of every tensor a single stray byte, read or written, crashes.
#include <gtest/gtest.h>

#include "run.h"

namespace core_test {
namespace {

class GuardTest : public testing::TestWithParam<std::string> {
 protected:
  static void Check(const Problem& problem, Guard guard) {
    SCOPED_TRACE(ToString(problem));
    How how;
    for (Place& place : how.layout.place) place.guard = guard;
    const Expected expected = Reference(problem);
    const ScopedTarget target(GetParam());
    const Problem forward = ForwardOf(problem), saved = BackwardOf(problem, Rstd::kSaved),
                  anew = BackwardOf(problem, Rstd::kRecomputed);
    Same(forward, expected.forward, Compute(forward, expected.inputs, how), "guarded");
    Same(saved, expected.backward, Compute(saved, expected.inputs, how), "guarded");
    Same(anew, expected.backward, Compute(anew, expected.inputs, how), "guarded");
  }
};

TEST_P(GuardTest, EveryWidthAndType) {
  for (const Guard guard : {Guard::kPageBehind, Guard::kPageInFront}) {
    for (int64_t cols = 1; cols <= 140; ++cols) {
      for (uint64_t seed = 1; seed <= 3; ++seed)
        Check(Random(static_cast<uint64_t>(cols) * 7 + seed, 1 + static_cast<int64_t>(seed % 2), cols), guard);
    }
    for (const int64_t cols : {255, 256, 257, 263, 511, 513, 769, 1000, 1023, 4097}) {
      for (uint64_t seed = 1; seed <= 4; ++seed) Check(Random(static_cast<uint64_t>(cols) * 7 + seed, 2, cols), guard);
    }
  }
}

TEST_P(GuardTest, PlainCallsOfEveryType) {
  for (const Guard guard : {Guard::kPageBehind, Guard::kPageInFront}) {
    for (const Type type : {Type::kF32, Type::kBf16, Type::kF16, Type::kF64}) {
      for (int64_t cols = 1; cols <= 140; ++cols) {
        Problem problem = Simple(type, 33, cols);
        Check(problem, guard);
        problem.contract.statistic = ISONORM_STATISTIC_LAYER;
        problem.type[kBias] = type;
        Check(problem, guard);
      }
    }
  }
}

TEST_P(GuardTest, SumsOverRows) {
  for (const int64_t rows : {1, 31, 32, 33, 65}) {
    for (const int64_t cols : {1, 7, 8, 9, 63, 65})
      Check(Random(static_cast<uint64_t>(rows * 100 + cols), rows, cols), Guard::kPageBehind);
  }
}

INSTANTIATE_TEST_SUITE_P(Target, GuardTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

TEST(GuardDeathTest, AStrayReadCrashes) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  for (const Guard guard : {Guard::kPageBehind, Guard::kPageInFront}) {
    Memory memory({3, 5}, {}, Type::kF32, 0, guard);
    const volatile char* first = static_cast<const char*>(memory.tensor()->data);
    const std::ptrdiff_t stray = guard == Guard::kPageBehind ? 3 * 5 * 4 : -1;
    EXPECT_EQ(first[0], first[0]);
    EXPECT_EQ(first[59], first[59]);
    EXPECT_DEATH((void)first[stray], "");
  }
}

TEST(MemoryTest, AStrayWriteIsSeen) {
  Memory memory({2, 3}, {5, 1}, Type::kF32);
  EXPECT_TRUE(memory.SurroundingsIntact());
  memory.Fill(Bytes(24, 1));
  EXPECT_TRUE(memory.SurroundingsIntact());
  EXPECT_EQ(memory.Compact(), Bytes(24, 1));
  static_cast<uint8_t*>(memory.tensor()->data)[12] = 0;  // the fourth element of a row of three
  EXPECT_FALSE(memory.SurroundingsIntact());
}

}  // namespace
}  // namespace core_test
