// Quantised output of a chunk: the conversions of quantize.h on vectors, and the largest magnitude that a scale is made of.
#if defined(ISONORM_CPU_QUANTIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_QUANTIZE_INL_H_
#undef ISONORM_CPU_QUANTIZE_INL_H_
#else
#define ISONORM_CPU_QUANTIZE_INL_H_
#endif

#include "cpu/chunk-inl.h"
#include "quantize.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

// The byte of each value in the lowest bits of its lane.
template <class D>
HWY_INLINE V<hn::RebindToUnsigned<D>> QuantizeToI8(D d, V<D> v) {
  const hn::RebindToUnsigned<D> du;
  const auto number = hn::IfThenElseZero(hn::Eq(v, v), v);
  const auto cut = hn::Min(hn::Max(number, hn::Set(d, -127.0f)), hn::Set(d, 127.0f));
  return hn::BitCast(du, hn::Add(cut, hn::Set(d, 0x1.8p23f)));
}

template <class D>
HWY_INLINE V<hn::RebindToUnsigned<D>> QuantizeToFloat8(D d, V<D> v, const QuantFormat& format) {
  const hn::RebindToUnsigned<D> du;
  const auto number = hn::Eq(v, v);
  const auto sign = hn::And(hn::ShiftRight<24>(hn::BitCast(du, v)), hn::Set(du, 0x80u));
  const auto magnitude = hn::Min(hn::Abs(hn::IfThenElseZero(number, v)), hn::Set(d, format.largest));
  const auto bits = hn::BitCast(du, magnitude);
  // Both formats keep the upper bits, 3 or 2 of the mantissa; one of the two shifts is taken by all lanes alike.
  const auto shifted = [&](V<hn::RebindToUnsigned<D>> u)
                           HWY_ATTR { return format.dropped_bits == 20 ? hn::ShiftRight<20>(u) : hn::ShiftRight<21>(u); };
  const auto odd = hn::And(shifted(bits), hn::Set(du, 1u));
  const auto half = hn::Set(du, (1u << (format.dropped_bits - 1)) - 1);
  const auto normal = shifted(hn::Add(hn::Add(hn::Sub(bits, hn::Set(du, format.rebias)), half), odd));
  const auto addend = hn::Set(d, format.addend);
  const auto subnormal = hn::Sub(hn::BitCast(du, hn::Add(magnitude, addend)), hn::BitCast(du, addend));
  const auto small = hn::Lt(magnitude, hn::Set(d, format.least_normal));
  const auto out = hn::BitCast(du, hn::IfThenElse(small, hn::BitCast(d, subnormal), hn::BitCast(d, normal)));
  const auto nan = hn::BitCast(d, hn::Set(du, uint32_t{kNaNBitsFloat8}));
  return hn::BitCast(du, hn::IfThenElse(number, hn::BitCast(d, hn::Or(out, sign)), nan));
}

template <class D>
HWY_INLINE V<hn::RebindToUnsigned<D>> QuantizeTo(Type type, D d, V<D> v) {
  return type == Type::kI8 ? QuantizeToI8(d, v) : QuantizeToFloat8(d, v, QuantFormatOf(type));
}

// Values [from, from + n) of the chunk times the multiplier to bytes at `out`.
HWY_INLINE void QuantizeChunk(const Chunk<float>& chunk, size_t from, size_t n, Type type, float multiplier, uint8_t* out) {
  const Tag<float> d;
  const hn::Rebind<uint8_t, Tag<float>> d8;
  const auto by = hn::Set(d, multiplier);
  const size_t width = hn::Lanes(d);
  for (size_t i = 0; i < n; i += width) {
    const auto codes = QuantizeTo(type, d, hn::Mul(hn::LoadU(d, chunk.v + from + i), by));
    const auto bytes = hn::TruncateTo(d8, codes);
    if (n - i >= width) {
      hn::StoreU(bytes, d8, out + i);
    } else {
      StorePart(bytes, d8, out + i, n - i);
    }
  }
}

// The largest finite magnitude among values [from, from + n); 0 if there is none.
HWY_INLINE float FiniteAmax(const Chunk<float>& chunk, size_t from, size_t n) {
  const Tag<float> d;
  const auto top = hn::Set(d, std::numeric_limits<float>::max());
  auto most = hn::Zero(d);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
    const auto v = hn::Abs(hn::LoadU(d, chunk.v + from + i));
    most = hn::Max(most, hn::IfThenElseZero(hn::Le(v, top), v));
  }
  float amax = hn::GetLane(hn::MaxOfLanes(d, most));
  for (; i < n; ++i) {
    const float v = std::fabs(chunk.v[from + i]);
    if (v <= std::numeric_limits<float>::max() && v > amax) amax = v;
  }
  return amax;
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_QUANTIZE_INL_H_
