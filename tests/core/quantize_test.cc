// Quantised outputs against a quantisation written apart, applied to what the same call gives in f32 or in 16 bits: the fused
// result is that of the norm, quantised.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>

#include "quantize_oracle.h"
#include "run.h"

namespace core_test {
namespace {

class QuantizeTest : public testing::TestWithParam<std::string> {};

template <class T>
T At(const Bytes& bytes, size_t i) {
  T value;
  std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
  return value;
}

// A row of ones without eps has rstd 1 exactly, so that what is quantised is the weight.
Bytes QuantizeValues(Type type, const std::vector<float>& values, float scale = 1) {
  Problem p = Simple(Type::kF32, 1, static_cast<int64_t>(values.size()));
  p.eps = 0;
  p.type[kDy] = Type::kNone;
  p.type[kY] = type;
  p.type[kScale] = Type::kF32;
  p.quantization.struct_size = sizeof(p.quantization);
  p.quantization.scale_kind = ISONORM_SCALE_STATIC;
  Values inputs;
  const std::vector<float> ones(values.size(), 1.0f);
  const auto bytes = [](const std::vector<float>& from) {
    Bytes to(from.size() * sizeof(float));
    std::memcpy(to.data(), from.data(), to.size());
    return to;
  };
  inputs[kX] = bytes(ones);
  inputs[kWeight] = bytes(values);
  inputs[kScale] = bytes({scale});
  return Compute(p, inputs)[kY];
}

constexpr std::array<Type, 3> kFormats = {Type::kI8, Type::kE4M3, Type::kE5M2};

TEST_P(QuantizeTest, EveryValueItsNeighboursAndTheMiddles) {
  const ScopedTarget target(GetParam());
  for (const Type type : kFormats) {
    std::vector<float> values = {HUGE_VALF, -HUGE_VALF, NAN, -NAN, 3e38f, -3e38f, 464.0f, 465.0f, 61440.0f, 65536.0f, 127.5f};
    for (int code = 0; code < 256; ++code) {
      const double a = ValueOf(type, code), b = ValueOf(type, (code + 1) % 256);
      for (const double v : {a, (a + b) / 2}) {
        const float f = static_cast<float>(v);
        values.insert(values.end(), {f, std::nextafter(f, HUGE_VALF), std::nextafter(f, -HUGE_VALF)});
      }
    }
    const Bytes got = QuantizeValues(type, values);
    const QuantizeOracle oracle(type);
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(got[i], oracle.Nearest(values[i])) << isonorm_cli::NameOf(type) << " of " << values[i];
    }
  }
}

TEST_P(QuantizeTest, BitPatternsAllOverF32) {
  const ScopedTarget target(GetParam());
  const uint64_t step = GetParam() == "reference" || GetParam() == "SCALAR" ? 60013 : 6007;  // primes
  for (const Type type : kFormats) {
    const QuantizeOracle oracle(type);
    std::vector<float> values;
    for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += step) {
      values.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
    }
    const Bytes got = QuantizeValues(type, values);
    ASSERT_EQ(got.size(), values.size());
    for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(got[i], oracle.Nearest(values[i])) << values[i];
  }
}

// By 1 / scale, rounded, and not by a division.
TEST_P(QuantizeTest, StaticScales) {
  const ScopedTarget target(GetParam());
  std::vector<float> values;
  for (int i = -1000; i <= 1000; ++i) values.push_back(static_cast<float>(i) * 0.37f);
  for (const float scale : {0x1p-126f, 0x1p126f, 0.1f, 3.0f, 0.7f, 1e-20f}) {
    for (const Type type : kFormats) {
      const QuantizeOracle oracle(type);
      const Bytes got = QuantizeValues(type, values, scale);
      const float by = 1.0f / scale;
      for (size_t i = 0; i < values.size(); ++i)
        ASSERT_EQ(got[i], oracle.Nearest(values[i] * by)) << values[i] << " / " << scale;
    }
  }
}

struct Judged {
  int64_t rows = 0, blocks = 0;
};

// `y`: what the norm gives without quantisation, as f32.
void Judge(const Problem& p, const std::vector<float>& y, const Values& got, Judged* judged) {
  const isonorm_quantization& q = p.quantization;
  const QuantizeOracle oracle(p.type[kY]);
  const bool power = q.scale_kind == ISONORM_SCALE_POWER_OF_TWO;
  const int64_t block = q.group_cols == 0 ? p.cols : q.group_cols;
  for (int64_t first = 0; first < p.rows * p.cols; first += block) {
    float amax = 0;
    for (int64_t i = first; i < first + block; ++i) {
      const float v = std::fabs(y[static_cast<size_t>(i)]);
      if (v <= std::numeric_limits<float>::max()) amax = std::max(amax, v);
    }
    double by = 0;  // exact where it is a power of two
    const auto index = static_cast<size_t>(first / block);
    if (power) {
      const int exponent = oracle.ExponentOf(q, amax);
      ASSERT_EQ(At<uint8_t>(got[kScale], index), exponent + 127) << ToString(p);
      by = std::ldexp(p.type[kY] == Type::kI8 ? 64 : 1, -exponent);
    } else {
      const float scale = oracle.ScaleOf(q, amax);
      ASSERT_EQ(At<float>(got[kScale], index), scale) << ToString(p);
      ASSERT_TRUE(std::isfinite(scale) && scale >= 0x1p-126f);
      by = static_cast<double>(1.0f / scale);
    }
    for (int64_t i = first; i < first + block; ++i) {
      const float v = y[static_cast<size_t>(i)];
      const auto scaled = static_cast<float>(static_cast<double>(v) * by);  // the product has 48 bits: rounded once
      ASSERT_EQ(got[kY][static_cast<size_t>(i)], oracle.Nearest(scaled))
          << "element " << i << " from " << v << ": " << ToString(p);
    }
    ++judged->blocks;
  }
  judged->rows += p.rows;
}

