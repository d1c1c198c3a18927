// What `stats` says about the values of a tensor, against sums in long double and counts by hand.
#include <gtest/gtest.h>
#include <isonorm/isonorm.hpp>
#include <nlohmann/json.hpp>

#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "process.h"

namespace isonorm_test {
namespace {

using Json = nlohmann::json;

std::string Tensor(const std::string& name, const std::string& dtype, std::int64_t rows, std::int64_t cols,
                   const std::string& data) {
  const std::string shape = "[" + std::to_string(rows) + "," + std::to_string(cols) + "]";
  return SafetensorsFile("{" + Entry(name, dtype, shape, 0, static_cast<std::int64_t>(data.size())) + "}", data);
}

Json Stats(const std::string& file, const std::vector<std::string>& more = {}) {
  std::vector<std::string> args = {"stats", file, "--json"};
  args.insert(args.end(), more.begin(), more.end());
  const Outcome run = RunCli(args);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  return Json::parse(run.out);
}

Json OneTensor(const std::string& dtype, std::int64_t rows, std::int64_t cols, const std::string& data,
               const std::vector<std::string>& more = {}) {
  const Folder folder;
  WriteAll(folder / "in", Tensor("t", dtype, rows, cols, data));
  return Stats(folder / "in", more)["tensors"][0];
}

// A sum of n terms in f64 is off by at most n - 1 roundings of 2^-53 of the sum of magnitudes; its own square, root and
// division are a few more. `scale` is that sum of magnitudes, over what the result was divided by.
void ExpectSum(const Json& found, long double expected, double n, long double scale, const char* what) {
  const long double bound = (n + 8) * 0x1p-53L * scale;
  EXPECT_TRUE(std::abs(found.get<double>() - expected) <= bound) << what << ": " << found << " and " << expected;
}

TEST(Stats, NumbersAgainstLongDouble) {
  constexpr std::int64_t kRows = 37, kCols = 131;
  std::vector<float> x = Values(kRows * kCols, 5);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += 0.25f * static_cast<float>(i % 3);  // a mean to find
  const Json t = OneTensor("F32", kRows, kCols, Bytes(x), {"--eps", "1e-6"});

  long double sum = 0, magnitudes = 0, squares = 0, drifts = 0, largest = 0, least_row = 1e30L, most_row = 0;
  for (std::int64_t r = 0; r < kRows; ++r) {
    long double row_sum = 0, row_squares = 0;
    for (std::int64_t c = 0; c < kCols; ++c) {
      const long double v = x[static_cast<std::size_t>(r * kCols + c)];
      row_sum += v;
      row_squares += v * v;
      magnitudes += std::abs(v);
      largest = std::max(largest, std::abs(v));
    }
    const long double rms = std::sqrt(row_squares / kCols);
    least_row = std::min(least_row, rms);
    most_row = std::max(most_row, rms);
    drifts += (row_sum / kCols / rms) * (row_sum / kCols / rms);
    sum += row_sum;
    squares += row_squares;
  }
  const auto n = static_cast<double>(x.size());
  ExpectSum(t["rms"], std::sqrt(squares / n), n, std::sqrt(squares / n), "rms");
  ExpectSum(t["mean"], sum / n, n, magnitudes / n, "mean");
  ExpectSum(t["row_rms_min"]["value"], least_row, kCols, least_row, "least row");
  ExpectSum(t["row_rms_max"]["value"], most_row, kCols, most_row, "largest row");
  ExpectSum(t["drift"], std::sqrt(drifts / kRows), 4 * kCols, 1, "drift");
  EXPECT_EQ(t["max_abs"]["value"].get<double>(), static_cast<double>(largest));
  const auto at =
      static_cast<std::size_t>(t["max_abs"]["row"].get<std::int64_t>() * kCols + t["max_abs"]["channel"].get<std::int64_t>());
  EXPECT_EQ(std::abs(static_cast<double>(x[at])), static_cast<double>(largest));
  EXPECT_EQ(t["rows"], kRows);
  EXPECT_EQ(t["cols"], kCols);
}

TEST(Stats, NormsAgainstTheLibrary) {
  constexpr std::int64_t kRows = 19, kCols = 67;
  std::vector<float> x = Values(kRows * kCols, 6);
  for (std::int64_t c = 0; c < kCols; ++c) x[static_cast<std::size_t>(7 * kCols + c)] += 2.0f;  // here they part
  const Json norms = OneTensor("F32", kRows, kCols, Bytes(x), {"--eps", "1e-5"})["norms"];

  std::vector<float> y(x.size()), z(x.size());
  isonorm::forward(isonorm::contracts::torch, 1e-5, {.x = {x, kRows, kCols}, .y = {y, kRows, kCols}});
  isonorm::forward(isonorm::contracts::layer_norm, 1e-5, {.x = {x, kRows, kCols}, .y = {z, kRows, kCols}});
  long double cosines = 0, least = 2, sum_y = 0, sum_yy = 0, sum_z = 0, sum_zz = 0;
  for (std::int64_t r = 0; r < kRows; ++r) {
    long double yy = 0, zz = 0, yz = 0;
    for (std::int64_t c = 0; c < kCols; ++c) {
      const long double a = y[static_cast<std::size_t>(r * kCols + c)], b = z[static_cast<std::size_t>(r * kCols + c)];
      sum_y += a;
      sum_z += b;
      yy += a * a;
      zz += b * b;
      yz += a * b;
    }
    sum_yy += yy;
    sum_zz += zz;
    cosines += yz / std::sqrt(yy * zz);
    least = std::min(least, yz / std::sqrt(yy * zz));
  }
  const auto n = static_cast<double>(x.size());
  const auto deviation = [n](long double sum, long double squares) { return std::sqrt(squares / n - sum / n * (sum / n)); };
  ExpectSum(norms["rms_norm"]["mean"], sum_y / n, n, 1, "mean after RMSNorm");
  ExpectSum(norms["layer_norm"]["mean"], sum_z / n, n, 1, "mean after LayerNorm");
  ExpectSum(norms["rms_norm"]["std"], deviation(sum_y, sum_yy), 2 * n, 1, "std after RMSNorm");
  ExpectSum(norms["layer_norm"]["std"], deviation(sum_z, sum_zz), 2 * n, 1, "std after LayerNorm");
  ExpectSum(norms["cosine_mean"], cosines / kRows, 4 * kCols, 1, "mean cosine");
  ExpectSum(norms["cosine_min"]["value"], least, 4 * kCols, 1, "least cosine");
  EXPECT_EQ(norms["cosine_min"]["row"], 7);
  EXPECT_EQ(norms["rows"], kRows);
  EXPECT_EQ(norms["constant_rows"], 0);
}

// What the page says: the cosine is sqrt(1 - drift^2), but for eps and for the f32 of y and z: their values are off by a few
// 2^-24 of the row's RMS of 1, so the angle by no more than some 2^-21.
TEST(Stats, CosineFollowsFromDrift) {
  constexpr std::int64_t kCols = 100;
  std::vector<float> x = Values(kCols, 8);
  for (float& v : x) v += 1.5f;
  const Json t = OneTensor("F32", 1, kCols, Bytes(x), {"--eps", "0"});
  const double drift = t["drift"].get<double>(), cosine = t["norms"]["cosine_min"]["value"].get<double>();
  ASSERT_GT(drift, 0.5);
  EXPECT_TRUE(std::abs(std::acos(cosine) - std::asin(drift)) <= 0x1p-21) << cosine << " " << drift;
}

TEST(Stats, OutlierChannels) {
  constexpr std::int64_t kRows = 6, kCols = 40;
  std::vector<float> x(kRows * kCols);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t channel = i % kCols;
    x[i] = (i % 2 == 0 ? 1.0f : -1.0f) * (channel == 17   ? 16.0f
                                          : channel == 3  ? 7.0f
                                          : channel == 9  ? 5.0f
                                          : channel == 30 ? 0.0f
                                                          : 2.0f);
  }
  const Json channels = OneTensor("F32", kRows, kCols, Bytes(x), {"--outlier", "3"})["channels"];
  EXPECT_EQ(channels["median_rms"], 2.0);
  EXPECT_EQ(channels["outliers"], 2);
  EXPECT_EQ(channels["worst"][0], (Json{{"channel", 17}, {"rms", 16.0}, {"factor", 8.0}}));
  EXPECT_EQ(channels["worst"][1], (Json{{"channel", 3}, {"rms", 7.0}, {"factor", 3.5}}));
  EXPECT_EQ(channels["worst"][2]["channel"], 9);
  EXPECT_EQ(OneTensor("F32", kRows, kCols, Bytes(x))["channels"]["outliers"], 1);  // 6 without the option
  EXPECT_EQ(OneTensor("F32", kRows, kCols, Bytes(x), {"--outlier", "3.5"})["channels"]["outliers"],
            2);  // the bound belongs to it
}

TEST(Stats, WhatF16WouldLose) {
  const std::vector<float> x = {65504.0f, 65505.0f, -65520.0f, 1e6f,    0x1p-14f, -0x1.8p-15f, 0x1p-24f, 0x1.8p-25f,
                                0x1p-25f, -1e-30f,  1e-40f,    -1e-45f, 0.0f,     -0.0f,       1.0f,     -2.0f};
  const Json t = OneTensor("F32", 2, 8, Bytes(x));
  EXPECT_EQ(t["f16"], (Json{{"overflow", 3}, {"subnormal", 7}, {"to_zero", 4}}));
  EXPECT_EQ(t["subnormal"], 2);  // in f32
  EXPECT_EQ(t["zeros"], 2);
}

TEST(Stats, WhatACarelessKernelWouldLose) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {1e19f,  1e19f,  1e19f,  1e19f,    // 4e38 is beyond f32
                                1e19f,  1.0f,   1.0f,   1.0f,     // 1e38 is not
                                1e-30f, 2e-30f, 3e-30f, 4e-30f,   // vanishes
                                1e-20f, 1e-20f, 1e-20f, 1e-20f,   // 4e-40 is subnormal: most digits are gone
                                0.0f,   0.0f,   0.0f,   0.0f,     // nothing to lose
                                1e30f,  inf,    1.0f,   1.0f,     // not finite in itself
                                150.0f, 150.0f, 150.0f, 150.0f};  // 90000 is beyond f16
  const Json t = OneTensor("F32", 7, 4, Bytes(x));
  EXPECT_EQ(t["plain_sum"], (Json{{"f32_overflow_rows", 1}, {"f32_vanish_rows", 2}, {"f16_overflow_rows", 3}}));
  EXPECT_EQ(t["infinite"], 1);
  EXPECT_EQ(t["norms"]["rows"], 6);
  // The library scales such rows: the numbers here are not those of the careless kernel.
  EXPECT_EQ(t["row_rms_max"]["row"], 5);
  EXPECT_EQ(OneTensor("F64", 1, 2, Bytes(std::vector<double>{1e200, 1}))["plain_sum"]["f32_overflow_rows"], 1);
}

