// `isonorm bench`: what its table and its JSON say about goals and the plain way, and which CPUs it takes.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#if defined(__linux__)
#include <sched.h>
#endif

#include "process.h"

namespace isonorm_test {
namespace {

using nlohmann::json;

// Whether a run of rows by the reference, which is slower than any loop, says so in each of them; not in which if it does not.
bool SlowRowsSaySo(const std::string& filter, const json& rows) {
  return std::all_of(rows.begin(), rows.end(), [&](const json& row) {
    const json& plain = row.at("plain");
    // get() throws for null, which is NaN in JSON, and less than any number.
    const bool slower =
        filter == "call.*" ? plain.at("nanoseconds_more").get<double>() > 30 : plain.at("times_the_time").get<double>() < 0.995;
    return slower && plain.at("seconds").get<double>() > 0 && plain.at("met") == false && row.at("met") == false;
  });
}

// Every kind of row that has a plain way beside it. A few short rounds on a busy machine may not be able to tell; then others.
TEST(BenchRows, ARowThatIsSlowerThanThePlainWaySaysSo) {
  constexpr int kTries = 8;
  const RunOptions reference = {.environment = {"ISONORM_TARGET=reference"}};
  const std::vector<std::string> filters = {
      "cached.8x4096.bf16",    "call.*",           "cold.512x4096.f32", "gemma.8x4096.bf16",
      "layer_norm_*x4096.f32", "small_pages*bf16", "misaligned.1x*",    "gate_before_b*bf16"};
  for (const std::string& filter : filters) {
    const std::vector<std::string> args = {"bench", "--quick", "--rounds", "3", "--filter", filter};
    std::vector<std::string> as_json = args, check = args;
    as_json.push_back("--json");
    check.push_back("--check");
    json rows;
    bool says = false, table_says = false;
    for (int tries = 0; tries < kTries && !says; ++tries) {
      const Outcome slow = RunCli(as_json, reference);
      ASSERT_EQ(slow.exit_code, 0) << filter << slow.err;
      rows = json::parse(slow.out).at("rows");
      ASSERT_FALSE(rows.empty()) << filter;
      for (const json& row : rows) {
        if (row.at("plain").is_null()) GTEST_SKIP() << "the compiler meant another CPU";
      }
      says = SlowRowsSaySo(filter, rows);
    }
    EXPECT_TRUE(says) << rows;
    const bool only_plain = std::any_of(rows.begin(), rows.end(), [](const json& row) { return row.at("goal").is_null(); });
    std::string out;
    for (int tries = 0; tries < kTries && !table_says; ++tries) {
      const Outcome table = RunCli(check, reference);
      out = table.out;
      const bool missed = out.find("MISSED") != std::string::npos, slower = out.find("SLOWER") != std::string::npos;
      table_says = table.exit_code == 1 && (only_plain ? slower : slower || missed);
    }
    EXPECT_TRUE(table_says) << out;
  }
}

TEST(BenchRows, GoalAndPlainWayCountEach) {
  const Outcome out =
      RunCli({"bench", "--quick", "--rounds", "3", "--filter", "cached.1x4096.*16", "--filter", "widths.f32", "--json"});
  ASSERT_EQ(out.exit_code, 0) << out.err;
  const json rows = json::parse(out.out).at("rows");
  ASSERT_EQ(rows.size(), 2U);
  if (rows[0].at("plain").is_null() || rows[0].at("goal").is_null()) GTEST_SKIP() << "no loops for this CPU";
  const double goal = rows[0].at("goal");  // more where less is possible, which the row then says
  EXPECT_GE(goal, 1.25);
  EXPECT_EQ(goal > 1.25, rows[0].at("bound") == "beside a call") << rows[0];
  const json& within = rows[0].at("within");
  const double least = within.is_null() ? rows[0].at("value").get<double>() : within[0].get<double>();
  EXPECT_EQ(rows[0].at("met"), least <= goal && rows[0].at("plain").at("met").get<bool>()) << rows[0];
  EXPECT_TRUE(rows[1].at("plain").is_null());
  const Outcome table =
      RunCli({"bench", "--quick", "--rounds", "3", "--filter", "cached.1x4096.*16", "--filter", "widths.f32"});
  EXPECT_NE(table.out.find(" of 3 goals met"), std::string::npos) << table.out;
}

// No short call is shorter than its instructions, and no row faster than a copy of it.
TEST(BenchRows, ThePlainWayHasBoundsToo) {
  const Outcome out =
      RunCli({"bench", "--quick", "--rounds", "3", "--filter", "call.*", "--filter", "cached.4096x128.f32", "--json"});
  ASSERT_EQ(out.exit_code, 0) << out.err;
  const json rows = json::parse(out.out).at("rows");
  ASSERT_EQ(rows.size(), 2U);
  for (const json& row : rows) {
    const json& plain = row.at("plain");
    if (plain.is_null()) GTEST_SKIP() << "no loops for this CPU";
    const bool call = row.at("row") == "call.1x128.f32";
    const double goal = plain.at("goal");
    if (call) {
      const json& beside = row.at("beside");
      EXPECT_EQ(goal, std::max(30.0, beside.at("its check, 4 a cycle").get<double>() * 1e9));
      EXPECT_EQ(row.at("goal"), std::max(40.0, beside.at("its instructions, 4 a cycle").get<double>() * 1e9));
      EXPECT_EQ(plain.at("met"), plain.at("nanoseconds_more") <= goal);
    } else {
      EXPECT_LE(goal, 1);
      EXPECT_EQ(plain.at("met"), plain.at("times_the_time") >= goal);
    }
  }
}

// What takes as long in cache cannot be faster from memory: the reference's goal is its own speed, and the row says so. In place
// the rows of the library have the goal that the table has, or a bound below it.
TEST(BenchRows, ABoundStandsForAGoalOutOfReach) {
  for (const char* const target : {"reference", ""}) {
    RunOptions run;
    if (*target != '\0') run.environment = {std::string("ISONORM_TARGET=") + target};
    const std::vector<std::string> args = {"bench", "--quick", "--filter", "*_place.*", "--filter", "backward.*"};
    std::vector<std::string> as_json = args;
    as_json.push_back("--json");
    const Outcome out = RunCli(as_json, run);
    ASSERT_EQ(out.exit_code, 0) << out.err;
    const json rows = json::parse(out.out).at("rows");
    ASSERT_EQ(rows.size(), 4U);
    for (const json& row : rows) {
      const std::string name = row.at("row");
      const double goal = name.starts_with("in_place") ? 92 : name.ends_with("bf16") ? 70 : 76;
      EXPECT_GT(row.at("beside").at("in cache"), 0) << row;
      EXPECT_GT(row.at("beside").at("the same moves"), 0) << row;
      EXPECT_TRUE(row.at("within").is_null()) << "two rounds say nothing: " << row;
      if (row.at("bound").is_null()) {
        EXPECT_EQ(row.at("goal"), goal) << row;
      } else {
        EXPECT_LT(row.at("goal"), goal) << row;
      }
      EXPECT_EQ(row.at("goal_met"), row.at("value") >= row.at("goal")) << row;
      if (*target != '\0') EXPECT_EQ(row.at("bound"), "in cache") << row;
    }
    const Outcome table = RunCli(args, run);
    if (*target != '\0') EXPECT_NE(table.out.find(" %, bound"), std::string::npos) << table.out;
  }
}

#if defined(__linux__)
TEST(BenchRows, ACpuThatIsNotThere) {
  const Outcome absent = RunCli({"bench", "--list", "--cpu", "1023"});
  EXPECT_EQ(absent.exit_code, 2);
  EXPECT_NE(absent.err.find("--cpu 1023: this process may use CPU"), std::string::npos) << absent.err;

  // There, but not for this process.
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  const int here = sched_getcpu();
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(here), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  const Outcome allowed = RunCli({"bench", "--list", "--cpu", std::to_string(here)});
  const Outcome refused = RunCli({"bench", "--list", "--cpu", std::to_string(here == 0 ? 1 : 0)});
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(allowed.exit_code, 0) << allowed.err;
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_NE(refused.err.find("may use CPU " + std::to_string(here) + "\n"), std::string::npos) << refused.err;
}
#endif

}  // namespace
}  // namespace isonorm_test
