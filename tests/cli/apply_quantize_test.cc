// Quantised output of `apply`: values and scales are those of one call of the library on the whole tensors, whatever the
// kind of scale, the threads and the pieces; and the report says what was written.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <limits>

#include "process.h"
#include "tensors.h"

namespace isonorm_test {
namespace {

using nlohmann::json;

using isonorm::dtype;
using isonorm::scale_kind;

struct Kind {
  const char* name;
  isonorm::quantization quantization;
  std::vector<std::string> options;
  std::vector<std::int64_t> scale_shape;  // of x [2, 3, 256]
};

std::vector<Kind> Kinds() {
  const std::vector<std::int64_t> row = {2, 3, 1};
  return {
      {"static", {.kind = scale_kind::fixed}, {"--scale-kind", "static", "--scale", "0.0217"}, {1}},
      {"row", {.kind = scale_kind::dynamic}, {"--scale-kind", "dynamic"}, row},
      {"group32",
       {.kind = scale_kind::dynamic, .group_cols = 32},
       {"--scale-kind", "dynamic", "--scale-group", "32"},
       {2, 3, 8}},
      {"group128",
       {.kind = scale_kind::dynamic, .group_cols = 128},
       {"--scale-kind", "dynamic", "--scale-group", "128"},
       {2, 3, 2}},
      {"least", {.kind = scale_kind::dynamic, .min_scale = 0.5}, {"--scale-kind", "dynamic", "--min-scale", "0.5"}, row},
      {"cut", {.kind = scale_kind::dynamic, .scale_ub = 1.25}, {"--scale-kind", "dynamic", "--scale-ub", "1.25"}, row},
      {"rounded",
       {.kind = scale_kind::dynamic, .rounded_to = dtype::bf16},
       {"--scale-kind", "dynamic", "--round-to", "bf16"},
       row},
      {"power", {.kind = scale_kind::power_of_two}, {"--scale-kind", "power_of_two"}, row},
      {"power64",
       {.kind = scale_kind::power_of_two, .rounded_to = dtype::f16, .group_cols = 64, .min_scale = 0x1p-9},
       {"--scale-kind", "power_of_two", "--scale-group", "64", "--min-scale", "0.001953125", "--round-to", "f16"},
       {2, 3, 4}},
  };
}

constexpr struct {
  const char* option;
  const char* dtype;
  double largest;
  int fraction_bits;  // -1: integers
  double least_step;  // between the least values
} kTypes[] = {{"i8", "I8", 127, -1, 1}, {"e4m3", "F8_E4M3", 448, 3, 0x1p-9}, {"float8_e5m2", "F8_E5M2", 57344, 2, 0x1p-16}};

class Quantize : public testing::Test {
 protected:
  Outcome Apply(const std::vector<std::string>& more) {
    std::vector<std::string> args = {"apply",      folder_ / "in.safetensors",
                                     "-o",         folder_ / "out.safetensors",
                                     "--contract", "torch",
                                     "--eps",      "1e-6",
                                     "--tensor",   "x",
                                     "--json",     "--force"};
    args.insert(args.end(), more.begin(), more.end());
    return RunCli(args);
  }