TEST(Stats, ValuesThatSquareOutOfF64) {
  const std::vector<double> x = {1e-200, 2e-200, -1e-200, 1e-200, 3e250, 3e250, -3e250, 3e250, 1, 1, 1, 1};
  const Json t = OneTensor("F64", 3, 4, Bytes(x));
  EXPECT_DOUBLE_EQ(t["rms"].get<double>(), 3e250 / std::sqrt(3.0));
  EXPECT_DOUBLE_EQ(t["mean"].get<double>(), 3e250 / 6);
  EXPECT_DOUBLE_EQ(t["row_rms_min"]["value"].get<double>(), std::sqrt(7.0 / 4) * 1e-200);
  EXPECT_DOUBLE_EQ(t["row_rms_max"]["value"].get<double>(), 3e250);
  EXPECT_EQ(t["f16"]["overflow"], 4);
  const Json small = OneTensor("F64", 2, 2, Bytes(std::vector<double>{0, 0, 3e-310, 4e-310}));
  EXPECT_NEAR(small["rms"].get<double>() / 2.5e-310, 1, 1e-9);  // subnormal numbers have few digits
  EXPECT_EQ(small["subnormal"], 2);
}

// The first piece of rows is summed before a row of the second asks for another scale.
TEST(Stats, LargeValuesInALaterPiece) {
  constexpr std::int64_t kRows = 3000, kCols = 257, kLarge = 2500;
  std::vector<double> x(kRows * kCols, 1.0);
  for (std::int64_t c = 0; c < kCols; ++c) x[static_cast<std::size_t>(kLarge * kCols + c)] = c == 7 ? 8e250 : 1e250;
  const Json t = OneTensor("F64", kRows, kCols, Bytes(x));
  const double squares = (64.0 + kCols - 1) / (kRows * kCols);
  EXPECT_NEAR(t["rms"].get<double>() / (1e250 * std::sqrt(squares)), 1, 1e-12);  // two sums of positive terms: far below
  EXPECT_NEAR(t["mean"].get<double>() / (1e250 * (8.0 + kCols - 1) / (kRows * kCols)), 1, 1e-12);
  EXPECT_EQ(t["row_rms_max"]["row"], kLarge);
  EXPECT_EQ(t["max_abs"], (Json{{"value", 8e250}, {"row", kLarge}, {"channel", 7}}));
  EXPECT_EQ(t["channels"]["outliers"], 1);
  EXPECT_NEAR(t["channels"]["worst"][0]["factor"].get<double>(), 8, 1e-12);
  EXPECT_EQ(t["plain_sum"]["f32_overflow_rows"], 1);
}

