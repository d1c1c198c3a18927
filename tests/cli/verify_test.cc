// isonorm verify: what it covers, and that a wrong digest, a missing target or no case at all is not a pass. The digests
// themselves are compared in tests/core.
#include <gtest/gtest.h>

#include <algorithm>
#include <isonorm/isonorm.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "process.h"

namespace isonorm_test {
namespace {

using Lines = std::vector<std::vector<std::string>>;  // fields

// The shipped golden file without its comments, in blocks; the first line of each names its columns.
std::vector<Lines> Blocks() {
  std::vector<Lines> blocks;
  std::istringstream file(ReadAll(ISONORM_GOLDEN_PATH));
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.front() == '#') continue;
    if (line.starts_with("case\t")) blocks.emplace_back();
    std::istringstream fields(line);
    blocks.back().emplace_back();
    for (std::string field; std::getline(fields, field, '\t');) blocks.back().back().push_back(field);
  }
  return blocks;
}

Lines Golden() { return Blocks().front(); }

std::string Text(const Lines& lines) {
  std::string text;
  for (const auto& fields : lines) {
    for (const std::string& field : fields) text += (&field == &fields.front() ? "" : "\t") + field;
    text += "\n";
  }
  return text;
}

std::size_t Column(const Lines& lines, const std::string& name) {
  for (std::size_t i = 0; i < lines.front().size(); ++i) {
    if (lines.front()[i] == name) return i;
  }
  ADD_FAILURE() << "no column " << name;
  return 0;
}

// The head of a block and its first case with this output.
Lines CaseWith(const std::string& output) {
  for (const Lines& block : Blocks()) {
    const auto column = static_cast<std::size_t>(std::find(block[0].begin(), block[0].end(), output) - block[0].begin());
    for (std::size_t row = 1; row < block.size() && column < block[0].size(); ++row) {
      if (block[row][column] != "-") return {block[0], block[row]};
    }
  }
  ADD_FAILURE() << "no case has " << output;
  return {};
}

TEST(Verify, QuickCoversEveryCaseOnEveryTarget) {
  std::size_t cases = 0;
  for (const Lines& block : Blocks()) cases += block.size() - 1;
  EXPECT_EQ(cases, 813u);
  const Outcome run = RunCli({"--json", "verify", "--quick"});
  ASSERT_EQ(run.exit_code, 0) << run.err << run.out;
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["passed"], true);
  EXPECT_EQ(json["setups"], 2);
  std::vector<std::string> targets;
  for (const auto& target : json["targets"]) {
    targets.push_back(target["target"]);
    EXPECT_EQ(target["passed"], true) << target;
    EXPECT_EQ(target["cases"], cases) << target["target"];
    EXPECT_GE(target["calls"], 2 * cases) << target["target"];
    EXPECT_GE(target["digests"], 2 * cases) << target["target"];
    EXPECT_EQ(target["mismatches"], 0) << target["target"];
    EXPECT_TRUE(target["first"].empty()) << target["first"];
  }
  EXPECT_EQ(targets, isonorm::list_targets());
}

