// Two vectors of the compute type that travel together through the tuned loops, so that one turn moves a whole line of 16-bit
// storage. Their layout is either two runs of elements, or, for bf16 in and out, the even and the odd ones: splitting a load of
// bf16 pairs takes a shift and a mask where two runs would take a permutation.
#if defined(ISONORM_CPU_TUNED_DUO_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_DUO_INL_H_
#undef ISONORM_CPU_TUNED_DUO_INL_H_
#else
#define ISONORM_CPU_TUNED_DUO_INL_H_
#endif

#include "cpu/vector/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

constexpr int64_t kLine = 64;  // bytes that memory moves at once

enum class Layout { kRuns, kEvenOdd };

template <class Tx, class Ty>
constexpr Layout kLayoutOf =
    ISONORM_PAIRS&& std::is_same_v<Tx, Bf16>&& std::is_same_v<Ty, Bf16> ? Layout::kEvenOdd : Layout::kRuns;

// How a store treats the cache.
enum class Store { kCached, kStreamed };

// The constructors are spelled out because gcc compiles implicit ones for another instruction set on Arm.
template <class D>
struct Duo {
  HWY_INLINE Duo() {}
  HWY_INLINE Duo(V<D> first, V<D> second) : a(first), b(second) {}
  V<D> a, b;
};

// op on both vectors of one, two or three duos.
template <class D, class Op>
HWY_INLINE Duo<D> Map(const Duo<D>& x, Op op) {
  return {op(x.a), op(x.b)};
}
template <class D, class Op>
HWY_INLINE Duo<D> Map(const Duo<D>& x, const Duo<D>& y, Op op) {
  return {op(x.a, y.a), op(x.b, y.b)};
}
template <class D, class Op>
HWY_INLINE Duo<D> Map(const Duo<D>& x, const Duo<D>& y, const Duo<D>& z, Op op) {
  return {op(x.a, y.a, z.a), op(x.b, y.b, z.b)};
}

#if ISONORM_PAIRS
template <class D>
HWY_INLINE Duo<D> SplitPairs(D d, V<hn::Repartition<uint16_t, D>> raw) {
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, raw);
  return {hn::BitCast(d, hn::ShiftLeft<16>(bits)), hn::BitCast(d, hn::And(bits, hn::Set(du, 0xFFFF0000u)))};
}

template <Nans kNans, class D>
HWY_INLINE V<hn::Repartition<uint16_t, D>> JoinPairs(D d, const Duo<D>& v) {
  const hn::RebindToUnsigned<D> du;
#if !HWY_CAP_GE512
  // Both are rounded at once, in 16-bit lanes: an upper half grows by one where its lower half + 0x7FFF + (the upper half is
  // odd) is 2^16 or more, which is the highest bit of an average that rounds up.
  if constexpr (kNans == Nans::kNone) {
    const hn::Repartition<uint16_t, D> d16;
    const auto a = hn::BitCast(du, v.a), b = hn::BitCast(du, v.b);
    const auto upper = hn::OddEven(hn::BitCast(d16, b), hn::BitCast(d16, hn::ShiftRight<16>(a)));
    const auto lower = hn::OddEven(hn::BitCast(d16, hn::ShiftLeft<16>(b)), hn::BitCast(d16, a));
    const auto more = hn::OrAnd(hn::Set(d16, uint16_t{0x7FFE}), upper, hn::Set(d16, uint16_t{1}));
    return hn::Add(upper, hn::ShiftRight<15>(hn::AverageRound(lower, more)));
  }
#endif
  const auto even = Bf16InUpperHalves<kNans>(d, v.a), odd = Bf16InUpperHalves<kNans>(d, v.b);
#if HWY_TARGET == HWY_AVX3  // one permutation of two vectors, which Highway 1.0 has no name for, instead of two operations
  alignas(64) static constexpr uint16_t kUpperHalves[32] = {1,  33, 3,  35, 5,  37, 7,  39, 9,  41, 11, 43, 13, 45, 15, 47,
                                                            17, 49, 19, 51, 21, 53, 23, 55, 25, 57, 27, 59, 29, 61, 31, 63};
  if constexpr (hn::MaxLanes(D()) == 16) {
    return hn::Vec512<uint16_t>{_mm512_permutex2var_epi16(even.raw, _mm512_load_si512(kUpperHalves), odd.raw)};
  }
#endif
  return hn::BitCast(hn::Repartition<uint16_t, D>(), hn::OrAnd(hn::ShiftRight<16>(even), odd, hn::Set(du, 0xFFFF0000u)));
}
#endif