TEST(Stats, SixteenBitTypesSayTheSame) {
  std::vector<float> x;
  std::vector<std::uint16_t> bf16, f16;
  for (const float v : Values(24 * 50, 9)) {
    // Six digits fit both 16-bit types; the exponent of what remains fits f16.
    const float cut = std::bit_cast<float>(std::bit_cast<std::uint32_t>(v) & 0xfffe0000u);
    x.push_back(std::abs(cut) < 0x1p-14f ? 0.5f : cut);
    const auto bits = std::bit_cast<std::uint32_t>(x.back());
    bf16.push_back(static_cast<std::uint16_t>(bits >> 16));
    f16.push_back(static_cast<std::uint16_t>((bits >> 16 & 0x8000u) | (((bits >> 13) & 0x3ffffu) - (112u << 10)) % 0x8000u));
  }
  Json expected = OneTensor("F32", 24, 50, Bytes(x));
  expected.erase("dtype");
  for (const auto& [dtype, data] : {std::pair{"BF16", Bytes(bf16)}, std::pair{"F16", Bytes(f16)}}) {
    Json found = OneTensor(dtype, 24, 50, data);
    found.erase("dtype");
    EXPECT_EQ(found, expected) << dtype;
  }
}

TEST(Stats, HistogramsCountEveryValueOnce) {
  const std::vector<float> x = {1.0f, 1.4f, 1.5f, 2.0f, -2.8f, 0.0f, 0.75f, 3.0f};
  const Json h = OneTensor("F32", 2, 4, Bytes(x))["histogram"];
  const std::int64_t first = h["first_half_octave"];
  ASSERT_LE(first, -1);  // 0.75 lies from 2^-0.5 to 1
  const auto at = [&](int bin) { return h["before"][static_cast<std::size_t>(bin - first)].get<int>(); };
  EXPECT_EQ(at(-1), 1);
  EXPECT_EQ(at(0), 2);  // 1 and 1.4
  EXPECT_EQ(at(1), 1);  // 1.5
  EXPECT_EQ(at(2), 2);  // 2 and 2.8
  EXPECT_EQ(at(3), 1);  // 3
  for (const char* const kind : {"rms_norm", "layer_norm"}) {
    int total = 0;
    for (const auto& count : h[kind]) total += count.get<int>();
    EXPECT_LE(total, 8) << kind;
    EXPECT_GE(total, 7) << kind;  // zeros have no bin
  }
}

// Two pieces of rows, and many tasks in each.
TEST(Stats, ThreadsChangeNothing) {
  const Folder folder;
  constexpr std::int64_t kRows = 3001, kCols = 257;
  std::vector<float> x = Values(kRows * kCols, 10);
  x[12345] = std::numeric_limits<float>::quiet_NaN();
  WriteAll(folder / "in", Tensor("t", "F32", kRows, kCols, Bytes(x)));
  const Json expected = Stats(folder / "in", {"--threads", "1"});
  EXPECT_EQ(expected["tensors"][0]["nan"], 1);
  EXPECT_EQ(expected["tensors"][0]["norms"]["rows"], kRows - 1);
  for (const char* const threads : {"0", "2", "5"})
    EXPECT_EQ(Stats(folder / "in", {"--threads", threads}), expected) << threads;
}

}  // namespace
}  // namespace isonorm_test
