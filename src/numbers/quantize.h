// Quantised output: 8-bit storage and the scales that go with it, as docs/numerics.md §5 defines them. The vector code has the
// same conversions on vectors; scales are scalar everywhere.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "numbers/device.h"
#include "numbers/memory.h"
#include "numbers/rounding.h"

namespace isonorm {

// How y is quantised; y's type says to what. All is 0 where it is not.
struct Quantizer {
  bool on;
  bool dynamic;        // scales are computed
  bool power_of_two;   // as E8M0
  bool per_row;        // one dynamic scale for all columns
  Type rounded_to;     // of 16 bits
  int64_t scale_cols;  // columns of one dynamic scale
  const void* scale;   // static: where it lies, in f32
  float multiplier;    // static: 1 / scale, found out by who runs the call
  float min_scale;     // least scale; a power of two where scales are
  float scale_ub;      // amax is cut to it; infinity: it is not
};

// What a format of 8 bits has below and at the top of its range.
struct QuantFormat {
  float largest;       // finite magnitude
  float least_normal;  // 0: an integer
  float addend;        // has the spacing of the subnormal numbers, so that adding it rounds to them
  uint32_t rebias;     // from the exponent of f32 to this one, in the place of f32's
  int dropped_bits;    // of f32's mantissa
  int top_exponent;    // of `largest`; a power-of-two scale leaves that much room (OCP MX: emax of the element)
};

// By value: device code takes no address of a table. OCP MXINT8 has six bits behind the point: a number of 1 is stored as 64.
ISONORM_HD constexpr QuantFormat QuantFormatOf(Type type) {
  if (type == Type::kE4M3) return {448.0f, 0x1p-6f, 0x1p14f, 120u << 23, 20, 8};
  if (type == Type::kE5M2) return {57344.0f, 0x1p-14f, 0x1p7f, 112u << 23, 21, 15};
  return {127.0f, 0, 0, 0, 0, 0};
}

constexpr double kLeastScale = 0x1p-126, kMostScale = 0x1p126;
constexpr bool IsScale(double scale) { return scale >= kLeastScale && scale <= kMostScale; }

// What values are multiplied by for a static scale. One that is none makes NaN of all of them.
inline float StaticMultiplier(float scale) {
  return IsScale(static_cast<double>(scale)) ? 1.0f / scale : CanonicalNaN<float>();
}

constexpr uint8_t kNaNBitsFloat8 = 0x7F;  // of both formats

// One rounding, saturating, infinities too.
ISONORM_HD inline uint8_t NarrowToFloat8(float v, const QuantFormat& format) {
  if (v != v) return kNaNBitsFloat8;
  const uint32_t sign = std::bit_cast<uint32_t>(v) >> 24 & 0x80u;
  const float magnitude = std::min(std::fabs(v), format.largest);
  uint32_t out;
  if (magnitude < format.least_normal) {
    out = std::bit_cast<uint32_t>(magnitude + format.addend) - std::bit_cast<uint32_t>(format.addend);
  } else {
    const uint32_t bits = std::bit_cast<uint32_t>(magnitude), odd = bits >> format.dropped_bits & 1;
    out = (bits - format.rebias + (1u << (format.dropped_bits - 1)) - 1 + odd) >> format.dropped_bits;
  }
  return static_cast<uint8_t>(out | sign);
}

// To nearest even, saturating to +-127; NaN gives 0. 1.5 * 2^23 leaves the integer in the low bits.
ISONORM_HD inline uint8_t NarrowToI8(float v) {
  if (v != v) return 0;
  const float cut = std::clamp(v, -127.0f, 127.0f);
  return static_cast<uint8_t>(std::bit_cast<uint32_t>(cut + 0x1.8p23f));
}

ISONORM_HD_OUTLINE inline uint8_t Quantize(float v, Type type) {
  return type == Type::kI8 ? NarrowToI8(v) : NarrowToFloat8(v, QuantFormatOf(type));
}

// The scale of a row, or of a group of its columns, and what its values are multiplied by.
struct BlockScale {
  float scale;       // as stored in f32
  uint8_t power;     // as stored in E8M0
  float multiplier;  // 1 / scale; for MXINT8 64 / scale
};

// amax: the largest finite magnitude of the values, 0 if there is none.
ISONORM_HD inline BlockScale ScaleOf(const Quantizer& quantizer, Type type, float amax) {
  const QuantFormat format = QuantFormatOf(type);
  amax = std::min(amax, quantizer.scale_ub);
  if (!quantizer.power_of_two) {
    const float scale = std::max(amax / format.largest, quantizer.min_scale);
    return {scale, 0, 1.0f / scale};
  }
  const bool integer = type == Type::kI8;
  const int least = std::max(integer ? -120 : -127, std::ilogb(quantizer.min_scale));
  const int exponent = amax > 0 ? std::max(std::ilogb(amax) - format.top_exponent, least) : least;
  return {std::ldexp(1.0f, exponent), static_cast<uint8_t>(exponent + 127), std::ldexp(1.0f, (integer ? 6 : 0) - exponent)};
}

// Scale `index` of a row.
ISONORM_HD inline void StoreScale(const Quantizer& quantizer, const BlockScale& scale, char* scales, int64_t index) {
  if (quantizer.power_of_two) {
    StoreAt(scale.power, scales, index);
  } else {
    StoreAt(scale.scale, scales, index);
  }
}

}  // namespace isonorm
