// Quantised output of a chunk: the conversions of quantize.h on vectors, and the largest magnitude that a scale is made of.
#if defined(ISONORM_CPU_GENERAL_QUANTIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_GENERAL_QUANTIZE_INL_H_
#undef ISONORM_CPU_GENERAL_QUANTIZE_INL_H_
#else
#define ISONORM_CPU_GENERAL_QUANTIZE_INL_H_
#endif

#include "cpu/general/chunk-inl.h"
#include "numbers/quantize.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

// The byte of each value in the lowest bits of its lane. kNans: whether a value can be NaN.
template <Nans kNans, class D>
HWY_INLINE V<hn::RebindToUnsigned<D>> QuantizeToI8(D d, V<D> v) {
  const hn::RebindToUnsigned<D> du;
  if constexpr (kNans == Nans::kPossible) v = hn::IfThenElseZero(hn::Eq(v, v), v);
  const auto cut = hn::Min(hn::Max(v, hn::Set(d, -127.0f)), hn::Set(d, 127.0f));
  return hn::BitCast(du, hn::Add(cut, hn::Set(d, 0x1.8p23f)));
}

// Adding a power of two that is so much above the value rounds it to as many bits as the format keeps; below the least normal
// number the power stays the same. The sum is the power and those bits, as an integer.
template <Nans kNans, class D>
HWY_INLINE V<hn::RebindToUnsigned<D>> QuantizeToFloat8(D d, V<D> v, const QuantFormat& format) {
  const hn::RebindToUnsigned<D> du;
  const hn::RebindToSigned<D> di;
  const auto number = kNans == Nans::kPossible ? hn::IfThenElseZero(hn::Eq(v, v), v) : v;
  const auto magnitude = hn::Min(hn::Abs(number), hn::Set(d, format.largest));
  const int dropped = format.dropped_bits, kept = 23 - dropped;
  const auto exponent = hn::And(hn::BitCast(di, magnitude), hn::Set(di, 0x7F800000));
  const auto least = hn::Set(di, static_cast<int32_t>(format.rebias + (1u << 23)));
  const auto power = hn::Add(hn::Max(exponent, least), hn::Set(di, dropped << 23));
  const auto bits = hn::Sub(hn::BitCast(di, hn::Add(magnitude, hn::BitCast(d, power))), power);
  // One of the two shifts is taken by all lanes alike. The bits of a normal number have its leading 1.
  const auto in_place = dropped == 20 ? hn::ShiftRight<20>(power) : hn::ShiftRight<21>(power);
  const int32_t rest = (static_cast<int32_t>(format.rebias >> 23) + dropped + 1) << kept;
  const auto out = hn::BitCast(du, hn::Add(bits, hn::Sub(in_place, hn::Set(di, rest))));
  const auto code = hn::OrAnd(out, hn::ShiftRight<24>(hn::BitCast(du, v)), hn::Set(du, 0x80u));
  if constexpr (kNans == Nans::kNone) return code;
  const auto nan = hn::BitCast(d, hn::Set(du, uint32_t{kNaNBitsFloat8}));
  return hn::BitCast(du, hn::IfThenElse(hn::Eq(v, v), hn::BitCast(d, code), nan));
}

template <Nans kNans, class D>
HWY_INLINE V<hn::RebindToUnsigned<D>> QuantizeTo(Type type, D d, V<D> v) {
  return type == Type::kI8 ? QuantizeToI8<kNans>(d, v) : QuantizeToFloat8<kNans>(d, v, QuantFormatOf(type));
}

// Values [from, from + n) of the chunk times the multiplier to bytes at `out`.
HWY_INLINE void QuantizeChunk(const Chunk<float>& chunk, size_t from, size_t n, Type type, float multiplier, uint8_t* out) {
  const Tag<float> d;
  const hn::Rebind<uint8_t, Tag<float>> d8;
  const auto by = hn::Set(d, multiplier);
  const size_t width = hn::Lanes(d);
  for (size_t i = 0; i < n; i += width) {
    const auto codes = QuantizeTo<Nans::kPossible>(type, d, hn::Mul(hn::LoadU(d, chunk.v + from + i), by));
    const auto bytes = hn::TruncateTo(d8, codes);
    if (n - i >= width) {
      hn::StoreU(bytes, d8, out + i);
    } else {
      StorePart(bytes, d8, out + i, n - i);
    }
  }
}

// The largest finite magnitude among n values; 0 if there is none.
HWY_INLINE float FiniteAmax(const float* values, size_t n) {
  const Tag<float> d;
  const auto top = hn::Set(d, std::numeric_limits<float>::max());
  auto most = hn::Zero(d);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
    const auto v = hn::Abs(hn::LoadU(d, values + i));
    most = hn::Max(most, hn::IfThenElseZero(hn::Le(v, top), v));
  }
  float amax = hn::GetLane(hn::MaxOfLanes(d, most));
  for (; i < n; ++i) {
    const float v = std::fabs(values[i]);
    if (v <= std::numeric_limits<float>::max() && v > amax) amax = v;
  }
  return amax;
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_GENERAL_QUANTIZE_INL_H_