  const Folder folder_;
};

TEST_F(Quantize, EachTypeAndKindGivesTheLibrarysBits) {
  const Tensor x = Bf16({2, 3, 256}, 1), weight = F32({256}, 2);
  WriteTensors(folder_ / "in.safetensors", {{"x", x}, {"w", weight}});
  for (const auto& type : kTypes) {
    for (const Kind& kind : Kinds()) {
      const std::string name = std::string(type.option) + " " + kind.name;
      std::vector<std::string> options = {"--weight", "w", "--out-dtype", type.option};
      options.insert(options.end(), kind.options.begin(), kind.options.end());
      const Outcome run = Apply(options);
      ASSERT_EQ(run.exit_code, 0) << name << run.err;

      Tensor y = Zeros(type.dtype, x.shape);
      Tensor scale = Zeros(kind.quantization.kind == scale_kind::power_of_two ? "F8_E8M0" : "F32", kind.scale_shape);
      isonorm::forward_args args = {.x = View(x), .weight = View(weight), .quantization = kind.quantization, .y = View(y)};
      if (kind.quantization.kind == scale_kind::fixed) {
        scale.data = Bytes(std::vector<float>{0.0217f});
        args.static_scale = View(std::as_const(scale));
      } else {
        args.scale = View(scale);
      }
      isonorm::forward(isonorm::contracts::torch, 1e-6, args);
      const Tensors out = ReadTensors(folder_ / "out.safetensors");
      ASSERT_EQ(out.size(), 2u) << name;
      EXPECT_EQ(out.at("x") == y, true) << name;
      EXPECT_EQ(out.at("x_scale") == scale, true) << name;
    }
  }
}

// A value is rounded to a neighbour, so that value times scale is within half a step of what is not quantised. In units of
// the scale, for v = y / scale: half a step is |v| * 2^-(bits + 1), or half the least step near 0. The product with
// RN(1 / scale) has two roundings to f32 before that, 2^-23 together, and the scale itself one more: |v| * 2^-22 holds all.
// A power of two may lie below amax / largest: then what is beyond the largest value is cut.
TEST_F(Quantize, ValueTimesScaleIsWithinHalfAStep) {
  const Tensor x = F32({2, 3, 256}, 3);
  WriteTensors(folder_ / "in.safetensors", {{"x", x}});
  Tensor exact = Zeros("F32", x.shape);
  isonorm::forward(isonorm::contracts::torch, 1e-6, {.x = View(x), .y = View(exact)});
  for (const auto& type : kTypes) {
    for (const Kind& kind : Kinds()) {
      if (kind.quantization.rounded_to || kind.quantization.scale_ub != 0) continue;  // another y
      const std::string name = std::string(type.option) + " " + kind.name;
      std::vector<std::string> options = {"--out-dtype", type.option};
      options.insert(options.end(), kind.options.begin(), kind.options.end());
      const Outcome run = Apply(options);
      ASSERT_EQ(run.exit_code, 0) << name << run.err;
      const Tensors out = ReadTensors(folder_ / "out.safetensors");
      const Tensor &y = out.at("x"), &scale = out.at("x_scale");
      const std::size_t scales = scale.data.size() / (scale.dtype == "F32" ? 4 : 1), cols = y.data.size() / scales;
      const bool mx = type.fraction_bits < 0 && scale.dtype == "F8_E8M0";  // a value is q / 64 * scale
      double sum = 0;
      std::int64_t at_limit = 0, zeros = 0;
      for (std::size_t i = 0; i < y.data.size(); ++i) {
        const double s = ScaleAt(scale, i / cols) / (mx ? 64 : 1), q = Decoded(y.data[i], y.dtype);
        const double v = std::abs(ScaleAt({"F32", {}, exact.data}, i) / s);
        const double half =
            type.fraction_bits < 0 ? 0.5 : std::max(std::ldexp(v, -type.fraction_bits - 1), type.least_step / 2);
        const double bound = half + v * 0x1p-22 + std::max(0.0, v - type.largest);
        ASSERT_EQ(std::abs(std::abs(q) - v) <= bound, true) << name << " " << i << ": " << v << " became " << q;
        sum += q * q * s * s;
        at_limit += std::abs(q) == type.largest;
        zeros += q == 0;
      }
      // The report counts the same; sums in another order differ by less than 2^-53 for each addition.
      const auto report = json::parse(run.out)["tensors"][0];
      const double rms = std::sqrt(sum / static_cast<double>(y.data.size()));
      EXPECT_EQ(std::abs(report["rms_after"].get<double>() - rms) <= rms * 0x1p-40, true) << name;
      EXPECT_EQ(report["at_limit"], at_limit) << name;
      EXPECT_EQ(report["zeros"], zeros) << name;
      double smallest = ScaleAt(scale, 0), largest = smallest;
      for (std::size_t i = 0; i < scales; ++i) {
        smallest = std::min(smallest, ScaleAt(scale, i));
        largest = std::max(largest, ScaleAt(scale, i));
      }
      EXPECT_EQ(report["scale"]["smallest"].get<double>(), smallest) << name;
      EXPECT_EQ(report["scale"]["largest"].get<double>(), largest) << name;
    }
  }
}

// Rows of several pieces, a residual, a gate of another function and place, groups: still one call on the whole tensors.
TEST_F(Quantize, ThreadsAndPiecesDoNotChangeTheBytes) {
  constexpr std::int64_t kRows = 2003, kCols = 1024;
  const Tensor x = F32({kRows, kCols}, 4), residual = Bf16({kRows, kCols}, 5), gate = Bf16({kRows, kCols}, 6);
  const Tensor weight = Bf16({kCols}, 7);
  WriteTensors(folder_ / "in.safetensors", {{"x", x}, {"r", residual}, {"g", gate}, {"w", weight}});
  isonorm::contract contract = isonorm::contracts::torch;
  contract.sum_rounding = isonorm::sum_rounding::kept;
  contract.gate_place = isonorm::gate_place::after;
  contract.gate_function = isonorm::gate_function::sigmoid;
  Tensor y = Zeros("F8_E4M3", x.shape), scale = Zeros("F8_E8M0", {kRows, kCols / 32}), sum = Zeros("BF16", x.shape);
  isonorm::forward(contract, 1e-6,
                   {.x = View(x),
                    .weight = View(weight),
                    .residual = View(residual),
                    .gate = View(gate),
                    .quantization = {.kind = scale_kind::power_of_two, .group_cols = 32},
                    .scale = View(scale),
                    .y = View(y),
                    .residual_out = View(sum),
                    .groups = 4});
  for (const char* const threads : {"1", "2", "0"}) {
    const Outcome run = Apply({"--weight",        "w",          "--residual",     "r",
                               "--residual-out",  "{name}.sum", "--sum-rounding", "kept",
                               "--gate",          "g",          "--gate-place",   "after",
                               "--gate-function", "sigmoid",    "--groups",       "4",
                               "--out-dtype",     "e4m3",       "--scale-kind",   "power_of_two",
                               "--scale-group",   "32",         "--scale-name",   "{name}.mx",
                               "--digest",        "--threads",  threads});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Tensors out = ReadTensors(folder_ / "out.safetensors");
    ASSERT_EQ(out.size(), 3u);
    EXPECT_EQ(out.at("x") == y, true) << threads;
    EXPECT_EQ(out.at("x.mx") == scale, true) << threads;
    EXPECT_EQ(out.at("x.sum") == sum, true) << threads;
    const auto report = json::parse(run.out);
    const auto digest = [](const json& of) { return std::stoull(of["digest"].get<std::string>(), nullptr, 16); };
    const json& t = report["tensors"][0];
    EXPECT_EQ(digest(t), Fnv(y.data));
    EXPECT_EQ(digest(t["scale"]), Fnv(scale.data));
    EXPECT_EQ(digest(t["residual_out"]), Fnv(sum.data));
    EXPECT_EQ(t["scale"]["shape"], json::array({kRows, 32}));
    EXPECT_EQ(t["scale"]["dtype"], "e8m0");
    EXPECT_EQ(t["scale"]["kind"], "power_of_two");
    EXPECT_EQ(report["contract_fields"]["sum_rounding"], "kept");
    EXPECT_EQ(report["contract_fields"]["gate_function"], "sigmoid");
  }
}

// A static scale may be a tensor, of shape [] or [1], in the same file or another; it is not normalised itself.
TEST_F(Quantize, StaticScalesFromTensors) {
  const Tensor x = F32({5, 40}, 8), one = {"F32", {1}, Bytes(std::vector<float>{0.03125f})}, scalar = {"F32", {}, one.data};
  WriteTensors(folder_ / "in.safetensors", {{"x", x}, {"input_scale", one}, {"scalar", scalar}});
  WriteTensors(folder_ / "scales.safetensors", {{"s", scalar}});
  ASSERT_EQ(Apply({"--out-dtype", "i8", "--scale-kind", "static", "--scale", "0.03125"}).exit_code, 0);
  const Tensors expected = ReadTensors(folder_ / "out.safetensors");
  EXPECT_EQ(expected.at("x_scale") == one, true);
  for (const std::vector<std::string>& from :
       std::vector<std::vector<std::string>>{{"--scale-tensor", "input_scale"},
                                             {"--scale-tensor", "scalar"},
                                             {"--scale-tensor-file", folder_ / "scales.safetensors"},
                                             {"--scale-tensor", "s", "--scale-tensor-file", folder_ / "scales.safetensors"}}) {
    std::vector<std::string> options = {"--out-dtype", "int8", "--scale-kind", "static", "--digest"};
    options.insert(options.end(), from.begin(), from.end());
    const Outcome run = Apply(options);
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_EQ(ReadTensors(folder_ / "out.safetensors") == expected, true);
    const auto scale = json::parse(run.out)["tensors"][0]["scale"];
    EXPECT_EQ(std::stoull(scale["digest"].get<std::string>(), nullptr, 16), Fnv(one.data));
    EXPECT_EQ(scale["largest"].get<double>(), 0.03125);
  }
  WriteTensors(folder_ / "in.safetensors", {{"x", x}, {"x.scale", one}});
  const Outcome all =
      RunCli({"apply", folder_ / "in.safetensors", "-o", folder_ / "all.safetensors", "--contract", "torch", "--eps", "1e-6",
              "--out-dtype", "i8", "--scale-kind", "static", "--scale-tensor", "{name}.scale"});
  EXPECT_EQ(all.exit_code, 0) << all.err;  // x.scale serves x: without --tensor it is not normalised
  EXPECT_EQ(ReadTensors(folder_ / "all.safetensors") == expected, true);
}

// Rows that are NaN, infinite or zero, and no rows at all.
TEST_F(Quantize, SpecialRowsAndEmptyTensors) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> values = Values(4 * 32, 9);
  values[32] = kNan;
  for (std::size_t i = 64; i < 96; ++i) values[i] = 0;
  WriteTensors(folder_ / "in.safetensors", {{"x", {"F32", {4, 32}, Bytes(values)}}, {"e", {"F32", {0, 32}, ""}}});
  const Outcome run = Apply({"--out-dtype", "e4m3", "--scale-kind", "dynamic", "--tensor", "e"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto report = json::parse(run.out)["tensors"];
  EXPECT_EQ(report[0]["name"], "e");
  EXPECT_EQ(report[0]["scale"]["smallest"].is_null(), true);
  EXPECT_EQ(report[1]["non_finite_out"], 32);
  EXPECT_EQ(report[1]["scale"]["smallest"].get<double>(), 0x1p-126);
  const Tensors out = ReadTensors(folder_ / "out.safetensors");
  EXPECT_EQ(out.at("e_scale") == (Tensor{"F32", {0, 1}, ""}), true);
  EXPECT_EQ(out.at("x").data.substr(32, 32), std::string(32, '\x7f'));
  EXPECT_EQ(out.at("x").data.substr(64, 32), std::string(32, '\0'));
  const Outcome table = RunCli({"apply", folder_ / "in.safetensors", "-o", folder_ / "t.safetensors", "--contract", "torch",
                                "--eps", "1e-6", "--out-dtype", "e5m2", "--scale-kind", "dynamic", "--tensor", "x"});
  ASSERT_EQ(table.exit_code, 0) << table.err;
  for (const char* const words : {"f32 -> e5m2", "x_scale", "[4, 1]", "values at the limit"}) {
    EXPECT_NE(table.out.find(words), std::string::npos) << words << table.out;
  }
}

// The file is read again: quantised tensors are copied, not normalised; and every tensor is aligned to its values.
TEST_F(Quantize, TheOutputIsReadAgain) {
  const Tensor x = F32({3, 33}, 10), odd = F32({1, 7}, 11);
  WriteTensors(folder_ / "in.safetensors", {{"x", x}, {"odd", odd}, {"n", {"I64", {1}, "12345678"}}});
  ASSERT_EQ(Apply({"--tensor", "odd", "--keep-others", "--out-dtype", "i8", "--scale-kind", "dynamic"}).exit_code, 0);
  const std::string file = ReadAll(folder_ / "out.safetensors");
  const Tensors first = ReadTensors(folder_ / "out.safetensors");
  ASSERT_EQ(first.size(), 5u);
  EXPECT_EQ(first.at("n").data, "12345678");
  const auto header = json::parse(file.substr(8, file.size() - DataOf(file).size() - 8));
  for (const auto& [name, entry] : header.items()) {
    const int size = entry["dtype"] == "I64" ? 8 : entry["dtype"] == "F32" ? 4 : 1;
    EXPECT_EQ(entry["data_offsets"][0].get<int>() % size, 0) << name;
  }
  const auto again = [&](const std::string& tensor) {
    return RunCli({"apply", folder_ / "out.safetensors", "-o", folder_ / "again.safetensors", "--contract", "torch", "--eps",
                   "1e-6", "--keep-others", "--tensor", tensor});
  };
  EXPECT_EQ(again("odd_scale").exit_code, 0);
  const Tensors second = ReadTensors(folder_ / "again.safetensors");
  for (const char* const name : {"x", "x_scale", "odd", "n"}) EXPECT_EQ(second.at(name) == first.at(name), true) << name;
  const Outcome refused = again("odd");
  EXPECT_EQ(refused.exit_code, 3);
  EXPECT_NE(refused.err.find("is of type I8"), std::string::npos) << refused.err;
}

TEST_F(Quantize, AllOrNothing) {
  WriteTensors(folder_ / "in.safetensors", {{"x", F32({64, 4096}, 12)}});
  WriteAll(folder_ / "out.safetensors", "precious");
  const Outcome run = RunCli({"apply", folder_ / "in.safetensors", "-o", folder_ / "out.safetensors", "--contract", "torch",
                              "--eps", "1e-6", "--out-dtype", "i8", "--scale-kind", "dynamic", "--force"},
                             {.file_size_limit = 200000});
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_NE(run.err.find("cannot be written in full"), std::string::npos) << run.err;
  EXPECT_EQ(ReadAll(folder_ / "out.safetensors"), "precious");
  EXPECT_EQ(folder_.Names(), (std::vector<std::string>{"in.safetensors", "out.safetensors"}));
}

}  // namespace
}  // namespace isonorm_test
