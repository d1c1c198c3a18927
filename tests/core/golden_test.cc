// The golden digests on every target, and the proof that a wrong result would be seen.
#include <gtest/gtest.h>

#include <algorithm>
#include <isonorm/thread_pool.hpp>
#include <string>
#include <vector>

#include "golden_run.h"
#include "run.h"

namespace core_test {
namespace {

using isonorm_cli::AllSetups;
using isonorm_cli::CheckTarget;
using isonorm_cli::GoldenCase;
using isonorm_cli::GoldenFile;
using isonorm_cli::Mismatch;
using isonorm_cli::ParseGolden;
using isonorm_cli::Tally;

GoldenFile Shipped() { return ParseGolden("public.tsv", isonorm_cli::ShippedGolden()); }

class Golden : public testing::TestWithParam<std::string> {};

TEST_P(Golden, EveryDigest) {
  const GoldenFile file = Shipped();
  ASSERT_EQ(file.error, "");
  ASSERT_EQ(file.cases.size(), 648u);
  const isonorm::thread_pool pool(3);
  const Tally tally = CheckTarget(file.cases, GetParam(), AllSetups(pool.executor()));
  for (const Mismatch& m : tally.first) {
    ADD_FAILURE() << m.id << ", " << m.setup << ": " << m.output << " is " << m.got << ", but must be " << m.expected << "\n"
                  << m.line;
  }
  EXPECT_TRUE(tally.passed());
  EXPECT_EQ(tally.cases, file.cases.size());
  std::printf("%s: %zu digests of %zu calls\n", GetParam().c_str(), tally.outputs, tally.calls);
}

INSTANTIATE_TEST_SUITE_P(Target, Golden, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

std::vector<GoldenCase> Some(size_t count) {
  std::vector<GoldenCase> cases = Shipped().cases;
  cases.resize(count);
  return cases;
}

TEST(GoldenGate, OneWrongBitInAnyDigestFails) {
  std::vector<int> seen(isonorm_cli::kOutputCount, 0);
  for (GoldenCase& golden : Shipped().cases) {
    for (size_t output = 0; output < isonorm_cli::kOutputCount; ++output) {
      if (!golden.expected[output] || seen[output] != 0 || golden.rows * golden.cols > 10000) continue;
      ++seen[output];
      GoldenCase wrong = golden;
      *wrong.expected[output] ^= 1;
      EXPECT_TRUE(CheckTarget({golden}, "reference", AllSetups(nullptr)).passed()) << golden.id;
      EXPECT_FALSE(CheckTarget({wrong}, "reference", AllSetups(nullptr)).passed()) << golden.id << " " << output;
    }
  }
  for (const int count : seen) EXPECT_EQ(count, 1);  // each of the seven outputs was tried
}

TEST(GoldenGate, ADigestOfWhatIsNotProducedFails) {
  GoldenCase golden = Some(1).front();
  for (size_t output = 0; output < isonorm_cli::kOutputCount; ++output) {
    if (golden.expected[output]) continue;
    GoldenCase wrong = golden;
    wrong.expected[output] = 1;
    EXPECT_FALSE(CheckTarget({wrong}, "reference", AllSetups(nullptr)).passed()) << output;
  }
}

TEST(GoldenGate, AMissingDigestFails) {
  GoldenCase golden = Some(1).front();
  golden.expected[isonorm_cli::kY].reset();
  EXPECT_FALSE(CheckTarget({golden}, "reference", AllSetups(nullptr)).passed());
}

TEST(GoldenGate, AnotherTargetThanTheNamedOneFails) {
  ASSERT_FALSE(OtherTargets().empty()) << "this machine has no target but the reference";
  const ScopedTarget chosen("reference");
  Tally tally;
  CheckCase(Some(1).front(), OtherTargets().front(), AllSetups(nullptr), &tally);
  EXPECT_FALSE(tally.passed());
  EXPECT_EQ(tally.first.front().output, "target");
}

TEST(GoldenGate, AnAbsentTargetFails) { EXPECT_FALSE(CheckTarget(Some(3), "no_such_target", AllSetups(nullptr)).passed()); }

TEST(GoldenGate, NothingToCheckFails) {
  EXPECT_FALSE(CheckTarget({}, "reference", AllSetups(nullptr)).passed());
  EXPECT_FALSE(CheckTarget(Some(1), "reference", {}).passed());
  EXPECT_TRUE(ParseGolden("empty", "").cases.empty());
  EXPECT_TRUE(ParseGolden("comments", "# nothing\n\n#\n").cases.empty());
}

TEST(GoldenGate, ACaseThatTheLibraryRefusesFails) {
  GoldenCase golden = Some(1).front();
  golden.groups = golden.cols + 1;
  const Tally tally = CheckTarget({golden}, "reference", AllSetups(nullptr));
  EXPECT_FALSE(tally.passed());
  ASSERT_FALSE(tally.first.empty());
  EXPECT_EQ(tally.first.front().output, "status");
}

TEST(GoldenGate, TheTargetBeforeIsChosenAgain) {
  const ScopedTarget chosen("reference");
  CheckTarget(Some(1), Targets().front(), AllSetups(nullptr));
  EXPECT_STREQ(isonorm_target(), "reference");
}

// The first line and the first case of the shipped file, to be damaged.
std::string Damaged(const std::string& column, const std::string& value) {
  const std::string text(isonorm_cli::ShippedGolden());
  const size_t head_begin = text.find("case\t"), head_end = text.find('\n', head_begin);
  const std::string head = text.substr(head_begin, head_end - head_begin) + "\t";
  std::string row = text.substr(head_end + 1, text.find('\n', head_end + 1) - head_end - 1) + "\t";
  const auto column_number =
      std::count(head.begin(), head.begin() + static_cast<std::ptrdiff_t>(head.find("\t" + column + "\t") + 1), '\t');
  size_t begin = 0;
  for (std::ptrdiff_t i = 0; i < column_number; ++i) begin = row.find('\t', begin) + 1;
  row.replace(begin, row.find('\t', begin) - begin, value);
  return head.substr(0, head.size() - 1) + "\n" + row.substr(0, row.size() - 1) + "\n";
}

TEST(GoldenFileTest, DamagedLinesAreNamed) {
  EXPECT_EQ(ParseGolden("f", Damaged("rows", "1")).error, "");
  const std::vector<std::pair<std::string, std::string>> damages = {
      {"op", "sideways"},    {"statistic", "max"},      {"x", "f8"},        {"x", "-"},
      {"rows", "-1"},        {"rows", "1e9"},           {"rows", ""},       {"cols", "0"},
      {"groups", "0"},       {"partial", "-2"},         {"eps", "-1"},      {"eps", "nan"},
      {"eps_place", "top"},  {"data", "strange"},       {"seed", "x"},      {"weight_offset", "z"},
      {"y", "12"},           {"y", "xyz45678xyz45678"}, {"gate", "beside"}, {"cols", "99999999999"},
      {"sum_rounding", "-"}, {"scaled_rounding", "up"}};
  for (const auto& [column, value] : damages) {
    const GoldenFile file = ParseGolden("f", Damaged(column, value));
    EXPECT_NE(file.error.find("line 2"), std::string::npos) << column << "=" << value << ": '" << file.error << "'";
    EXPECT_NE(file.error.find("'" + column + "'"), std::string::npos) << file.error;
    EXPECT_TRUE(file.cases.empty());
  }
  EXPECT_NE(ParseGolden("f", "case\top\np1\n").error, "");           // a field is missing
  EXPECT_NE(ParseGolden("f", "case\top\np1\tforward\n").error, "");  // columns are missing
  EXPECT_NE(isonorm_cli::ReadGolden("/no/such/file.tsv").error, "");
}

}  // namespace
}  // namespace core_test
