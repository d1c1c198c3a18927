// Stored values as f64, which holds each of them exactly.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include <isonorm/isonorm.hpp>

namespace isonorm_cli {

struct F64Values {
  using Raw = double;
  static constexpr double kMinNormal = 0x1p-1022;
  static double ToDouble(Raw v) { return v; }
};

struct F32Values {
  using Raw = float;
  static constexpr double kMinNormal = 0x1p-126;
  static double ToDouble(Raw v) { return static_cast<double>(v); }
};

struct Bf16Values {
  using Raw = std::uint16_t;
  static constexpr double kMinNormal = 0x1p-126;
  static double ToDouble(Raw bits) { return static_cast<double>(std::bit_cast<float>(std::uint32_t{bits} << 16)); }
};

struct F16Values {
  using Raw = std::uint16_t;
  static constexpr double kMinNormal = 0x1p-14;
  // Shifts the 15 bits of exponent and fraction into place, then multiplies by 2^112 to correct the bias: exact for subnormal
  // numbers too. An exponent of all ones becomes 2^16 and more, which no finite f16 reaches.
  static double ToDouble(Raw bits) {
    const double magnitude = static_cast<double>(std::bit_cast<float>((std::uint32_t{bits} & 0x7fffu) << 13)) * 0x1p112;
    if (magnitude > 65536.0) return std::numeric_limits<double>::quiet_NaN();
    const double value = magnitude == 65536.0 ? std::numeric_limits<double>::infinity() : magnitude;
    return (bits & 0x8000u) != 0 ? -value : value;
  }
};

// Calls use.operator()<...Values>() for the type.
template <class Use>
auto WithValues(isonorm::dtype type, Use use) {
  switch (type) {
    case isonorm::dtype::f64: return use.template operator()<F64Values>();
    case isonorm::dtype::bf16: return use.template operator()<Bf16Values>();
    case isonorm::dtype::f16: return use.template operator()<F16Values>();
    default: break;
  }
  return use.template operator()<F32Values>();
}

}  // namespace isonorm_cli
