// `checkpoint` as a user meets it: values worked out by hand, what is kept, and what is refused with nothing written. Its bits
// for all types are compared in tests/python/numpy/test_checkpoint.py, and whole models in tests/python/transformers.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>

#include "process.h"
#include "tensors.h"

namespace isonorm_test {
namespace {

using Words = std::vector<std::string>;

Tensor Of(const std::vector<std::int64_t>& shape, const std::vector<float>& values) { return {"F32", shape, Bytes(values)}; }

class Checkpoint : public testing::Test {
 protected:
  Checkpoint() {
    WriteTensors(in_, {{"embed.weight", Of({2, 2}, {1, 3, 2, 8})},
                       {"l.0.out.weight", Of({2, 3}, {1, 2, 3, 5, 6, 9})},
                       {"l.0.norm.weight", Of({2}, {2, 4})},
                       {"l.0.norm.bias", Of({2}, {1, -1})},
                       {"l.0.up.weight", Of({1, 2}, {3, 5})},
                       {"l.0.up.bias", Of({1}, {7})},
                       {"head.weight", Of({2, 2}, {1, 2, 3, 4})},
                       {"ids", {"I8", {3}, "abc"}}});
  }

  Outcome Run(const std::string& what, const Words& options, const std::string& in = "") const {
    Words line = {"checkpoint", what, in.empty() ? in_ : in, "-o", out_};
    line.insert(line.end(), options.begin(), options.end());
    return RunCli(line);
  }

  void ExpectRefused(const Outcome& run, int exit_code, const std::string& words) const {
    EXPECT_EQ(run.exit_code, exit_code) << run.err;
    EXPECT_NE(run.err.find(words), std::string::npos) << run.err;
    EXPECT_EQ(run.out, "");
    EXPECT_EQ(folder_.Names(), Words{"in.safetensors"});
  }