TEST_P(QuantizeTest, TheFusedResultIsThatOfTheNormQuantised) {
  const ScopedTarget target(GetParam());
  Judged judged;
  uint64_t seed = 1;
  for (const int64_t cols : {1, 31, 32, 64, 96, 127, 128, 257, 384, 513, 640, 1024, 2880, 4096}) {
    for (int turn = 0; turn < 24; ++turn, ++seed) {
      Problem p = Random(seed, 5, cols);
      if (p.compute() == Type::kF64) continue;
      Quantize(seed, &p);
      if (p.has_static_scale()) continue;
      Values inputs = MakeInputs(p);
      const Problem forward = ForwardOf(p);
      Problem whole = forward;
      whole.quantization = {};
      whole.type[kScale] = Type::kNone;
      const uint8_t code = p.quantization.rounded_to.code, bits = p.quantization.rounded_to.bits;
      whole.type[kY] = bits == 0 ? Type::kF32 : code == ISONORM_CODE_BFLOAT ? Type::kBf16 : Type::kF16;
      const Bytes stored = Compute(whole, inputs)[kY];
      std::vector<float> y(static_cast<size_t>(p.rows * p.cols));
      for (size_t i = 0; i < y.size(); ++i) {
        if (whole.type[kY] == Type::kF32) y[i] = At<float>(stored, i);
        if (whole.type[kY] == Type::kBf16) y[i] = std::bit_cast<float>(uint32_t{At<uint16_t>(stored, i)} << 16);
        if (whole.type[kY] == Type::kF16) {
          const uint16_t half = At<uint16_t>(stored, i);
          const int exponent = half >> 10 & 31, mantissa = half & 1023;
          const double size = exponent == 31
                                  ? (mantissa != 0 ? NAN : HUGE_VAL)
                                  : std::ldexp(exponent == 0 ? mantissa : 1024 + mantissa, std::max(exponent, 1) - 25);
          y[i] = static_cast<float>(half & 0x8000 ? -size : size);
        }
      }
      Judge(forward, y, Compute(forward, inputs), &judged);
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_GT(judged.rows, 500);
  EXPECT_GT(judged.blocks, 3000);
}

TEST_P(QuantizeTest, RowsOfZerosAndOfSubnormalsHaveFiniteScales) {
  const ScopedTarget target(GetParam());
  for (const Type type : kFormats) {
    for (const int32_t kind : {ISONORM_SCALE_DYNAMIC, ISONORM_SCALE_POWER_OF_TWO}) {
      Problem p = Simple(Type::kF32, 3, 64);
      p.type[kDy] = p.type[kWeight] = Type::kNone;
      p.eps = 1e30;  // so large that rstd takes the rows below to subnormal numbers, zeros and infinities among them
      p.type[kY] = type;
      p.quantization.struct_size = sizeof(p.quantization);
      p.quantization.scale_kind = kind;
      p.type[kScale] = kind == ISONORM_SCALE_DYNAMIC ? Type::kF32 : Type::kE8M0;
      Values inputs;
      inputs[kX].resize(3 * 64 * sizeof(float));
      for (size_t i = 0; i < 64; ++i) {
        const std::array<float, 3> column = {0.0f, static_cast<float>(i) * 1e-26f, i == 5 ? HUGE_VALF : 0.0f};
        for (size_t row = 0; row < 3; ++row) std::memcpy(inputs[kX].data() + (row * 64 + i) * 4, &column[row], 4);
      }
      const Values got = Compute(p, inputs);
      for (size_t row = 0; row < 3; ++row) {
        if (kind == ISONORM_SCALE_DYNAMIC) {
          EXPECT_EQ(At<float>(got[kScale], row), 0x1p-126f) << row;
        } else {
          EXPECT_EQ(got[kScale][row], type == Type::kI8 ? 7 : 0) << row;
        }
      }
      for (size_t i = 0; i < 64; ++i) EXPECT_EQ(got[kY][i], 0) << i;
      // 1e-26 * 63 / sqrt(1e30) is 6.3e-40; over 2^-126 it is 0.05.
      EXPECT_EQ(got[kY][2 * 64 + 5], type == Type::kI8 ? 0 : 0x7F) << "infinity times 0";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Target, QuantizeTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
