// The golden digests on every target, and the proof that a wrong result would be seen.
#include <gtest/gtest.h>

#include <algorithm>
#include <isonorm/thread_pool.hpp>
#include <string>
#include <vector>

#include "golden_maker.h"
#include "golden/run.h"
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
  ASSERT_EQ(file.cases.size(), 813u);
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
  for (const int count : seen) EXPECT_EQ(count, 1);  // each of the outputs was tried
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

// The first case of the shipped file whose line has this column, and the line that names the columns, to be damaged.
std::string Damaged(const std::string& column, const std::string& value) {
  const std::string text(isonorm_cli::ShippedGolden());
  size_t head_begin = 0, head_end = 0;
  std::string head;
  do {
    head_begin = text.find("\ncase\t", head_end) + 1, head_end = text.find('\n', head_begin);
    head = text.substr(head_begin, head_end - head_begin) + "\t";
  } while (head.find("\t" + column + "\t") == std::string::npos);
  std::string row = text.substr(head_end + 1, text.find('\n', head_end + 1) - head_end - 1) + "\t";
  const auto column_number =
      std::count(head.begin(), head.begin() + static_cast<std::ptrdiff_t>(head.find("\t" + column + "\t") + 1), '\t');
  size_t begin = 0;
  for (std::ptrdiff_t i = 0; i < column_number; ++i) begin = row.find('\t', begin) + 1;
  row.replace(begin, row.find('\t', begin) - begin, value);
  return head.substr(0, head.size() - 1) + "\n" + row.substr(0, row.size() - 1) + "\n";
}

// How the digests came about: the file is what it was made by, and `p...`, whose digests are older, are the same.
TEST(GoldenFileTest, TheReferenceMakesTheShippedFile) {
  const std::string shipped(isonorm_cli::ShippedGolden());
  std::string without = shipped, error;
  for (size_t i = 0; i + 16 < without.size(); ++i) {
    const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
    if (without[i] == '\t' && std::all_of(&without[i + 1], &without[i + 17], is_hex)) without.replace(i + 1, 16, "-");
  }
  EXPECT_LT(without.size(), shipped.size());
  EXPECT_TRUE(MakeGolden(without, &error) == shipped) << error;
  EXPECT_EQ(MakeGolden(Damaged("groups", "3"), &error), "");
  EXPECT_NE(error.find("groups"), std::string::npos) << error;
}

// A line that begins with `case` names the columns of those after it; older files have none but the first.
TEST(GoldenFileTest, ColumnsMayChange) {
  const std::string first = Damaged("y", "-"), second = Damaged("heads", "1");
  const GoldenFile file = ParseGolden("f", first + second + first);
  ASSERT_EQ(file.error, "");
  ASSERT_EQ(file.cases.size(), 3u);
  EXPECT_EQ(file.cases[0].rope, 0);
  EXPECT_EQ(file.cases[1].rope, ISONORM_ROPE_HALF);
  EXPECT_EQ(file.cases[2].rope, 0);
}

TEST(GoldenFileTest, DamagedLinesAreNamed) {
  EXPECT_EQ(ParseGolden("f", Damaged("rows", "1")).error, "");
  const std::vector<std::pair<std::string, std::string>> damages = {{"op", "sideways"},    {"statistic", "max"},
                                                                    {"x", "f8"},           {"x", "-"},
                                                                    {"rows", "-1"},        {"rows", "1e9"},
                                                                    {"rows", ""},          {"cols", "0"},
                                                                    {"groups", "0"},       {"partial", "-2"},
                                                                    {"eps", "-1"},         {"eps", "nan"},
                                                                    {"eps_place", "top"},  {"data", "strange"},
                                                                    {"seed", "x"},         {"weight_offset", "z"},
                                                                    {"y", "12"},           {"y", "xyz45678xyz45678"},
                                                                    {"gate", "beside"},    {"cols", "99999999999"},
                                                                    {"sum_rounding", "-"}, {"scaled_rounding", "up"},
                                                                    {"rope", "left"},      {"rotation_rounding", "-"},
                                                                    {"pairs", "-1"},       {"pairs", "65"},
                                                                    {"table", "-"},        {"table_rows", "0"},
                                                                    {"positions", "u8"},   {"position_offset", "-1"},
                                                                    {"heads", "0"},        {"heads", "2"},
                                                                    {"ddx", "f8"},         {"ddw", ""},
                                                                    {"ranks", "-1"},       {"ranks", "2000"},
                                                                    {"part_rows", "32"},   {"scale_kind", "loud"},
                                                                    {"scale", "12"},       {"ddy", "x"},
                                                                    {"exchanged", "1"},    {"parts", "?"}};
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
