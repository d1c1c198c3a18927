// Vectors of the compute type: loads and stores of every storage type, whole and partial, and the primitives whose rounding
// docs/numerics.md fixes. This is the one place that guards against tails, NaN payloads and unfused multiply-adds.
#if defined(ISONORM_CPU_VECTOR_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_VECTOR_VECTOR_INL_H_
#undef ISONORM_CPU_VECTOR_VECTOR_INL_H_
#else
#define ISONORM_CPU_VECTOR_VECTOR_INL_H_
#endif

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "numbers/rounding.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Up to 64 bytes: 16 f32 or 8 f64 lanes are as many as the canonical order has use for.
template <class F>
using Tag = hn::CappedTag<F, 64 / sizeof(F)>;
template <class D>
using V = hn::Vec<D>;

// Set anew for every target.
#undef ISONORM_FIXED_VECTORS
#undef ISONORM_NATIVE_F16
#undef ISONORM_PAIRS

// One lane or lanes of unknown number: arrays of vectors and compile-time shuffles are not to be had.
#if HWY_TARGET == HWY_SCALAR || HWY_HAVE_SCALABLE
#define ISONORM_FIXED_VECTORS 0
#else
#define ISONORM_FIXED_VECTORS 1
#endif

// Highway's own f16 conversions are exact only where the CPU has them.
#if HWY_TARGET != HWY_SCALAR && (HWY_ARCH_ARM_A64 || (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2))
#define ISONORM_NATIVE_F16 1
#else
#define ISONORM_NATIVE_F16 0
#endif

// Tuned loops hold vectors in arrays and structures, which those of unknown length cannot be in. Without a fused multiply-add
// in hardware the arithmetic takes longer than the memory, and the general path does as well.
#undef ISONORM_TUNED_LOOPS
#define ISONORM_TUNED_LOOPS (ISONORM_FIXED_VECTORS && HWY_NATIVE_FMA)

// Two 16-bit elements in the place of one of the compute type.
#define ISONORM_PAIRS (HWY_TARGET != HWY_SCALAR)

// Storage of a weight that is not there: ones.
struct None {};

// Storage types under the names of kernels.inc.
namespace storage {
#define ISONORM_CASE(name, kind, type) using name = type;
ISONORM_NARROW_TYPES(ISONORM_CASE)
#undef ISONORM_CASE
using none = None;
}  // namespace storage

// ------------------------------------------------------------------------------------------------------ fused multiply-add

// a * b + c with one rounding.
#if HWY_NATIVE_FMA
template <class W>
HWY_INLINE W Fma(W a, W b, W c) {
  return hn::MulAdd(a, b, c);
}
// c - a * b, likewise.
template <class W>
HWY_INLINE W NegFma(W a, W b, W c) {
  return hn::NegMulAdd(a, b, c);
}
// a * b - c, likewise.
template <class W>
HWY_INLINE W FmaLess(W a, W b, W c) {
  return hn::MulSub(a, b, c);
}
#else

template <class D>
HWY_INLINE V<D> FmaByLane(D d, V<D> a, V<D> b, V<D> c) {
  using F = hn::TFromD<D>;
  HWY_ALIGN F x[hn::MaxLanes(d)], y[hn::MaxLanes(d)], z[hn::MaxLanes(d)];
  hn::Store(a, d, x);
  hn::Store(b, d, y);
  hn::Store(c, d, z);
  for (size_t i = 0; i < hn::Lanes(d); ++i) z[i] = std::fma(x[i], y[i], z[i]);
  return hn::Load(d, z);
}

