// Standard streams that are full, closed or read by nobody, and --json, which must print JSON whatever fails.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "process.h"
#include "tensors.h"

namespace isonorm_test {
namespace {

using Words = std::vector<std::string>;

class Streams : public testing::Test {
 protected:
  Streams() {
    WriteAll(folder_ / "in.npy", NpyFile(NpyDictionary("<f4", "(2, 4)"), Bytes(Values(8, 1))));
    WriteTensors(folder_ / "in.safetensors", {{"x", F32({3, 4}, 1)}});
  }

  // Every verb, and what all of them share.
  std::vector<Words> Lines() const {
    return {{"list"},
            {"apply", folder_ / "in.npy", "-o", folder_ / "out.npy", "--contract", "torch", "--eps", "1", "--force"},
            {"stats", folder_ / "in.npy"},
            {"stats", folder_ / "in.npy", "--html", folder_ / "r.html", "--force"},
            {"verify", "--quick", "--case", "p000", "--target", "reference"},
            {"checkpoint", "recenter", folder_ / "in.safetensors", "-o", folder_ / "out.safetensors", "--rows", "x",
             "--no-head", "--force"},
            {"bench", "--list"},
            {"bench", "--quick", "--rounds", "1", "--filter", "cached.1x4096.f32"},
            {"--help"},
            {"apply", "--help"},
            {"--version"}};
  }

  const Folder folder_;
};

Words Json(const Words& line, bool first) {
  Words words = line;
  words.insert(first ? words.begin() : words.end(), "--json");
  return words;
}

TEST_F(Streams, AResultThatDoesNotArrive) {
  for (const Words& line : Lines()) {
    for (const Words& words : {line, Json(line, true)}) {
      const Outcome full = RunCli(words, {.stdout_path = "/dev/full"});
      EXPECT_EQ(full.exit_code, 4) << testing::PrintToString(words) << full.err;
      EXPECT_EQ(full.err, "isonorm: the result could not be written to standard output: No space left on device\n");
      const Outcome closed = RunCli(words, {.closed = {1}});
      EXPECT_EQ(closed.exit_code, 4) << testing::PrintToString(words) << closed.err;
      const Outcome broken = RunCli(words, {.broken_stdout = true});
      EXPECT_EQ(broken.exit_code, 141) << testing::PrintToString(words) << broken.err;
      EXPECT_EQ(broken.err, "");
    }
  }
}

// The exit code is that of the first failure.
TEST_F(Streams, AFailureThatCannotBeToldStaysTheSame) {
  const Words line = {"stats", folder_ / "absent.npy"};
  for (const Words& words : {line, Json(line, true)}) {
    EXPECT_EQ(RunCli(words, {.stdout_path = "/dev/full"}).exit_code, 3);
    EXPECT_EQ(RunCli(words, {.stderr_path = "/dev/full"}).exit_code, 3);
    EXPECT_EQ(RunCli(words, {.broken_stdout = true}).exit_code, 3);
    EXPECT_EQ(RunCli(words, {.closed = {0, 1, 2}}).exit_code, 3);
  }
}

// A file must not get the number of a closed stream: messages for it would land in the output.
TEST_F(Streams, ClosedOnes) {
  const Words apply = {"apply", folder_ / "in.npy", "-o", folder_ / "out.npy", "--contract", "torch", "--eps", "1"};
  ASSERT_EQ(RunCli(apply).exit_code, 0);
  const std::string expected = ReadAll(folder_ / "out.npy");
  for (const std::vector<int>& closed : {std::vector<int>{0}, {2}, {0, 2}}) {
    std::remove((folder_ / "out.npy").c_str());
    EXPECT_EQ(RunCli(apply, {.closed = closed}).exit_code, 0);
    EXPECT_EQ(ReadAll(folder_ / "out.npy"), expected);
    EXPECT_EQ(RunCli(apply, {.closed = closed}).exit_code, 4);  // is there already
    EXPECT_EQ(ReadAll(folder_ / "out.npy"), expected);
  }
  std::remove((folder_ / "out.npy").c_str());
  EXPECT_EQ(RunCli(apply, {.closed = {0, 1, 2}}).exit_code, 4);  // nobody saw what it printed
  EXPECT_EQ(ReadAll(folder_ / "out.npy"), expected);
}

TEST_F(Streams, JsonForEveryFailure) {
  WriteAll(folder_ / "bad.npy", "no such format");
  const std::string in = folder_ / "in.npy", out = folder_ / "out.npy";
  const struct {
    Words line;
    int code;
  } cases[] = {
      {{}, 2},
      {{"normalise"}, 2},
      {{"apply"}, 2},
      {{"apply", in, "-o"}, 2},
      {{"apply", in, "-o", out, "--contract", "torch", "--eps"}, 2},
      {{"apply", in, "-o", out, "--contract", "torch", "--eps", ""}, 2},
      {{"apply", in, "-o", out, "--contract", "no_such", "--eps", "1"}, 2},
      {{"apply", in, "-o", folder_ / "out.txt", "--contract", "torch", "--eps", "1"}, 2},
      {{"apply", in, "-o", out, "--contract", "torch", "--eps", "1", "--target", "NO_SUCH"}, 2},
      {{"apply", folder_ / "bad.npy", "-o", out, "--contract", "torch", "--eps", "1"}, 3},
      {{"apply", in, "-o", in, "--contract", "torch", "--eps", "1"}, 4},
      {{"stats"}, 2},
      {{"stats", folder_ / "absent"}, 3},
      {{"stats", in, "--html", in}, 4},
      {{"verify", "--threads", "many"}, 2},
      {{"verify", "--golden", folder_ / "absent"}, 3},
      {{"verify", "--case", "no such case"}, 1},
      {{"list", "--no-such-option"}, 2},
      {{"list", "more"}, 2},
      {{"bench", "--filter", "no such row"}, 2},
      {{"bench", "--quick", "--filter", "cached.1x4096.f32", "--svg", folder_ / "absent/x.svg"}, 4},
  };
  for (const auto& c : cases) {
    for (const bool first : {true, false}) {
      if (!first && c.line.size() > 1 && c.line.back() == "-o") continue;  // whose value it would be
      const Words words = Json(c.line, first);
      const Outcome run = RunCli(words);
      EXPECT_EQ(run.exit_code, c.code) << testing::PrintToString(words) << run.err;
      const auto json = nlohmann::json::parse(run.out, nullptr, false);
      ASSERT_TRUE(json.is_object()) << testing::PrintToString(words) << run.out;
      EXPECT_EQ(json["exit_code"], run.exit_code);
      EXPECT_EQ("isonorm: " + json["error"].get<std::string>() + "\n", run.err);
    }
  }
}

TEST_F(Streams, JsonForEverySuccess) {
  for (const Words& line : Lines()) {
    if (line.back() == "--help" || line.back() == "--version") continue;
    for (const bool first : {true, false}) {
      const Outcome run = RunCli(Json(line, first));
      EXPECT_EQ(run.exit_code, 0) << run.err;
      EXPECT_TRUE(nlohmann::json::accept(run.out)) << testing::PrintToString(line) << run.out;
      EXPECT_EQ(run.err, "");
    }
  }
}

}  // namespace
}  // namespace isonorm_test
