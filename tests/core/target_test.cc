// Choosing a target: by the environment, by the API, and one that is not there.
#include <gtest/gtest.h>

#include <cstdio>
#include <set>

#include "run.h"

namespace core_test {
namespace {

// What the probe printed, cut at the bars.
std::vector<std::string> Probe(const std::string& target) {
  const std::string command = (target == "(unset)" ? "unset ISONORM_TARGET; " : "ISONORM_TARGET='" + target + "' ") +
                              std::string("'") + ISONORM_TARGET_PROBE + "'";
  std::FILE* pipe = popen(command.c_str(), "r");
  std::string text;
  for (int c; pipe != nullptr && (c = std::fgetc(pipe)) != EOF;) text += static_cast<char>(c);
  EXPECT_TRUE(pipe != nullptr && pclose(pipe) == 0) << command;
  std::vector<std::string> fields(1);
  for (const char c : text) {
    if (c == '|') {
      fields.emplace_back();
    } else {
      fields.back() += c;
    }
  }
  fields.resize(5);
  return fields;
}

constexpr const char* kAllOk = "ISONORM_OK ISONORM_OK ISONORM_OK ISONORM_OK ISONORM_OK ";

TEST(TargetTest, TheListIsSound) {
  const std::vector<std::string> targets = Targets();
  ASSERT_FALSE(targets.empty());
  EXPECT_EQ(targets.back(), "reference");
  EXPECT_EQ(std::set<std::string>(targets.begin(), targets.end()).size(), targets.size());
  EXPECT_EQ(isonorm_target_name(targets.size()), nullptr);
}

TEST(TargetTest, TheEnvironmentChooses) {
  for (const std::string& target : Targets()) {
    const std::vector<std::string> seen = Probe(target);
    EXPECT_EQ(seen[0], target);
    EXPECT_EQ(seen[1], kAllOk);
    EXPECT_TRUE(seen[2].ends_with("@" + target)) << seen[2];
    EXPECT_EQ(seen[3], "written");
  }
}

TEST(TargetTest, TheBestIsTheDefault) {
  for (const char* none : {"(unset)", ""}) {
    const std::vector<std::string> seen = Probe(none);
    EXPECT_EQ(seen[0], Targets().front());
    EXPECT_EQ(seen[1], kAllOk);
  }
}

TEST(TargetTest, AnAbsentTargetRefusesEveryComputation) {
  for (const char* absent : {"AVX9", "avx2", " AVX2", "reference "}) {
    const std::vector<std::string> seen = Probe(absent);
    EXPECT_EQ(seen[0], "");
    EXPECT_EQ(seen[1],
              "ISONORM_ERROR_TARGET ISONORM_ERROR_TARGET ISONORM_ERROR_TARGET ISONORM_ERROR_TARGET ISONORM_ERROR_TARGET ");
    EXPECT_EQ(seen[2], "");
    EXPECT_EQ(seen[3], "untouched");
    EXPECT_NE(seen[4].find(absent), std::string::npos) << seen[4];
  }
}

TEST(TargetTest, TheApiChooses) {
  for (const std::string& target : Targets()) {
    ASSERT_EQ(isonorm_set_target(target.c_str()), ISONORM_OK);
    EXPECT_EQ(isonorm_target(), target);
    const Problem forward = ForwardOf(Simple(Type::kF32, 3, 50));
    Compute(forward, MakeInputs(forward));  // fails unless the target ran
    EXPECT_TRUE(std::string(isonorm_last_kernel()).ends_with("@" + target));
  }
  EXPECT_EQ(isonorm_set_target(""), ISONORM_OK);
  EXPECT_EQ(isonorm_target(), Targets().front());
  EXPECT_EQ(isonorm_set_target("reference"), ISONORM_OK);
  EXPECT_EQ(isonorm_set_target("AVX9"), ISONORM_ERROR_TARGET);
  EXPECT_STREQ(isonorm_target(), "reference");  // as it was
  EXPECT_EQ(isonorm_set_target(nullptr), ISONORM_OK);
  EXPECT_EQ(isonorm_target(), Targets().front());
}

// A test that asks the reference in between must not go on with another target than its own.
TEST(TargetTest, ScopesLieWithinEachOther) {
  for (const std::string& target : Targets()) {
    const ScopedTarget scope(target);
    Reference(Simple(Type::kF32, 1, 8));
    EXPECT_EQ(isonorm_target(), target);
  }
  EXPECT_EQ(isonorm_target(), Targets().front());
}

// The kernels that ran in Compute() are checked against this list there.
TEST(TargetTest, KernelsHaveNamesOfTheirOwn) {
  std::set<std::string> names;
  for (size_t i = 0; i < isonorm_kernel_count(); ++i) names.insert(isonorm_kernel_name(i));
  EXPECT_GT(names.size(), 0u);
  EXPECT_EQ(names.size(), isonorm_kernel_count());
  EXPECT_EQ(isonorm_kernel_name(isonorm_kernel_count()), nullptr);
}

}  // namespace
}  // namespace core_test