#if ISONORM_FIXED_VECTORS
// The product is exact in f64. Rounding the sum to odd keeps what the final rounding to f32 must know.
template <class DD, class H>
HWY_INLINE V<hn::Rebind<float, DD>> FmaInF64(DD dd, H a, H b, H c) {
  const hn::RebindToSigned<DD> di;
  const auto product = hn::Mul(hn::PromoteTo(dd, a), hn::PromoteTo(dd, b));
  const auto addend = hn::PromoteTo(dd, c);
  const auto sum = hn::Add(product, addend);
  const auto back = hn::Sub(sum, product);
  const auto error = hn::Add(hn::Sub(product, hn::Sub(sum, back)), hn::Sub(addend, back));
  const auto zero = hn::Zero(dd);
  const auto one = hn::Set(di, 1);
  const auto sum_bits = hn::BitCast(di, sum);
  const auto even = hn::BitCast(dd, hn::VecFromMask(di, hn::Eq(hn::And(sum_bits, one), hn::Zero(di))));
  const auto inexact = hn::VecFromMask(dd, hn::Or(hn::Lt(error, zero), hn::Gt(error, zero)));
  const auto towards_zero = hn::VecFromMask(dd, hn::Xor(hn::Lt(error, zero), hn::Lt(sum, zero)));
  const auto step = hn::Or(hn::BitCast(di, towards_zero), one);  // -1 or 1
  const auto odd = hn::Add(sum_bits, hn::And(step, hn::BitCast(di, hn::And(inexact, even))));
  return hn::DemoteTo(hn::Rebind<float, DD>(), hn::BitCast(dd, odd));
}
#endif

template <class W>
HWY_INLINE W Fma(W a, W b, W c) {
  const hn::DFromV<W> d;
#if ISONORM_FIXED_VECTORS
  if constexpr (std::is_same_v<hn::TFromV<W>, float>) {
    const hn::RepartitionToWide<decltype(hn::RebindToSigned<decltype(d)>())> wide;
    const hn::RebindToFloat<decltype(wide)> dd;
    const hn::Half<decltype(d)> half;
    const auto low = FmaInF64(dd, hn::LowerHalf(half, a), hn::LowerHalf(half, b), hn::LowerHalf(half, c));
    const auto high = FmaInF64(dd, hn::UpperHalf(half, a), hn::UpperHalf(half, b), hn::UpperHalf(half, c));
    return hn::Combine(d, high, low);
  } else  // NOLINT(readability/braces)
#endif
  {
    return FmaByLane(d, a, b, c);
  }
}
template <class W>
HWY_INLINE W NegFma(W a, W b, W c) {
  return Fma(hn::Neg(a), b, c);
}
template <class W>
HWY_INLINE W FmaLess(W a, W b, W c) {
  return Fma(a, b, hn::Neg(c));
}
#endif  // HWY_NATIVE_FMA

// ------------------------------------------------------------------------------------------------------------- special values

template <class D>
HWY_INLINE V<D> CanonicalNaNs(D d, V<D> v) {
#if HWY_TARGET == HWY_AVX3  // one operation by table: NaNs (entries 0 and 1) become the first operand, all else stays
  if constexpr (std::is_same_v<V<D>, hn::Vec512<float>>) {
    const auto nan = hn::Set(d, CanonicalNaN<float>());
    return V<D>{_mm512_fixupimm_ps(nan.raw, v.raw, _mm512_set1_epi32(0x11111100), 0)};
  }
#endif
  return hn::IfThenElse(hn::Eq(v, v), v, hn::Set(d, CanonicalNaN<hn::TFromD<D>>()));
}

// Whether the values of a loop can be NaN is known before it: the loops that cannot meet one skip the test.
enum class Nans { kPossible, kNone };

// ------------------------------------------------------------------------------------------------------ conversions in vectors

// bf16 in the upper halves of f32 bits, lower halves undefined unspecified.
template <Nans kNans, class D>
HWY_INLINE V<hn::RebindToUnsigned<D>> Bf16InUpperHalves([[maybe_unused]] D d, V<D> v) {
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, v);
#if HWY_CAP_GE512  // a masked addition
  const auto is_odd = hn::TestBit(bits, hn::Set(du, 0x10000u));
  const auto rounded = hn::IfThenElse(is_odd, hn::Add(bits, hn::Set(du, 0x8000u)), hn::Add(bits, hn::Set(du, 0x7FFFu)));
#else
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7FFFu)), odd);
#endif
  if constexpr (kNans == Nans::kNone) return rounded;
#if HWY_CAP_GE512  // a blend by a mask register
  return hn::IfThenElse(hn::RebindMask(du, hn::Eq(v, v)), rounded, hn::Set(du, kNaNBitsF32));
#else
  const auto is_number = hn::VecFromMask(du, hn::RebindMask(du, hn::Eq(v, v)));
  const auto nan = hn::Set(du, kNaNBitsF32);
  return hn::Or(hn::And(is_number, rounded), hn::AndNot(is_number, nan));
#endif
}