// An f32 of a vector in which whole duos lie in the order of the loops that read it, while a part at the end keeps its own.
struct Arranged {
  float value;
};

// 2 * Lanes(d) elements of storage T.
template <Layout kLayout, class D, class T>
HWY_INLINE Duo<D> LoadDuo(D d, const T* p) {
#if ISONORM_PAIRS
  if constexpr (std::is_same_v<T, Arranged>) {
    return LoadDuo<Layout::kRuns>(d, &p->value);
  } else if constexpr (kLayout == Layout::kEvenOdd && std::is_same_v<T, Bf16>) {
    return SplitPairs(d, hn::LoadU(hn::Repartition<uint16_t, D>(), reinterpret_cast<const uint16_t*>(p)));
  } else if constexpr (kLayout == Layout::kEvenOdd && std::is_same_v<T, float>) {
    V<D> a, b;
    hn::LoadInterleaved2(d, p, a, b);
    return {a, b};
  } else  // NOLINT(readability/braces)
#endif
  {
    return {LoadAs(d, p), LoadAs(d, std::is_same_v<T, None> ? p : p + hn::Lanes(d))};
  }
}

// count < 2 * Lanes(d) elements; the others are 0 (or, of a weight that is not there, 1).
template <Layout kLayout, class D, class T>
HWY_INLINE Duo<D> LoadDuoPart(D d, const T* p, size_t count) {
  const size_t width = hn::Lanes(d);
#if ISONORM_PAIRS
  if constexpr (std::is_same_v<T, Arranged>) {
    return LoadDuoPart<kLayout>(d, &p->value, count);
  } else if constexpr (kLayout == Layout::kEvenOdd && std::is_same_v<T, Bf16>) {
    return SplitPairs(d, LoadPart(hn::Repartition<uint16_t, D>(), reinterpret_cast<const uint16_t*>(p), count));
  } else if constexpr (kLayout == Layout::kEvenOdd && std::is_same_v<T, float>) {
    HWY_ALIGN float padded[2 * hn::MaxLanes(d)] = {};
    std::memcpy(padded, p, count * sizeof(float));
    return LoadDuo<kLayout>(d, padded);
  } else  // NOLINT(readability/braces)
#endif
      if constexpr (std::is_same_v<T, None>) {
    return LoadDuo<kLayout>(d, p);
  } else {
    if (count < width) return {LoadAsPart(d, p, count), hn::Zero(d)};
    return {LoadAs(d, p), count == width ? hn::Zero(d) : LoadAsPart(d, p + width, count - width)};
  }
}

template <Store kStore, class W, class D>
HWY_INLINE void StoreBits(W v, D d, hn::TFromD<D>* p) {
#if ISONORM_FIXED_VECTORS
  if constexpr (kStore == Store::kStreamed) {
    hn::Stream(v, d, p);
    return;
  }
#endif
  hn::StoreU(v, d, p);
}

