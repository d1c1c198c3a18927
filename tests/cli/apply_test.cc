// What `apply` writes is what the library computes, bit for bit, whatever the file, the threads and the pieces it reads.
#include <gtest/gtest.h>
#include <isonorm/isonorm.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstring>
#include <limits>

#include "process.h"
#include "tensors.h"

namespace isonorm_test {
namespace {

using isonorm::dtype;

std::string Npy(const std::string& descr, std::int64_t rows, std::int64_t cols, const std::string& data, int major = 1) {
  return NpyFile(NpyDictionary(descr, "(" + std::to_string(rows) + ", " + std::to_string(cols) + ")"), data, major);
}

// The same through the library, in one call on one thread.
std::string Expected(const isonorm::contract& contract, double eps, const std::string& x, dtype type, std::int64_t rows,
                     std::int64_t cols, dtype out_type, const std::string* weight = nullptr, dtype weight_type = dtype::f32,
                     std::int64_t groups = 1, std::int64_t window = 0) {
  std::string y(static_cast<std::size_t>(rows * cols * isonorm::size_of(out_type)), '\0');
  isonorm::forward_args args = {.x = {x.data(), type, {rows, cols}}, .y = {y.data(), out_type, {rows, cols}}};
  if (weight != nullptr) args.weight = {weight->data(), weight_type, {cols}};
  args.groups = groups;
  args.window = window;
  isonorm::forward(contract, eps, args);
  return y;
}

TEST(Apply, NpyOfEachVersionGivesTheLibrarysBits) {
  const Folder folder;
  const std::string x = Bytes(Values(6 * 33, 1));
  const std::string expected = Expected(isonorm::contracts::torch, 1e-6, x, dtype::f32, 6, 33, dtype::f32);
  for (const int major : {1, 2, 3}) {
    const std::string in = folder / ("in" + std::to_string(major) + ".npy"),
                      out = folder / ("out" + std::to_string(major) + ".npy");
    WriteAll(in, Npy("<f4", 6, 33, x, major));
    const Outcome run = RunCli({"apply", in, "-o", out, "--contract", "torch", "--eps", "1e-6"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_EQ(DataOf(ReadAll(out)), expected);
    EXPECT_EQ(ReadAll(out).find("(6, 33)") != std::string::npos, true);
  }
}

TEST(Apply, AllTypesWindowAndGroups) {
  const Folder folder;
  const std::vector<float> values = Values(4 * 48, 2);
  std::vector<std::uint16_t> half(values.size());  // any bits do; these stay finite
  for (std::size_t i = 0; i < half.size(); ++i) half[i] = static_cast<std::uint16_t>(0x3000 + 37 * i % 0x0800);
  const std::vector<double> wide(values.begin(), values.end());
  const struct {
    const char* descr;
    dtype type;
    std::string data;
  } cases[] = {{"F32", dtype::f32, Bytes(values)},
               {"F16", dtype::f16, Bytes(half)},
               {"BF16", dtype::bf16, Bytes(half)},
               {"F64", dtype::f64, Bytes(wide)}};
  for (const auto& c : cases) {
    const std::string in = folder / (std::string(c.descr) + ".safetensors"),
                      out = folder / (std::string(c.descr) + ".out.safetensors");
    const auto bytes = static_cast<std::int64_t>(c.data.size());
    WriteAll(in, SafetensorsFile("{" + Entry("t", c.descr, "[2,2,48]", 0, bytes) + "}", c.data));
    const Outcome run = RunCli({"apply", in, "-o", out, "--contract", "paper", "--eps", "0.01", "--groups", "3", "--window",
                                "5", "--out-dtype", "f32"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const std::string file = ReadAll(out);
    EXPECT_EQ(DataOf(file),
              Expected(isonorm::contracts::paper, 0.01, c.data, c.type, 4, 48, dtype::f32, nullptr, dtype::f32, 3, 5));
    EXPECT_NE(file.find("\"shape\":[2,2,48]"), std::string::npos);
  }
}

// Larger than one piece, so that rows of several pieces must meet; the digest covers them all.
TEST(Apply, ThreadsAndPiecesDoNotChangeTheBytes) {
  const Folder folder;
  constexpr std::int64_t kRows = 3001, kCols = 1023;
  const std::string x = Bytes(Values(kRows * kCols, 3)), weight = Bytes(Values(kCols, 4));
  const auto x_bytes = static_cast<std::int64_t>(x.size()), w_bytes = static_cast<std::int64_t>(weight.size());
  WriteAll(folder / "in.safetensors", SafetensorsFile("{" + Entry("n.input", "F32", "[3001,1023]", 0, x_bytes) + "," +
                                                          Entry("n.weight", "F32", "[1023]", x_bytes, x_bytes + w_bytes) + "}",
                                                      x + weight));
  const std::string expected = Expected(isonorm::contracts::llama, 1e-5, x, dtype::f32, kRows, kCols, dtype::bf16, &weight);
  for (const char* const threads : {"1", "2", "0"}) {
    const std::string out = folder / (std::string(threads) + ".safetensors");
    const Outcome run =
        RunCli({"apply", folder / "in.safetensors", "-o", out, "--contract", "llama", "--eps", "1e-5", "--weight",
                "{prefix}.weight", "--out-dtype", "bf16", "--threads", threads, "--digest", "--json"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_EQ(DataOf(ReadAll(out)) == expected, true) << threads;
    const auto json = nlohmann::json::parse(run.out);
    EXPECT_EQ(std::stoull(json["tensors"][0]["digest"].get<std::string>(), nullptr, 16), Fnv(expected));
  }
}

TEST(Apply, WeightAndBiasFromOtherFiles) {
  const Folder folder;
  const std::string x = Bytes(Values(5 * 20, 5)), weight = Bytes(Values(20, 6)), bias = Bytes(Values(20, 7));
  WriteAll(folder / "x.npy", Npy("<f4", 5, 20, x));
  WriteAll(folder / "w.npy", NpyFile(NpyDictionary("<f4", "(20,)"), weight));
  WriteAll(folder / "b.safetensors", SafetensorsFile("{" + Entry("x.bias", "F32", "[20]", 0, 80) + "}", bias));
  const Outcome run =
      RunCli({"apply", folder / "x.npy", "-o", folder / "y.safetensors", "--contract", "layer_norm", "--eps", "1e-12",
              "--weight-file", folder / "w.npy", "--bias", "{name}.bias", "--bias-file", folder / "b.safetensors"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  std::string y(x.size(), '\0');
  isonorm::forward(isonorm::contracts::layer_norm, 1e-12,
                   {.x = {x.data(), dtype::f32, {5, 20}},
                    .weight = {weight.data(), dtype::f32, {20}},
                    .bias = {bias.data(), dtype::f32, {20}},
                    .y = {y.data(), dtype::f32, {5, 20}}});
  const std::string file = ReadAll(folder / "y.safetensors");
  EXPECT_EQ(DataOf(file), y);
  EXPECT_NE(file.find("{\"x\":{"), std::string::npos);  // a .npy file's tensor is named after the file
}

TEST(Apply, Gate) {
  const Folder folder;
  const std::string x = Bytes(Values(3 * 16, 8)), gate = Bytes(Values(3 * 16, 9));
  WriteAll(folder / "in.safetensors",
           SafetensorsFile("{" + Entry("m.x", "F32", "[3,16]", 0, 192) + "," + Entry("m.z", "F32", "[3,16]", 192, 384) + "}",
                           x + gate));
  const Outcome run = RunCli({"apply", folder / "in.safetensors", "-o", folder / "out.npy", "--contract", "mamba2", "--eps",
                              "1e-5", "--gate", "{prefix}.z"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  std::string y(x.size(), '\0');
  isonorm::forward(
      isonorm::contracts::mamba2, 1e-5,
      {.x = {x.data(), dtype::f32, {3, 16}}, .gate = {gate.data(), dtype::f32, {3, 16}}, .y = {y.data(), dtype::f32, {3, 16}}});
  EXPECT_EQ(DataOf(ReadAll(folder / "out.npy")), y);
}

TEST(Apply, ReportsRmsAndNonFiniteValues) {
  const Folder folder;
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  WriteAll(folder / "in.npy", Npy("<f4", 3, 2, Bytes(std::vector<float>{3, 4, 0, 0, kInfinity, kNan})));
  const Outcome run =
      RunCli({"--json", "apply", folder / "in.npy", "-o", folder / "out.npy", "--contract", "torch", "--eps", "1e-6"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  const auto& t = json["tensors"][0];
  EXPECT_EQ(t["name"], "in");
  EXPECT_EQ(t["shape"], nlohmann::json::array({3, 2}));
  EXPECT_EQ(t["dtype"], "f32");
  EXPECT_EQ(t["rms_before"].get<double>(), std::sqrt(25.0 / 4));  // all exact in double
  EXPECT_EQ(t["non_finite_in"], 2);
  EXPECT_EQ(t["non_finite_out"], 2);
  EXPECT_GT(t["gigabytes_per_second"].get<double>(), 0);
  EXPECT_NE(t["kernel"].get<std::string>().find('@'), std::string::npos);
  EXPECT_EQ(json["contract"], "torch");
  // The same run as a table, the digest being absent.
  const Outcome table =
      RunCli({"apply", folder / "in.npy", "-o", folder / "again.npy", "--contract", "torch", "--eps", "1e-6"});
  EXPECT_NE(table.out.find("[3, 2]"), std::string::npos);
  EXPECT_NE(table.out.find("2 -> 2"), std::string::npos);
  EXPECT_NE(table.out.find(" -\n"), std::string::npos);
}

// Halves by exponent: zero, subnormal, normal, largest, infinity, NaN.
TEST(Apply, CountsNonFiniteHalves) {
  const Folder folder;
  const std::vector<std::uint16_t> halves = {0x0000, 0x0001, 0x3c00, 0x7bff, 0x7c00, 0xfe00};
  WriteAll(folder / "in.npy", Npy("<f2", 3, 2, Bytes(halves)));
  const Outcome run =
      RunCli({"apply", folder / "in.npy", "-o", folder / "out.npy", "--contract", "torch", "--eps", "1", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["tensors"][0]["non_finite_in"], 2);
  EXPECT_EQ(json["tensors"][0]["rms_before"].get<double>(), std::sqrt((0x1p-48 + 1.0 + 65504.0 * 65504.0) / 4));
}

TEST(Apply, EmptyTensors) {
  const Folder folder;
  WriteAll(folder / "in.safetensors",
           SafetensorsFile("{" + Entry("a", "F32", "[0,8]", 0, 0) + "," + Entry("b", "F32", "[3,0]", 0, 0) + "}", ""));
  const auto refused = RunCli({"apply", folder / "in.safetensors", "-o", folder / "out.safetensors", "--contract", "torch",
                               "--eps", "1e-6", "--tensor", "b"});
  EXPECT_EQ(refused.exit_code, 3) << refused.err;  // rows of no values have no norm
  const Outcome run = RunCli(
      {"apply", folder / "in.safetensors", "-o", folder / "out.safetensors", "--contract", "torch", "--eps", "1e-6", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(DataOf(ReadAll(folder / "out.safetensors")), "");
  EXPECT_EQ(nlohmann::json::parse(run.out)["tensors"].size(), 1u);
  EXPECT_TRUE(nlohmann::json::parse(run.out)["tensors"][0]["rms_before"].is_null());
}

}  // namespace
}  // namespace isonorm_test