template <class D>
HWY_INLINE V<D> WidenBf16(D d, V<hn::Rebind<uint16_t, D>> v) {
  const hn::RebindToUnsigned<D> du;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, v)));
}

template <class D>
HWY_INLINE V<D> WidenF16(D d, V<hn::Rebind<uint16_t, D>> v) {
#if ISONORM_NATIVE_F16
  return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, D>(), v));
#else  // as Widen(F16)
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::PromoteTo(du, v);
  const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(du, 0x7FFFu)));
  const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(du, 0x8000u)));
  const auto value = hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p112f));
  const auto special = hn::Ge(value, hn::Set(d, 65536.0f));
  const auto kept = hn::IfThenElse(special, hn::BitCast(d, hn::Or(magnitude, hn::Set(du, 0x7F800000u))), value);
  return hn::BitCast(d, hn::Or(hn::BitCast(du, kept), sign));
#endif
}

template <Nans kNans, class D>
HWY_INLINE V<hn::Rebind<uint16_t, D>> NarrowToF16(D d, V<D> v) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> du;
#if ISONORM_NATIVE_F16
  if constexpr (kNans == Nans::kPossible) v = CanonicalNaNs(d, v);
  (void)du;
  return hn::BitCast(d16, hn::DemoteTo(hn::Rebind<hwy::float16_t, D>(), v));
#else  // as NarrowToF16(float)
  const auto bits = hn::BitCast(du, v);
  const auto sign = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 0x8000u));
  const auto magnitude = hn::BitCast(d, hn::And(bits, hn::Set(du, 0x7FFFFFFFu)));
  const auto select = [&](auto mask, auto yes, auto no)
                          HWY_ATTR { return hn::BitCast(du, hn::IfThenElse(mask, hn::BitCast(d, yes), hn::BitCast(d, no))); };
  const auto half = hn::Set(d, 0.5f);
  const auto small = hn::Sub(hn::BitCast(du, hn::Add(magnitude, half)), hn::BitCast(du, half));
  const auto m = hn::BitCast(du, magnitude);
  const auto odd = hn::And(hn::ShiftRight<13>(m), hn::Set(du, 1u));
  const auto rebiased = hn::Sub(hn::Add(hn::Add(m, hn::Set(du, 0xFFFu)), odd), hn::Set(du, 112u << 23));
  auto out = select(hn::Lt(magnitude, hn::Set(d, 0x1p-14f)), small, hn::ShiftRight<13>(rebiased));
  out = select(hn::Ge(magnitude, hn::Set(d, 65536.0f)), hn::Set(du, 0x7C00u), out);
  out = hn::Or(out, sign);
  out = select(hn::Eq(v, v), out, hn::Set(du, uint32_t{kNaNBitsF16}));
  return hn::TruncateTo(d16, out);
#endif
}

// ----------------------------------------------------------------------------------------------------------- loads and stores

template <class T>
using Raw = std::conditional_t<sizeof(T) == 2, uint16_t, T>;

// Whole vectors at any address. Highway's own for a single lane goes through the pointer, which would have to be aligned.
template <class D>
HWY_INLINE V<D> LoadAny(D d, const hn::TFromD<D>* p) {
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(d, LoadAt<hn::TFromD<D>>(p, 0));
#else
  return hn::LoadU(d, p);
#endif
}
template <class D>
HWY_INLINE void StoreAny(V<D> v, D d, hn::TFromD<D>* p) {
#if HWY_TARGET == HWY_SCALAR
  (void)d;
  StoreAt(hn::GetLane(v), p, 0);
#else
  hn::StoreU(v, d, p);
#endif
}

// Bits of count < Lanes(d) elements; the other lanes are 0. Never touches memory past the last one.
template <class D>
HWY_INLINE V<D> LoadPart(D d, const hn::TFromD<D>* p, size_t count) {
#if HWY_MEM_OPS_MIGHT_FAULT
#if HWY_TARGET == HWY_AVX2
  if constexpr (sizeof(hn::TFromD<D>) >= 4) return hn::MaskedLoad(hn::FirstN(d, count), d, p);
#endif
  HWY_ALIGN hn::TFromD<D> padded[hn::MaxLanes(d)] = {};
  std::memcpy(padded, p, count * sizeof(*p));
  return hn::Load(d, padded);
#else
  return hn::MaskedLoad(hn::FirstN(d, count), d, p);
#endif
}

