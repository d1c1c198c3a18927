// Storage types and the correctly rounded scalar primitives of docs/numerics.md §2 and §5. The vector code of src/cpu has
// the same functions on vectors; the reference uses these.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "numbers/device.h"
#include "numbers/memory.h"

namespace isonorm {

// What rows are made of beside f64: a name, its value of Type, and its storage. Whoever has a case for each takes them from
// here.
#define ISONORM_NARROW_TYPES(CASE) CASE(f32, kF32, float) CASE(bf16, kBF16, Bf16) CASE(f16, kF16, F16)

// Behind f64: quantised values, powers of two as their scales, and positions in a table.
#define ISONORM_CASE(name, kind, storage) kind,
enum class Type : uint8_t { kNone = 0, ISONORM_NARROW_TYPES(ISONORM_CASE) kF64, kI8, kE4M3, kE5M2, kE8M0, kI32, kI64 };
#undef ISONORM_CASE

constexpr bool IsFloat(Type type) { return type >= Type::kF32 && type <= Type::kF64; }  // what rows are made of
constexpr bool IsByte(Type type) { return type >= Type::kI8 && type <= Type::kE8M0; }

constexpr int Log2SizeOf(Type type) {
  if (type == Type::kF64 || type == Type::kI64) return 3;
  return type == Type::kF32 || type == Type::kI32 ? 2 : IsByte(type) ? 0 : 1;
}

constexpr size_t SizeOf(Type type) { return type == Type::kNone ? 0 : size_t{1} << Log2SizeOf(type); }
constexpr bool Is16Bit(Type type) { return IsFloat(type) && Log2SizeOf(type) == 1; }

// 16-bit storage, named so that overloads tell them apart.
struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

constexpr uint32_t kNaNBitsF32 = 0x7FC00000u;
constexpr uint16_t kNaNBitsBF16 = 0x7FC0u;
constexpr uint16_t kNaNBitsF16 = 0x7E00u;

template <class F>
ISONORM_HD inline F CanonicalNaN() {
  return std::numeric_limits<F>::quiet_NaN();  // 7fc00000 and 7ff8000000000000
}

template <class F>
ISONORM_HD inline F CanonicalOrSame(F v) {
  return v != v ? CanonicalNaN<F>() : v;
}

ISONORM_HD inline float Widen(Bf16 v) { return std::bit_cast<float>(uint32_t{v.bits} << 16); }

// Exact: shifted into place the 15 magnitude bits are the value times 2^-112, subnormals included.
ISONORM_HD inline float Widen(F16 v) {
  const uint32_t magnitude = v.bits & 0x7FFFu, sign = uint32_t{v.bits & 0x8000u} << 16;
  const bool special = magnitude >= 0x7C00u;
  const float value = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  const uint32_t bits = special ? (magnitude << 13) | 0x7F800000u : std::bit_cast<uint32_t>(value);
  return std::bit_cast<float>(bits | sign);
}

ISONORM_HD inline Bf16 NarrowToBf16(float v) {
  const uint32_t bits = std::bit_cast<uint32_t>(v);
  if (v != v) return {kNaNBitsBF16};
  return {static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1)) >> 16)};
}

ISONORM_HD inline F16 NarrowToF16(float v) {
  const uint32_t bits = std::bit_cast<uint32_t>(v), magnitude = bits & 0x7FFFFFFFu, sign = (bits >> 16) & 0x8000u;
  if (v != v) return {kNaNBitsF16};
  uint32_t out;
  if (magnitude >= 0x47800000u) {  // 65536 and above
    out = 0x7C00u;
  } else if (magnitude < 0x38800000u) {  // below 2^-14: 0.5 has the spacing of f16's subnormals, so the addition rounds
    out = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<uint32_t>(0.5f);
  } else {
    out = (magnitude - (112u << 23) + 0xFFFu + ((magnitude >> 13) & 1)) >> 13;
  }
  return {static_cast<uint16_t>(out | sign)};
}

ISONORM_HD inline float Widen(float v) { return v; }

// One rounding to the storage; NaN becomes the canonical one.
template <class Storage>
ISONORM_HD inline Storage Narrow(float v) {
  if constexpr (std::is_same_v<Storage, Bf16>) {
    return NarrowToBf16(v);
  } else if constexpr (std::is_same_v<Storage, F16>) {
    return NarrowToF16(v);
  } else {
    return CanonicalOrSame(v);
  }
}

// Element i of storage `data` as the compute type F.
template <class F>
ISONORM_HD_OUTLINE inline F LoadScalar(const void* data, Type type, int64_t i) {
  switch (type) {
#define ISONORM_CASE(name, kind, storage) \
  case Type::kind: return static_cast<F>(Widen(LoadAt<storage>(data, i)));
    ISONORM_NARROW_TYPES(ISONORM_CASE)
#undef ISONORM_CASE
    case Type::kF64: return static_cast<F>(LoadAt<double>(data, i));
    default: break;
  }
  return F(1);
}

// Rounds once and stores; every NaN becomes the canonical one.
template <class F>
ISONORM_HD_OUTLINE inline void StoreScalar(F value, void* data, Type type, int64_t i) {
  switch (type) {
#define ISONORM_CASE(name, kind, storage) \
  case Type::kind: return StoreAt(Narrow<storage>(static_cast<float>(value)), data, i);
    ISONORM_NARROW_TYPES(ISONORM_CASE)
#undef ISONORM_CASE
    case Type::kF64: StoreAt(CanonicalOrSame(static_cast<double>(value)), data, i); break;
    default: break;
  }
}

// The value as it would come back from storage.
template <class F>
ISONORM_HD_OUTLINE inline F RoundTo(F value, Type type) {
  switch (type) {
#define ISONORM_CASE(name, kind, storage) \
  case Type::kind: return static_cast<F>(Widen(Narrow<storage>(static_cast<float>(value))));
    ISONORM_NARROW_TYPES(ISONORM_CASE)
#undef ISONORM_CASE
    default: return value;
  }
}

ISONORM_HD inline float Mean(float sum, int64_t n) {
  return static_cast<float>(static_cast<double>(sum) / static_cast<double>(n));
}
ISONORM_HD inline double Mean(double sum, int64_t n) { return sum / static_cast<double>(n); }

// Correctly rounded for f32 (checked for every mantissa); two roundings, as defined, for f64.
ISONORM_HD inline float InvSqrt(float v) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(v))); }
ISONORM_HD inline double InvSqrt(double v) { return 1.0 / std::sqrt(v); }

// The same number for 0 < v < infinity, a quarter sooner: the root and the quotient do not wait for each other. The error of
// three roundings in f64 is still too small to reach another f32 (checked for every mantissa too).
ISONORM_HD inline float SoonerInvSqrt(float v) {
  const auto wide = static_cast<double>(v);
  return static_cast<float>(std::sqrt(wide) * (1.0 / wide));
}

}  // namespace isonorm
