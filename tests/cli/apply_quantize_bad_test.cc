// Options of quantised output that exclude or need each other, and tensors that do not fit: exit code 2 or 3, one sentence
// that says what is wrong, and nothing written.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "process.h"
#include "tensors.h"

namespace isonorm_test {
namespace {

class QuantizeBad : public testing::Test {
 protected:
  QuantizeBad() {
    const auto scale = [](float value) { return Tensor{"F32", {1}, Bytes(std::vector<float>{value})}; };
    WriteTensors(folder_ / "in.safetensors", {{"x", F32({4, 96}, 1)},
                                              {"odd", F32({4, 100}, 2)},
                                              {"wide", {"F64", {2, 32}, std::string(512, '\0')}},
                                              {"scale", scale(0.5f)},
                                              {"zero", scale(0.0f)},
                                              {"negative", scale(-1.0f)},
                                              {"nan", scale(std::nanf(""))},
                                              {"two", F32({2}, 3)},
                                              {"square", {"F32", {1, 1}, std::string(4, '\0')}},
                                              {"half", {"BF16", {1}, std::string(2, '\0')}},
                                              {"x_scale", scale(1.0f)}});
  }

  // One sentence on a line of its own, and no file beside the input.
  void Refused(const std::vector<std::string>& options, int code, const std::string& words,
               const std::string& out = "out.safetensors") {
    std::vector<std::string> args = {"apply", folder_ / "in.safetensors", "-o", folder_ / out, "--contract", "torch", "--eps",
                                     "1e-6"};
    args.insert(args.end(), options.begin(), options.end());
    const Outcome run = RunCli(args);
    EXPECT_EQ(run.exit_code, code) << words << "\n" << run.err;
    EXPECT_NE(run.err.find(words), std::string::npos) << words << "\n" << run.err;
    EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
    EXPECT_EQ(run.out, "");
    EXPECT_EQ(folder_.Names(), std::vector<std::string>{"in.safetensors"});
  }

