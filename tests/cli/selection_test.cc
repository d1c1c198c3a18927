// Which tensors `apply` normalises, where it finds their weights, and what it keeps.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "process.h"

namespace isonorm_test {
namespace {

// Two norms with weights, a tensor of integers and a scalar, and metadata.
class Selection : public testing::Test {
 protected:
  Selection() {
    WriteAll(folder_ / "in.safetensors",
             SafetensorsFile("{\"__metadata__\":{\"source\":\"test\"}," + Entry("p.a.input", "F32", "[2,4]", 0, 32) + "," +
                                 Entry("p.a.weight", "F32", "[4]", 32, 48) + "," + Entry("p.b.input", "F32", "[1,4]", 48, 64) +
                                 "," + Entry("p.b.weight", "F32", "[4]", 64, 80) + "," + Entry("steps", "I64", "[1]", 80, 88) +
                                 "," + Entry("scale", "F32", "[]", 88, 92) + "}",
                             Bytes(Values(20, 1)) + std::string(12, '\7')));
  }

  Outcome Apply(std::vector<std::string> more, const std::string& out = "out.safetensors") {
    std::vector<std::string> args = {
        "apply", folder_ / "in.safetensors", "-o", folder_ / out, "--contract", "torch", "--eps", "1e-6", "--json"};
    args.insert(args.end(), more.begin(), more.end());
    return RunCli(args);
  }

  static std::vector<std::string> Normalised(const Outcome& run) {
    std::vector<std::string> names;
    const auto json = nlohmann::json::parse(run.out);
    for (const auto& t : json["tensors"]) names.push_back(t["name"]);
    return names;
  }

