// Which plan a CPU gets, and that the environment can force another.
#include "cpu/plan.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "cpu/detect.h"
#include "cpu/tuning.h"

namespace isonorm {
namespace {

std::string NameFor(bool amd, unsigned family, unsigned model) {
  return PlanOf({amd ? Processor::kAmd : Processor::kOther, false, family, model}).name;
}
std::string NameForIntel(bool avx512_fp16, unsigned model) { return PlanOf({Processor::kIntel, avx512_fp16, 6, model}).name; }

TEST(PlanTest, OfEachCpu) {
  EXPECT_EQ(NameFor(true, 0x19, 0x01), "zen3");  // Milan
  EXPECT_EQ(NameFor(true, 0x19, 0x08), "zen3");
  EXPECT_EQ(NameFor(true, 0x19, 0x21), "zen3");
  EXPECT_EQ(NameFor(true, 0x19, 0x50), "zen3");
  EXPECT_EQ(NameFor(true, 0x19, 0x11), "zen4");  // Genoa
  EXPECT_EQ(NameFor(true, 0x19, 0x18), "zen4");
  EXPECT_EQ(NameFor(true, 0x19, 0x61), "zen4");
  EXPECT_EQ(NameFor(true, 0x19, 0xA0), "zen4");  // Bergamo
  EXPECT_EQ(NameFor(true, 0x1A, 0x02), "zen5");  // Turin
  EXPECT_EQ(NameFor(true, 0x17, 0x31), "default");
  EXPECT_EQ(NameFor(false, 0x19, 0x01), "default");
  EXPECT_EQ(NameFor(false, 0, 0), "default");       // Arm
  EXPECT_EQ(NameForIntel(true, 0x8F), "xeon");      // Sapphire Rapids
  EXPECT_EQ(NameForIntel(true, 0xAD), "xeon");      // Granite Rapids
  EXPECT_EQ(NameForIntel(true, 0xA7), "xeon");      // one that a virtual machine shows
  EXPECT_EQ(NameForIntel(false, 0x6A), "default");  // Ice Lake
}

// Rows of every length have a part of every list, and lengths only rise: static_assert in plan.cc holds the rest.
TEST(PlanTest, HasNamesAndLengths) {
  for (const char* name : {"default", "zen3", "zen4", "zen5", "xeon"}) {
    const Plan* plan = PlanNamed(name);
    ASSERT_NE(plan, nullptr) << name;
    EXPECT_STREQ(plan->name, name);
    for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{4096}, int64_t{4097}, INT64_MAX}) {
      EXPECT_GE(PlanFor(plan->streamed[0], bytes).most, bytes);
      EXPECT_GE(PlanFor(plan->in_place[1], bytes).most, bytes);
    }
  }
  for (const char* name : {"", "ZEN4", "zen", "zen44"}) EXPECT_EQ(PlanNamed(name), nullptr) << name;
}

// Such plans do not compile: plan.cc asks IsWhole of each of its own.
TEST(PlanTest, ThatSkipsALine) {
  constexpr RowPlan kOnce[] = {{1024, 0, 0, 0}, {kEveryRow, 1, 16, 48}}, kTwice[] = {{kEveryRow, 1, 64, 64}};
  EXPECT_TRUE(IsWhole(kOnce, false) && IsWhole(kOnce, true) && IsWhole(kTwice, false));
  EXPECT_FALSE(IsWhole(kTwice, true)) << "the sum of 16-bit rows would ask for every second line";
  constexpr RowPlan kWrong[][2] = {
      {{1024, 0, 0, 0}, {kEveryRow, 1, 16, 32}},             // a quarter of each line is left out
      {{1024, 0, 0, 0}, {kEveryRow, 1, 48, 16}},             // more in the sum than 16-bit rows ask for
      {{1024, 0, 0, 0}, {kEveryRow, 1, 16, 48, true}},       // the sum does not fetch into the first-level cache
      {{1024, 0, 0, 0}, {kEveryRow, 1, 0, 64, false, 96}},   // no whole lines
      {{1024, 0, 0, 0}, {kEveryRow, 1, 0, 64, false, 576}},  // no room
      {{1024, 0, 0, 64}, {kEveryRow, 1}},                    // fetches nothing, and yet something
      {{1024, 1}, {1024, 2}},                                // falls
  };
  for (const auto& wrong : kWrong) {
    EXPECT_FALSE(IsWhole(wrong, false)) << wrong[1].in_sum << " + " << wrong[1].in_write << ", " << wrong[1].stage;
  }
}

// Started by ctest once more with each value of ISONORM_PLAN; what is no name counts as not set.
TEST(PlanTest, FromTheEnvironment) {
  const char* forced = std::getenv("ISONORM_PLAN");
  const Plan* named = forced == nullptr ? nullptr : PlanNamed(forced);
  EXPECT_EQ(&CurrentPlan(), named == nullptr ? &PlanOf(DetectProcessor()) : named);
}

}  // namespace
}  // namespace isonorm