template <Layout kLayout, Nans kNans, Store kStore, class D, class T>
HWY_INLINE void StoreDuo(const Duo<D>& v, D d, T* p) {
#if ISONORM_PAIRS
  if constexpr (kLayout == Layout::kEvenOdd && std::is_same_v<T, Bf16>) {
    StoreBits<kStore>(JoinPairs<kNans>(d, v), hn::Repartition<uint16_t, D>(), reinterpret_cast<uint16_t*>(p));
    return;
  } else if constexpr (kLayout == Layout::kEvenOdd && std::is_same_v<T, float>) {
    hn::StoreInterleaved2(v.a, v.b, d, p);
    return;
  }
#endif
#if ISONORM_FIXED_VECTORS
  // One store of a whole vector, which is what streaming needs. A conversion to f16 can store its half itself.
  if constexpr (sizeof(T) == 2 && (kStore == Store::kStreamed || !std::is_same_v<T, F16>)) {
    const hn::Rebind<uint16_t, D> half;
    const hn::Twice<decltype(half)> whole;
#if HWY_TARGET == HWY_AVX2  // one operation that packs both and one that puts their halves in order
    if constexpr (std::is_same_v<T, Bf16>) {
      const hn::RebindToSigned<D> di;
      const auto bits = [&](V<D> of) HWY_ATTR { return hn::ShiftRight<16>(hn::BitCast(di, Bf16InUpperHalves<kNans>(d, of))); };
      const auto packed = _mm256_packs_epi32(bits(v.a).raw, bits(v.b).raw);
      StoreBits<kStore>(hn::Vec256<uint16_t>{_mm256_permute4x64_epi64(packed, 0xD8)}, whole, reinterpret_cast<uint16_t*>(p));
      return;
    }
#endif
    StoreBits<kStore>(hn::Combine(whole, NarrowTo<T, kNans>(d, v.b), NarrowTo<T, kNans>(d, v.a)), whole,
                      reinterpret_cast<uint16_t*>(p));
    return;
  }
#endif
  const hn::Rebind<Raw<T>, D> ds;
  auto* raw = reinterpret_cast<Raw<T>*>(p);
  StoreBits<kStore>(NarrowTo<T, kNans>(d, v.a), ds, raw);
  StoreBits<kStore>(NarrowTo<T, kNans>(d, v.b), ds, raw + hn::Lanes(d));
}

template <Layout kLayout, Nans kNans, class D, class T>
HWY_INLINE void StoreDuoPart(const Duo<D>& v, D d, T* p, size_t count) {
  const size_t width = hn::Lanes(d);
#if ISONORM_PAIRS
  if constexpr (kLayout == Layout::kEvenOdd && std::is_same_v<T, Bf16>) {
    StorePart(JoinPairs<kNans>(d, v), hn::Repartition<uint16_t, D>(), reinterpret_cast<uint16_t*>(p), count);
    return;
  } else if constexpr (kLayout == Layout::kEvenOdd && std::is_same_v<T, float>) {
    HWY_ALIGN float padded[2 * hn::MaxLanes(d)];
    hn::StoreInterleaved2(v.a, v.b, d, padded);
    std::memcpy(p, padded, count * sizeof(float));
    return;
  }
#endif
  if (count < width) return StoreAsPart<kNans>(v.a, d, p, count);
  StoreAs<kNans>(v.a, d, p);
  if (count > width) StoreAsPart<kNans>(v.b, d, p + width, count - width);
}

// Elements before the first whole line of an output: streaming stores want whole lines.
template <class T>
HWY_INLINE size_t ElementsToLine(const T* p) {
  return static_cast<size_t>(-reinterpret_cast<intptr_t>(p) & (kLine - 1)) / sizeof(T);
}

// Where in a room of a page and some lines a buffer lies half a page from x: a load waits for an older store with the same last
// 12 bits of address.
constexpr size_t kPage = 4 << 10;
template <class T>
HWY_INLINE char* HalfAPageFrom(const T* x, char* room) {
  const auto distance = reinterpret_cast<uintptr_t>(x) + kPage / 2 - reinterpret_cast<uintptr_t>(room);
  return room + distance % kPage / kLine * kLine;
}

// Copies whole lines past the cache.
template <class T>
HWY_INLINE void StreamLines(const T* from, T* to, size_t bytes) {
  const hn::CappedTag<uint8_t, kLine> d;
  const auto* in = reinterpret_cast<const uint8_t*>(from);
  auto* out = reinterpret_cast<uint8_t*>(to);
  for (size_t i = 0; i < bytes; i += hn::Lanes(d)) StoreBits<Store::kStreamed>(hn::Load(d, in + i), d, out + i);
}

// Into the second-level cache and into the first; Highway has a name for one of them.
HWY_INLINE void PrefetchFar(const void* p) { __builtin_prefetch(p, 0, 2); }
HWY_INLINE void PrefetchNear(const void* p) { __builtin_prefetch(p, 0, 3); }

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_DUO_INL_H_
