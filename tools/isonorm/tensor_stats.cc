#include "tensor_stats.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace isonorm_cli {
namespace {

double Bf16ToDouble(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

// Shifts the 15 bits of exponent and fraction into place, then multiplies by 2^112 to correct the bias: exact for subnormal
// numbers too. An exponent of all ones becomes 2^16 and more, which no finite f16 reaches.
double F16ToDouble(std::uint16_t bits) {
  const double magnitude = static_cast<double>(std::bit_cast<float>((std::uint32_t{bits} & 0x7fffu) << 13)) * 0x1p112;
  return magnitude >= 65536.0 ? std::numeric_limits<double>::quiet_NaN() : magnitude;  // the sign does not matter here
}

// Eight sums side by side, so that one addition need not wait for the one before.
template <class T, class ToDouble>
void AddValues(TensorStats& stats, std::span<const std::byte> bytes, ToDouble to_double) {
  constexpr std::size_t kSums = 8;
  std::array<double, kSums> sums{};
  std::array<std::int64_t, kSums> finite{};
  const std::size_t count = bytes.size() / sizeof(T);
  const auto add = [&](std::size_t i, std::size_t lane) {
    T raw;
    std::memcpy(&raw, bytes.data() + i * sizeof(T), sizeof raw);
    const double v = to_double(raw);
    const bool ok = std::abs(v) <= std::numeric_limits<double>::max();  // false for NaN
    sums[lane] += ok ? v * v : 0.0;
    finite[lane] += ok;
  };
  std::size_t i = 0;
  for (; i + kSums <= count; i += kSums) {
    for (std::size_t lane = 0; lane < kSums; ++lane) add(i + lane, lane);
  }
  for (; i < count; ++i) add(i, 0);
  std::int64_t total = 0;
  for (std::size_t lane = 0; lane < kSums; ++lane) {
    stats.sum_squares += sums[lane];
    total += finite[lane];
  }
  stats.finite += total;
  stats.non_finite += static_cast<std::int64_t>(count) - total;
}

}  // namespace

void TensorStats::Add(std::span<const std::byte> bytes, isonorm::dtype type) {
  switch (type) {
    case isonorm::dtype::f32: return AddValues<float>(*this, bytes, [](float v) { return static_cast<double>(v); });
    case isonorm::dtype::f64: return AddValues<double>(*this, bytes, [](double v) { return v; });
    case isonorm::dtype::bf16: return AddValues<std::uint16_t>(*this, bytes, Bf16ToDouble);
    case isonorm::dtype::f16: return AddValues<std::uint16_t>(*this, bytes, F16ToDouble);
    default: return;  // quantised values mean nothing without their scales: QuantizedStats
  }
}

double TensorStats::Rms() const {
  return finite > 0 ? std::sqrt(sum_squares / static_cast<double>(finite)) : std::numeric_limits<double>::quiet_NaN();
}

void Digest::Add(std::span<const std::byte> bytes) {
  std::uint64_t value = value_;
  for (const std::byte b : bytes) value = (value ^ std::to_integer<std::uint64_t>(b)) * 0x100000001b3u;
  value_ = value;
}

}  // namespace isonorm_cli