template <class D>
HWY_INLINE void StorePart(V<D> v, D d, hn::TFromD<D>* p, size_t count) {
#if HWY_MEM_OPS_MIGHT_FAULT
  HWY_ALIGN hn::TFromD<D> padded[hn::MaxLanes(d)];
  hn::Store(v, d, padded);
  std::memcpy(p, padded, count * sizeof(*p));
#else
  hn::BlendedStore(v, hn::FirstN(d, count), d, p);
#endif
}

template <class D, class T>
HWY_INLINE V<D> WidenRaw([[maybe_unused]] D d, V<hn::Rebind<Raw<T>, D>> v) {
  if constexpr (std::is_same_v<T, Bf16>) {
    return WidenBf16(d, v);
  } else if constexpr (std::is_same_v<T, F16>) {
    return WidenF16(d, v);
  } else if constexpr (std::is_same_v<T, hn::TFromD<D>>) {
    return v;
  } else {
    return hn::PromoteTo(d, v);  // f32 in a row of f64
  }
}

// Lanes(d) elements of storage T as the compute type.
template <class D, class T>
HWY_INLINE V<D> LoadAs(D d, const T* p) {
  if constexpr (std::is_same_v<T, None>) {
    return hn::Set(d, 1);
  } else {
    return WidenRaw<D, T>(d, LoadAny(hn::Rebind<Raw<T>, D>(), reinterpret_cast<const Raw<T>*>(p)));
  }
}

// count < Lanes(d) elements; the other lanes are 0.
template <class D, class T>
HWY_INLINE V<D> LoadAsPart(D d, const T* p, size_t count) {
  if constexpr (std::is_same_v<T, None>) {
    return hn::Set(d, 1);
  } else {
    return WidenRaw<D, T>(d, LoadPart(hn::Rebind<Raw<T>, D>(), reinterpret_cast<const Raw<T>*>(p), count));
  }
}

// One rounding to storage T; NaNs become canonical.
template <class T, Nans kNans, class D>
HWY_INLINE V<hn::Rebind<Raw<T>, D>> NarrowTo(D d, V<D> v) {
  if constexpr (std::is_same_v<T, Bf16>) {
    return hn::TruncateTo(hn::Rebind<uint16_t, D>(), hn::ShiftRight<16>(Bf16InUpperHalves<kNans>(d, v)));
  } else if constexpr (std::is_same_v<T, F16>) {
    return NarrowToF16<kNans>(d, v);
  } else {
    if constexpr (kNans == Nans::kPossible) v = CanonicalNaNs(d, v);
    if constexpr (std::is_same_v<T, hn::TFromD<D>>) {
      return v;
    } else {
#if HWY_TARGET == HWY_SCALAR  // Highway's own conversion stops at the largest finite value
      return hn::Set(hn::Rebind<T, D>(), static_cast<T>(hn::GetLane(v)));
#else
      return hn::DemoteTo(hn::Rebind<T, D>(), v);
#endif
    }
  }
}

template <Nans kNans, class D, class T>
HWY_INLINE void StoreAs(V<D> v, D d, T* p) {
  StoreAny(NarrowTo<T, kNans>(d, v), hn::Rebind<Raw<T>, D>(), reinterpret_cast<Raw<T>*>(p));
}

template <Nans kNans, class D, class T>
HWY_INLINE void StoreAsPart(V<D> v, D d, T* p, size_t count) {
  StorePart(NarrowTo<T, kNans>(d, v), hn::Rebind<Raw<T>, D>(), reinterpret_cast<Raw<T>*>(p), count);
}

// The value as it would come back from storage T.
template <class T, Nans kNans, class D>
HWY_INLINE V<D> RoundThrough(D d, V<D> v) {
  if constexpr (std::is_same_v<T, Bf16>) {
    const hn::RebindToUnsigned<D> du;
    return hn::BitCast(d, hn::And(Bf16InUpperHalves<kNans>(d, v), hn::Set(du, 0xFFFF0000u)));
  } else if constexpr (std::is_same_v<T, F16>) {
    return WidenF16(d, NarrowToF16<kNans>(d, v));
  } else {
    static_assert(sizeof(T) >= sizeof(hn::TFromD<D>), "a narrower type needs its rounding here");
    return v;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_VECTOR_VECTOR_INL_H_
