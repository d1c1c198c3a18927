// The storage types as plain arithmetic, written apart from the library: rounding, ulp and bytes of f32, bf16, f16 and f64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "isonorm/isonorm.h"

namespace isonorm_test {

enum class Type { kF32, kBf16, kF16, kF64 };

struct Format {
  const char* name;
  int precision;     // bits of the significand, the hidden one included
  int min_exponent;  // of the smallest normal number
  int max_exponent;  // of the largest finite number
  size_t bytes;
};

inline const Format& FormatOf(Type type) {
  static const Format formats[] = {
      {"f32", 24, -126, 127, 4}, {"bf16", 8, -126, 127, 2}, {"f16", 11, -14, 15, 2}, {"f64", 53, -1022, 1023, 8}};
  return formats[static_cast<int>(type)];
}

inline isonorm_dtype DtypeOf(Type type) {
  if (type == Type::kBf16) return ISONORM_BF16;
  return type == Type::kF32 ? ISONORM_F32 : type == Type::kF16 ? ISONORM_F16 : ISONORM_F64;
}

// The distance between neighbouring numbers of the type around |value|; below the normal numbers it stays the same.
inline long double Ulp(Type type, long double value) {
  const Format& format = FormatOf(type);
  const long double size = std::fabs(value);
  int exponent = format.min_exponent;
  if (size > 0 && std::isfinite(size)) exponent = std::max(exponent, std::ilogb(size));
  return std::ldexp(1.0L, std::min(exponent, format.max_exponent) - (format.precision - 1));
}

// To nearest, ties to even, with subnormals and overflow to infinity.
inline long double RoundTo(Type type, long double value) {
  if (!std::isfinite(value) || value == 0) return value;
  const long double quantum = Ulp(type, value);
  const long double rounded = std::rint(value / quantum) * quantum;
  if (std::fabs(rounded) < std::ldexp(1.0L, FormatOf(type).max_exponent + 1)) return rounded;
  return std::copysign(std::numeric_limits<long double>::infinity(), value);
}

inline uint16_t F16Bits(long double value) {  // of a value that RoundTo made
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const long double size = std::fabs(value);
  if (std::isnan(value)) return 0x7e00;
  if (std::isinf(value)) return sign | 0x7c00;
  if (size < 0x1p-14L) return static_cast<uint16_t>(sign | static_cast<int>(size * 0x1p24L));
  const int exponent = std::ilogb(size);
  const int fraction = static_cast<int>((std::ldexp(size, -exponent) - 1) * 1024);
  return static_cast<uint16_t>(sign | ((exponent + 15) << 10) | fraction);
}

inline long double F16Value(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const long double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) return fraction != 0 ? std::numeric_limits<long double>::quiet_NaN() : sign * HUGE_VALL;
  return sign * (exponent == 0 ? std::ldexp(static_cast<long double>(fraction), -24)
                               : std::ldexp(static_cast<long double>(1024 + fraction), exponent - 25));
}

// Rounds and stores; every NaN is stored as the canonical one.
inline void Put(Type type, long double value, void* to) {
  const long double rounded = std::isnan(value) ? std::numeric_limits<long double>::quiet_NaN() : RoundTo(type, value);
  if (type == Type::kF64) {
    const double stored = static_cast<double>(rounded);
    std::memcpy(to, &stored, sizeof(stored));
  } else if (type == Type::kF16) {
    const uint16_t stored = F16Bits(rounded);
    std::memcpy(to, &stored, sizeof(stored));
  } else {
    const float narrow = static_cast<float>(rounded);
    uint32_t stored;
    std::memcpy(&stored, &narrow, sizeof(stored));
    const uint16_t upper = static_cast<uint16_t>(stored >> 16);
    std::memcpy(to, type == Type::kF32 ? static_cast<const void*>(&stored) : &upper, FormatOf(type).bytes);
  }
}

inline long double Get(Type type, const void* from) {
  if (type == Type::kF64) {
    double value;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
  uint32_t bits = 0;
  uint16_t half = 0;
  if (type == Type::kF32) {
    std::memcpy(&bits, from, sizeof(bits));
  } else {
    std::memcpy(&half, from, sizeof(half));
    if (type == Type::kF16) return F16Value(half);
    bits = static_cast<uint32_t>(half) << 16;
  }
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace isonorm_test