  const Folder folder_;
  const std::string in_ = folder_ / "in.safetensors", out_ = folder_ / "out.safetensors";
  const Words recenter_ = {"--rows", "embed.weight", "--linear", "l.*.out.weight", "--head", "head.weight"};
  const Words fold_ = {"--norm", "l.*.norm.weight", "--linear", "l.*.up.weight"};
};

TEST_F(Checkpoint, RecentersWhatWritesIntoTheStream) {
  const Outcome run = Run("recenter", recenter_);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  Tensors expected = ReadTensors(in_);
  expected["embed.weight"] = Of({2, 2}, {-1, 1, -3, 3});
  expected["l.0.out.weight"] = Of({2, 3}, {-2, -2, -3, 2, 2, 3});
  EXPECT_TRUE(ReadTensors(out_) == expected);
  EXPECT_NE(run.out.find("less the mean of each column"), std::string::npos) << run.out;
}

TEST_F(Checkpoint, FoldsWeightAndBias) {
  const Outcome run = Run("fold", fold_);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  Tensors expected = ReadTensors(in_);
  expected["l.0.norm.weight"] = Of({2}, {1, 1});
  expected["l.0.norm.bias"] = Of({2}, {0, 0});
  expected["l.0.up.weight"] = Of({1, 2}, {6, 20});
  expected["l.0.up.bias"] = Of({1}, {7 + 3 - 5});
  EXPECT_TRUE(ReadTensors(out_) == expected);
}

TEST_F(Checkpoint, SaysAsJsonWhatChanged) {
  Words options = {"--rows", "embed.weight", "--head", "lm_head.weight", "--untie", "embed.weight", "--json"};
  const Outcome run = Run("recenter", options);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  ASSERT_EQ(json.at("changed").size(), 1u);
  EXPECT_EQ(
      json["changed"][0],
      (nlohmann::json{{"name", "embed.weight"}, {"shape", {2, 2}}, {"dtype", "F32"}, {"how", "less the mean of each row"}}));
  EXPECT_EQ(json.at("added"), (nlohmann::json{{"name", "lm_head.weight"}, {"copy_of", "embed.weight"}}));
  EXPECT_TRUE(ReadTensors(out_).at("lm_head.weight") == ReadTensors(in_).at("embed.weight"));
}

TEST_F(Checkpoint, KeepsMetadata) {
  const std::string header = R"({"__metadata__":{"format":"pt"},)" + Entry("x", "F32", "[1,2]", 0, 8) + "}";
  WriteAll(in_, SafetensorsFile(header, Bytes(std::vector<float>{1, 3})));
  ASSERT_EQ(Run("recenter", {"--rows", "x", "--no-head"}).exit_code, 0);
  EXPECT_NE(ReadAll(out_).find(R"("__metadata__":{"format":"pt"})"), std::string::npos);
  EXPECT_EQ(DataOf(ReadAll(out_)), Bytes(std::vector<float>{-1, 1}));
}

TEST_F(Checkpoint, ReplacesItsOwnInputWhereItIsAsked) {
  ASSERT_EQ(Run("fold", fold_).exit_code, 0);
  const std::string once = ReadAll(out_);
  EXPECT_EQ(Run("fold", fold_).exit_code, 4);
  EXPECT_EQ(ReadAll(out_), once);
  const Outcome again =
      RunCli({"checkpoint", "fold", in_, "-o", in_, "--force", "--norm", "l.*.norm.weight", "--linear", "l.*.up.weight"});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(ReadAll(in_), once);
}

TEST_F(Checkpoint, RefusesAndWritesNothing) {
  ExpectRefused(Run("recenter", {"--rows", "embd.weight", "--no-head"}), 3,
                "the pattern 'embd.weight' of rows matches no tensor");
  ExpectRefused(Run("recenter", {"--rows", "embed.weight"}), 2, "the head is not named");
  ExpectRefused(Run("recenter", {"--rows", "ids", "--no-head"}), 3, "ids is of type I8, but has to be one of");
  ExpectRefused(Run("recenter", {"--preset", "gpt2"}), 3, "so this is no model of the preset gpt2");
  ExpectRefused(Run("recenter", {"--preset", "gpt3"}), 2, "--preset: ");
  ExpectRefused(Run("recenter", {"--rows", "ids", "--no-head", "--head", "head.weight"}), 2,
                "a head and none exclude each other");
  ExpectRefused(Run("fold", {"--norm", "l.*.norm.weight", "--linear", "head.weight"}), 3, "has no bias head.bias");
  ExpectRefused(Run("fold", {"--preset", "llama", "--contract", "gemma"}), 2, "a preset and a contract exclude each other");
  ExpectRefused(RunCli({"checkpoint", "fold"}), 2, "IN is required");
  ExpectRefused(RunCli({"checkpoint"}), 2, "subcommand is required");
  ExpectRefused(Run("fold", fold_, folder_ / "absent"), 3, "absent");
}

// The value that is wrong comes after others were written.
TEST_F(Checkpoint, WritesNothingWhereAValueIsNotFinite) {
  Tensors tensors = ReadTensors(in_);
  tensors["l.0.out.weight"] = Of({2, 3}, {1, 2, 3, 5, 6, HUGE_VALF});
  WriteTensors(in_, tensors);
  ExpectRefused(Run("recenter", recenter_), 3, "l.0.out.weight of type F32 holds a value that is not finite");
  tensors["l.0.up.weight"] = Of({1, 2}, {3e38f, 5});
  WriteTensors(in_, tensors);
  ExpectRefused(Run("fold", fold_), 3, "l.0.up.weight of type F32 would hold a value that its type cannot");
}

TEST_F(Checkpoint, ReadsNoNpyFile) {
  const Folder other;
  WriteAll(other / "x.npy", NpyFile(NpyDictionary("<f4", "(1, 2)"), Bytes(std::vector<float>{1, 2})));
  ExpectRefused(Run("fold", fold_, other / "x.npy"), 3, "is a .npy file, but a checkpoint is a .safetensors file");
}

// A name that says something else would be believed.
TEST_F(Checkpoint, WritesNoFileOfAnotherName) {
  for (const char* name : {"out.npy", "out", "out.safetensors.bak"}) {
    Words line = {"checkpoint", "fold", in_, "-o", folder_ / name};
    line.insert(line.end(), fold_.begin(), fold_.end());
    ExpectRefused(RunCli(line), 2, std::string(name) + ": the output's name must end in .safetensors");
  }
}

}  // namespace
}  // namespace isonorm_test