  const Folder folder_;
};

// Each option that only quantised outputs have, without one.
TEST_F(QuantizeBad, OptionsWithoutAQuantisedType) {
  const std::vector<std::string> options[] = {
      {"--scale-kind", "dynamic"},  {"--scale", "1"},        {"--scale-tensor", "scale"},
      {"--scale-tensor-file", "f"}, {"--scale-group", "32"}, {"--min-scale", "1"},
      {"--scale-ub", "1"},          {"--round-to", "bf16"},  {"--scale-name", "{name}.s"}};
  for (const std::vector<std::string>& option : options) {
    std::vector<std::string> with_type = option;
    with_type.insert(with_type.end(), {"--out-dtype", "bf16"});
    Refused(option, 2, option[0] + " is for quantised outputs: --out-dtype i8, e4m3 or e5m2");
    Refused(with_type, 2, option[0] + " is for quantised outputs: --out-dtype i8, e4m3 or e5m2");
  }
}

TEST_F(QuantizeBad, Options) {
  const struct {
    std::vector<std::string> options;
    const char* words;
  } cases[] = {
      {{}, "--out-dtype i8 needs --scale-kind static, dynamic or power_of_two"},
      {{"--scale-kind", "per_token"}, "--scale-kind"},
      {{"--scale-kind", "static"}, "--scale-kind static needs the scale: --scale NUMBER or --scale-tensor PATTERN"},
      {{"--scale-kind", "static", "--scale", "1", "--scale-tensor", "scale"}, "--scale and --scale-tensor are both given"},
      {{"--scale-kind", "static", "--scale", "1", "--scale-tensor-file", "f"}, "--scale and --scale-tensor are both given"},
      {{"--scale-kind", "static", "--scale", "0"}, "--scale is 0, but must be from 2^-126 to 2^126"},
      {{"--scale-kind", "static", "--scale", "-1"}, "--scale: '-1' is not a finite number of at least 0"},
      {{"--scale-kind", "static", "--scale", "nan"}, "--scale: 'nan' is not a finite number"},
      {{"--scale-kind", "static", "--scale", "1e39"}, "--scale is 1e+39, but"},
      {{"--scale-kind", "static", "--scale", "large"}, "--scale"},
      {{"--scale-kind", "static", "--scale", "1", "--scale-group", "32"},
       "--scale-group has no meaning with --scale-kind static"},
      {{"--scale-kind", "static", "--scale", "1", "--min-scale", "1"}, "--min-scale has no meaning with --scale-kind static"},
      {{"--scale-kind", "static", "--scale", "1", "--scale-ub", "1"}, "--scale-ub has no meaning with --scale-kind static"},
      {{"--scale-kind", "dynamic", "--scale", "1"}, "--scale is for --scale-kind static; dynamic scales are computed"},
      {{"--scale-kind", "power_of_two", "--scale-tensor", "scale"},
       "--scale-tensor is for --scale-kind static; power_of_two scales"},
      {{"--scale-kind", "dynamic", "--scale-tensor-file", "f"}, "--scale-tensor-file is for --scale-kind static"},
      {{"--scale-kind", "dynamic", "--scale-group", "48"}, "--scale-group"},
      {{"--scale-kind", "dynamic", "--min-scale", "0"}, "--min-scale is 0, but must be from 2^-126 to 2^126"},
      {{"--scale-kind", "power_of_two", "--min-scale", "0.3"}, "--min-scale is 0.3, but must be a power of two from 2^-126"},
      {{"--scale-kind", "dynamic", "--scale-ub", "0"}, "--scale-ub is 0, but must be positive and finite in f32"},
      {{"--scale-kind", "dynamic", "--scale-ub", "nan"}, "--scale-ub: 'nan' is not a finite number"},
      {{"--scale-kind", "dynamic", "--scale-ub", "1e39"}, "--scale-ub is 1e+39, but"},
      {{"--scale-kind", "dynamic", "--round-to", "f32"}, "--round-to"},
      {{"--scale-kind", "dynamic", "--scale-name", "{scale}"}, "only {name} and {prefix}"},
      {{"--scale-kind", "dynamic", "--scale-name", "{name}"}, "two tensors of the output would be called x;"},
      {{"--scale-kind", "dynamic", "--keep-others"}, "two tensors of the output would be called x_scale;"},
      {{"--scale-kind", "dynamic", "--tensor", "scale", "--scale-name", "s"}, "two tensors of the output would be called s;"},
  };
  for (const auto& c : cases) {
    std::vector<std::string> options = {"--tensor", "x", "--out-dtype", "i8"};
    options.insert(options.end(), c.options.begin(), c.options.end());
    Refused(options, 2, c.words);
  }
}

TEST_F(QuantizeBad, Tensors) {
  const struct {
    std::vector<std::string> options;
    const char* words;
  } cases[] = {
      {{"--tensor", "odd", "--scale-kind", "dynamic", "--scale-group", "32"},
       "odd has 100 columns, which --scale-group 32 does not"},
      {{"--tensor", "x", "--groups", "2", "--scale-kind", "power_of_two", "--scale-group", "32"},
       "x has 48 columns in each of its groups, which --scale-group 32 does not divide"},
      {{"--tensor", "wide", "--scale-kind", "dynamic"}, "wide is of type F64; only F32, BF16 and F16 are quantised"},
      {{"--tensor", "x", "--scale-kind", "static", "--scale-tensor", "none"},
       "none, which --scale-tensor asks for as the scale of x"},
      {{"--tensor", "x", "--scale-kind", "static", "--scale-tensor", "two"},
       "shape [2]; a static scale is F32 of shape [] or [1]"},
      {{"--tensor", "x", "--scale-kind", "static", "--scale-tensor", "square"}, "shape [1, 1]; a static scale is F32"},
      {{"--tensor", "x", "--scale-kind", "static", "--scale-tensor", "half"}, "half is of type BF16"},
      {{"--tensor", "x", "--scale-kind", "static", "--scale-tensor", "zero"}, "zero holds 0; a static scale is from 2^-126"},
      {{"--tensor", "x", "--scale-kind", "static", "--scale-tensor", "negative"}, "negative holds -1;"},
      {{"--tensor", "x", "--scale-kind", "static", "--scale-tensor", "nan"}, "nan holds nan;"},
      {{"--tensor", "x", "--scale-kind", "static", "--scale-tensor-file", "absent"}, "absent: cannot be read"},
  };
  for (const auto& c : cases) {
    std::vector<std::string> options = {"--out-dtype", "e4m3"};
    options.insert(options.end(), c.options.begin(), c.options.end());
    Refused(options, 3, c.words);
  }
}

TEST_F(QuantizeBad, NpyHasNoPlaceForScales) {
  for (const char* const type : {"i8", "e4m3", "e5m2"}) {
    Refused({"--tensor", "x", "--out-dtype", type, "--scale-kind", "dynamic"}, 2,
            std::string(type) + " values have scales beside them; write .safetensors", "out.npy");
  }
}

}  // namespace
}  // namespace isonorm_test
