// Quantisation written apart from the library: formats as lists of their 256 values, to which a number is compared.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "problem.h"

namespace core_test {

// What a byte of the format stands for; NaN where it is none or infinite.
inline double ValueOf(Type type, int code) {
  if (type == Type::kI8) return code < 128 ? code : code - 256;
  const int mantissa_bits = type == Type::kE4M3 ? 3 : 2, bias = type == Type::kE4M3 ? 7 : 15;
  const int exponent = (code & 0x7F) >> mantissa_bits, mantissa = code & ((1 << mantissa_bits) - 1);
  const double sign = code & 0x80 ? -1 : 1;
  if (type == Type::kE4M3 && (code & 0x7F) == 0x7F) return std::numeric_limits<double>::quiet_NaN();
  if (type == Type::kE5M2 && exponent == 31) return std::numeric_limits<double>::quiet_NaN();
  const int hidden = exponent == 0 ? 0 : 1 << mantissa_bits;
  return sign * std::ldexp(hidden + mantissa, std::max(exponent, 1) - bias - mantissa_bits);
}

class QuantizeOracle {
 public:
  explicit QuantizeOracle(Type type) : type_(type) {
    for (int code = 0; code < 128; ++code) {
      const double value = ValueOf(type, code);
      if (value == value) values_.push_back(value);  // rising
    }
  }

  double largest() const { return values_.back(); }

  uint8_t Nearest(float v) const {
    if (v != v) return type_ == Type::kI8 ? 0 : 0x7F;
    const double size = std::fabs(static_cast<double>(v));
    const auto above = static_cast<size_t>(std::lower_bound(values_.begin(), values_.end(), size) - values_.begin());
    size_t code = std::min(above, values_.size() - 1);
    if (code > 0 && above < values_.size()) {
      const double up = values_[code] - size, down = size - values_[code - 1];
      if (down < up || (down == up && (code - 1) % 2 == 0)) --code;
    }
    if (type_ == Type::kI8) return static_cast<uint8_t>(std::signbit(v) ? 256 - code : code);
    return static_cast<uint8_t>(code | (std::signbit(v) ? 0x80u : 0u));
  }

  // The scale of a block whose largest finite magnitude is amax; powers of two as their exponent.
  float ScaleOf(const isonorm_quantization& q, float amax) const {
    const float bounded = q.scale_ub == 0 ? amax : std::min(amax, static_cast<float>(q.scale_ub));
    const float least = q.min_scale == 0 ? 0x1p-126f : static_cast<float>(q.min_scale);
    return std::max(bounded / static_cast<float>(largest()), least);
  }
  int ExponentOf(const isonorm_quantization& q, float amax) const {
    const float bounded = q.scale_ub == 0 ? amax : std::min(amax, static_cast<float>(q.scale_ub));
    const int room = type_ == Type::kE4M3 ? 8 : type_ == Type::kE5M2 ? 15 : 0;
    int least = type_ == Type::kI8 ? -120 : -127;
    if (q.min_scale != 0) least = std::max(least, static_cast<int>(std::log2(q.min_scale)));
    return bounded == 0 ? least : std::max(static_cast<int>(std::floor(std::log2(static_cast<double>(bounded)))) - room, least);
  }

 private:
  Type type_;
  std::vector<double> values_;  // of codes 0, 1, 2, ...
};

}  // namespace core_test