  const Folder folder_;
};

using Names = std::vector<std::string>;

TEST_F(Selection, AllFloatingPointVectors) {
  const Outcome run = Apply({});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(Normalised(run), (Names{"p.a.input", "p.a.weight", "p.b.input", "p.b.weight"}));
}

TEST_F(Selection, WhatServesAsWeightIsNotNormalised) {
  const Outcome run = Apply({"--weight", "{prefix}.weight", "--tensor", "*.input"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(Normalised(run), (Names{"p.a.input", "p.b.input"}));
}

TEST_F(Selection, GlobsAddUp) {
  const Outcome run = Apply({"--tensor", "p.b.*", "--tensor", "*a.input"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(Normalised(run), (Names{"p.a.input", "p.b.input", "p.b.weight"}));
  const std::string file = ReadAll(folder_ / "out.safetensors");
  EXPECT_EQ(file.find("p.a.weight"), std::string::npos);
  EXPECT_EQ(file.find("steps"), std::string::npos);
  EXPECT_NE(file.find("\"__metadata__\":{\"source\":\"test\"}"), std::string::npos);
}

TEST_F(Selection, KeepOthersCopiesTheirBytes) {
  const Outcome run = Apply({"--tensor", "p.a.input", "--keep-others", "--out-dtype", "bf16"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const std::string file = ReadAll(folder_ / "out.safetensors"), data = DataOf(file);
  ASSERT_EQ(data.size(), 92u - 16u);
  // The widest types come first, what is normalised last: it is the only one of 16 bits.
  const std::string in = DataOf(ReadAll(folder_ / "in.safetensors"));
  EXPECT_EQ(data.substr(0, 60), in.substr(80, 8) + in.substr(32, 48) + in.substr(88));
  EXPECT_NE(file.find("\"steps\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}"), std::string::npos);
}

TEST_F(Selection, PatternsNeedNoPlaceholder) {
  const Outcome run = Apply({"--tensor", "p.?.input", "--weight", "p.b.weight", "--bias", "{prefix}.weight"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
}

TEST_F(Selection, WhatIsLeftOutIsNamed) {
  const Outcome run = Apply({});
  const auto json = nlohmann::json::parse(run.out);
  ASSERT_EQ(json["left_out"].size(), 2u) << run.out;
  EXPECT_EQ(json["left_out"][0]["name"], "steps");
  EXPECT_EQ(json["left_out"][0]["type"], "I64");
  EXPECT_EQ(json["left_out"][1]["why"], "is a single number of shape [] and no vector");
  const std::vector<std::string> args = {
      "apply", folder_ / "in.safetensors", "-o", folder_ / "t.safetensors", "--contract", "torch", "--eps", "1e-6"};
  const Outcome table = RunCli(args);
  const char* const words = "left out: steps is of type I64, scale is a single number of shape [] and no vector\n";
  EXPECT_NE(table.out.find(words), std::string::npos) << table.out;
  EXPECT_EQ(nlohmann::json::parse(Apply({"--tensor", "p.a.input"}, "u.safetensors").out)["left_out"].size(), 0u);
}

TEST_F(Selection, WhyThereIsNothingToNormalise) {
  std::string header =
      "{" + Entry("w", "F32", "[2]", 0, 8) + "," + Entry("none", "F32", "[3,0]", 8, 8) + "," + Entry("one", "F32", "[]", 8, 12);
  std::int64_t end = 12;
  for (int i = 0; i < 6; ++i) {
    header += "," + Entry("q" + std::to_string(i), "F8_E4M3", "[1]", end, end + 1);
    ++end;
  }
  WriteAll(folder_ / "in.safetensors", SafetensorsFile(header + "}", std::string(18, '\0')));
  const Outcome run = Apply({"--weight", "w"});
  EXPECT_EQ(run.exit_code, 3);
  for (const char* const words :
       {"holds no tensor that can be normalised: ", "w is what --weight names", "none has the shape [3, 0]",
        "one is a single number", "q0 is of type F8_E4M3", ", and 4 more; isonorm normalises vectors of F32"}) {
    EXPECT_NE(run.err.find(words), std::string::npos) << words << ": " << run.err;
  }
}

// layers[0].x is a name before it is a pattern that stands for layers0.x.
TEST_F(Selection, AnExactNameWinsOverThePattern) {
  const auto choose = [&](const std::string& glob) {
    const Outcome run = Apply({"--tensor", glob, "--force"});
    EXPECT_EQ(run.exit_code, 0) << run.err;
    return run.exit_code == 0 ? Normalised(run) : Names{};
  };
  WriteAll(
      folder_ / "in.safetensors",
      SafetensorsFile("{" + Entry("layers0.x", "F32", "[2]", 0, 8) + "," + Entry("layers[0].x", "F32", "[2]", 8, 16) + "," +
                          Entry("layers[1].x", "F32", "[2]", 16, 24) + "," + Entry("a*", "F32", "[1]", 24, 28) + "," +
                          Entry("ab", "F32", "[1]", 28, 32) + "," + Entry("nul\\u0000tail", "F32", "[1]", 32, 36) + "}",
                      Bytes(Values(9, 1))));
  EXPECT_EQ(choose("layers[0].x"), Names{"layers[0].x"});
  EXPECT_EQ(choose("layers[0-9].x"), Names{"layers0.x"});
  EXPECT_EQ(choose("layers[[]*"), (Names{"layers[0].x", "layers[1].x"}));
  EXPECT_EQ(choose("a*"), Names{"a*"});
  EXPECT_EQ(choose("?b"), Names{"ab"});
  // A name goes on after a NUL.
  EXPECT_EQ(choose("nul*"), Names{std::string("nul\0tail", 8)});
  EXPECT_EQ(choose("nul?tail"), Names{std::string("nul\0tail", 8)});
  EXPECT_EQ(Apply({"--tensor", "nul", "--force"}).exit_code, 3);
  const Outcome stats = RunCli({"stats", folder_ / "in.safetensors", "--tensor", "layers[0].x", "--json"});
  ASSERT_EQ(stats.exit_code, 0) << stats.err;
  EXPECT_EQ(Normalised(stats), Names{"layers[0].x"});
  EXPECT_EQ(RunCli({"stats", folder_ / "in.safetensors", "--tensor", "nul"}).exit_code, 3);
}

TEST_F(Selection, Errors) {
  const struct {
    std::vector<std::string> more;
    int code;
    const char* words;
  } cases[] = {
      {{"--tensor", "nothing*"}, 3, "no tensor matches --tensor 'nothing*'"},
      {{"--tensor", "steps"}, 3, "is of type I64"},
      {{"--tensor", "scale"}, 3, "scale, which --tensor 'scale' selects, is a single number of shape [] and no vector"},
      {{"--tensor", "p.a.input", "--weight", "{prefix}.gamma"}, 3, "holds no tensor p.a.gamma, which --weight asks for"},
      {{"--tensor", "p.a.input", "--weight", "steps"}, 3, "a weight is one of F32"},
      {{"--tensor", "p.a.input", "--weight", "{prefx}.weight"}, 2, "only {name} and {prefix}"},
      {{"--tensor", "p.a.input", "--weight", "p.a.input"}, 5, "p.a.input: "},
      {{"--tensor", "p.a.input", "--weight-file", folder_ / "in.safetensors"}, 3, "holds 6 tensors; --weight says which"},
      {{"--tensor", "p.a.input", "--gate", "p.b.input", "--gate-place", "after"}, 3, "another shape"},
      {{"--tensor", "p.a.input", "--window", "5"}, 5, "WINDOW"},
      {{"--tensor", "p.a.input", "--groups", "3"}, 5, "GROUPS"},
      {{"--tensor", "p.a.input", "--out-dtype", "f64"}, 5, "DTYPE"},
      {{"--tensor", "p.a.input", "--target", "NO_SUCH"}, 2, "--target is 'NO_SUCH', which this machine does not have; it has "},
      {{"--tensor", "p.a.input", "--target", "Reference"},
       2,
       "--target is 'Reference', which this machine does not have: reference is meant"},
  };
  for (const auto& c : cases) {
    const Outcome run = Apply(c.more);
    EXPECT_EQ(run.exit_code, c.code) << run.err;
    EXPECT_NE(run.err.find(c.words), std::string::npos) << run.err;
    EXPECT_EQ(nlohmann::json::parse(run.out)["exit_code"], c.code);
    EXPECT_EQ(folder_.Names(), (Names{"in.safetensors"}));
  }
  const Outcome npy = Apply({}, "out.npy");
  EXPECT_EQ(npy.exit_code, 2) << npy.err;
  const Outcome bf16 = Apply({"--tensor", "p.a.input", "--out-dtype", "bf16"}, "out.npy");
  EXPECT_EQ(bf16.exit_code, 2) << bf16.err;
  const Outcome ending = Apply({}, "out.bin");
  EXPECT_EQ(ending.exit_code, 2) << ending.err;
  EXPECT_EQ(folder_.Names(), (Names{"in.safetensors"}));
}

}  // namespace
}  // namespace isonorm_test
