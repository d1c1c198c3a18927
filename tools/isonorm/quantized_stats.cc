#include "quantized_stats.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace isonorm_cli {
namespace {

enum Kind : std::uint8_t { kOrdinary, kZero, kAtLimit, kNotFinite, kKinds };

// OCP 8-bit floating point: a sign, an exponent and a fraction of `bits`. Only e5m2 has infinities; in e4m3 all ones is NaN.
double Float8(unsigned byte, unsigned bits, int bias, bool infinities) {
  const unsigned magnitude = byte & 0x7f, exponent = magnitude >> bits, fraction = magnitude & ((1u << bits) - 1);
  if (infinities ? exponent == 0x7fu >> bits : magnitude == 0x7f) return std::numeric_limits<double>::quiet_NaN();
  const unsigned significand = exponent == 0 ? fraction : fraction | 1u << bits;
  return std::ldexp(significand, static_cast<int>(exponent == 0 ? 1 : exponent) - bias - static_cast<int>(bits));
}

// The sign does not matter here.
double Magnitude(unsigned byte, isonorm::dtype type, isonorm::dtype scale_type) {
  if (type == isonorm::dtype::e4m3) return Float8(byte, 3, 7, false);
  if (type == isonorm::dtype::e5m2) return Float8(byte, 2, 15, true);
  const double value = std::abs(static_cast<double>(static_cast<std::int8_t>(byte)));
  return scale_type == isonorm::dtype::e8m0 ? value / 64 : value;  // MXINT8 has six bits behind the point
}

}  // namespace

QuantizedCounter::QuantizedCounter(isonorm::dtype type, isonorm::dtype scale_type) : scale_type_(scale_type) {
  const double largest = Magnitude(type == isonorm::dtype::e4m3   ? 0x7eu
                                   : type == isonorm::dtype::e5m2 ? 0x7bu
                                                                  : 0x7fu,
                                   type, scale_type);
  for (unsigned byte = 0; byte < 256; ++byte) {
    const double value = Magnitude(byte, type, scale_type);
    squares_[byte] = std::isnan(value) ? 0 : value * value;
    kinds_[byte] = std::isnan(value) ? kNotFinite : value == 0 ? kZero : value >= largest ? kAtLimit : kOrdinary;
  }
}

double QuantizedCounter::Scale(std::span<const std::byte> scales, std::size_t index) const {
  if (scale_type_ == isonorm::dtype::e8m0) return std::ldexp(1.0, std::to_integer<int>(scales[index]) - 127);
  float scale = 0;
  std::memcpy(&scale, scales.data() + index * sizeof scale, sizeof scale);
  return static_cast<double>(scale);
}

void QuantizedCounter::Add(std::span<const std::byte> values, std::span<const std::byte> scales, std::int64_t cols,
                           TensorStats& dequantized, QuantizedStats& stats) const {
  std::array<std::int64_t, kKinds> counts{};
  const auto run = static_cast<std::size_t>(cols);
  for (std::size_t begin = 0, index = 0; begin < values.size(); begin += run, ++index) {
    const double scale = Scale(scales, index);
    double sum = 0;
    for (const std::byte value : values.subspan(begin, run)) {
      const auto byte = std::to_integer<std::size_t>(value);
      sum += squares_[byte];
      ++counts[kinds_[byte]];
    }
    dequantized.sum_squares += sum * scale * scale;
    stats.smallest_scale = std::fmin(stats.smallest_scale, scale);  // the other one where one is NaN
    stats.largest_scale = std::fmax(stats.largest_scale, scale);
  }
  stats.zeros += counts[kZero];
  stats.at_limit += counts[kAtLimit];
  dequantized.non_finite += counts[kNotFinite];
  dequantized.finite += counts[kOrdinary] + counts[kZero] + counts[kAtLimit];
}

}  // namespace isonorm_cli