TEST(Verify, WordsForPeople) {
  const Outcome run = RunCli({"verify", "--quick", "--case", "p00*"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  for (const std::string& target : isonorm::list_targets()) EXPECT_NE(run.out.find(target), std::string::npos) << run.out;
  EXPECT_NE(run.out.find("verified: every digest is as specified"), std::string::npos) << run.out;
  EXPECT_EQ(run.err, "");
}

// One bit of one digest, of each output in turn.
TEST(Verify, AWrongDigestFails) {
  for (const char* const output :
       {"y", "rstd", "residual_out", "dx", "dw", "db", "dgate", "scale", "ddy", "exchanged", "parts"}) {
    const Lines lines = CaseWith(output);
    ASSERT_EQ(lines.size(), 2u);
    const std::size_t column = Column(lines, output);
    Lines wrong = {lines[0], lines[1], lines[1]};
    char& digit = wrong[1][column].back();
    digit = digit == '0' ? '1' : '0';
    wrong[2].front() = "as-shipped";
    const Folder folder;
    WriteAll(folder / "wrong.tsv", Text(wrong));
    const Outcome run = RunCli({"--json", "verify", "--quick", "--golden", folder / "wrong.tsv"});
    ASSERT_EQ(run.exit_code, 1) << output << ": " << run.err << run.out;
    const auto json = nlohmann::json::parse(run.out);
    EXPECT_EQ(json["passed"], false);
    EXPECT_EQ(json["targets"].size(), isonorm::list_targets().size());
    for (const auto& target : json["targets"]) {
      EXPECT_EQ(target["passed"], false) << target;
      EXPECT_GT(target["mismatches"], 0) << target;
      for (const auto& mismatch : target["first"]) {
        EXPECT_EQ(mismatch["case"], wrong[1].front()) << mismatch;
        EXPECT_EQ(mismatch["output"], output) << mismatch;
        EXPECT_EQ(mismatch["expected"], wrong[1][column]) << mismatch;
        EXPECT_EQ(mismatch["got"], lines[1][column]) << mismatch;
      }
    }
    const Outcome words = RunCli({"verify", "--quick", "--golden", folder / "wrong.tsv"});
    EXPECT_EQ(words.exit_code, 1);
    EXPECT_NE(words.out.find("FAILED"), std::string::npos) << words.out;
    EXPECT_NE(words.out.find(wrong[1].front()), std::string::npos) << words.out;
  }
}

TEST(Verify, AnAbsentTargetFails) {
  const Outcome run = RunCli({"--json", "verify", "--quick", "--case", "p000", "--target", "NO_SUCH"});
  EXPECT_EQ(run.exit_code, 1) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["passed"], false);
  ASSERT_EQ(json["targets"].size(), 1u);
  EXPECT_EQ(json["targets"][0]["target"], "NO_SUCH");
  const Outcome misspelt = RunCli({"verify", "--quick", "--case", "p000", "--target", "Reference"});
  EXPECT_EQ(misspelt.exit_code, 2);
  EXPECT_NE(misspelt.err.find("--target is 'Reference', which this machine does not have: reference is meant"),
            std::string::npos)
      << misspelt.err;
}

TEST(Verify, NothingToCheckIsNoPass) {
  const Lines lines = Golden();
  const Folder folder;
  WriteAll(folder / "empty.tsv", Text({lines.front()}));
  for (const std::vector<std::string>& more : {std::vector<std::string>{"--case", "no-such-case"},
                                               {"--golden", folder / "empty.tsv"},
                                               {"--golden", ISONORM_GOLDEN_PATH, "--golden", folder / "empty.tsv"}}) {
    std::vector<std::string> args = {"verify", "--quick"};
    args.insert(args.end(), more.begin(), more.end());
    const Outcome run = RunCli(args);
    EXPECT_EQ(run.exit_code, 1) << more.back();
    EXPECT_NE(run.err.find("nothing was checked"), std::string::npos) << run.err;
  }
}

TEST(Verify, FilesThatAreNoGoldenFiles) {
  const Lines lines = Golden();
  const Folder folder;
  Lines damaged = {lines.front(), lines[1]};
  damaged[1][Column(lines, "y")] = "not a digest";
  WriteAll(folder / "damaged.tsv", Text(damaged));
  WriteAll(folder / "words.tsv", "just some words\nin two lines\n");
  WriteAll(folder / "binary.tsv", std::string("\x00\xff\t\n\x93NUMPY", 10));
  for (const char* const name : {"damaged.tsv", "words.tsv", "binary.tsv", "absent.tsv"}) {
    const Outcome run = RunCli({"--json", "verify", "--quick", "--golden", folder / name});
    EXPECT_EQ(run.exit_code, 3) << name << ": " << run.err;
    EXPECT_NE(run.err.find(name), std::string::npos) << run.err;
    EXPECT_EQ(nlohmann::json::parse(run.out)["exit_code"], 3) << run.out;
  }
}

// The name of a case is printed where its digests differ.
TEST(Verify, NamesFromFilesAreOnlyText) {
  const Lines lines = Golden();
  Lines wrong = {lines.front(), lines[1]};
  char& digit = wrong[1][Column(lines, "y")].back();
  digit = digit == '0' ? '1' : '0';
  const Folder folder;
  wrong[1].front() = "no\xffutf8";
  WriteAll(folder / "utf8.tsv", Text(wrong));
  const Outcome json = RunCli({"--json", "verify", "--quick", "--golden", folder / "utf8.tsv"});
  EXPECT_EQ(json.exit_code, 1) << json.err;
  EXPECT_TRUE(nlohmann::json::accept(json.out)) << json.out;
  wrong[1].front() = "\x1b[31mred";
  WriteAll(folder / "red.tsv", Text(wrong));
  const Outcome red = RunCli({"verify", "--quick", "--golden", folder / "red.tsv"});
  EXPECT_EQ(red.exit_code, 3) << red.err;
  EXPECT_NE(red.err.find("line 2: it holds a control character"), std::string::npos) << red.err;
  EXPECT_EQ((red.out + red.err).find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace isonorm_test
