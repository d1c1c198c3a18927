// Sums in the canonical order (docs/numerics.md §1) on vectors: 64 lanes per leaf, the lane tree, the leaf tree.
//
// A Term is what a sum adds up. Full(d, a, at) folds the Lanes(d) elements from `at` on into a, Part(d, a, at, n) only the
// first n of them and zeros for the rest, which by definition cannot show.
#if defined(ISONORM_CPU_VECTOR_SUM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_VECTOR_SUM_INL_H_
#undef ISONORM_CPU_VECTOR_SUM_INL_H_
#else
#define ISONORM_CPU_VECTOR_SUM_INL_H_
#endif

#include <algorithm>

#include "cpu/vector/vector-inl.h"
#include "numbers/order.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

// ------------------------------------------------------------------------------------------------------------------- terms

template <class T>
struct Squares {
  const T* p;
  template <class D>
  HWY_INLINE V<D> Full(D d, V<D> a, size_t at) const {
    const auto v = LoadAs(d, p + at);
    return Fma(v, v, a);
  }
  template <class D>
  HWY_INLINE V<D> Part(D d, V<D> a, size_t at, size_t n) const {
    const auto v = LoadAsPart(d, p + at, n);
    return Fma(v, v, a);
  }
};

template <class F>
struct Products {
  const F* p;
  const F* q;
  template <class D>
  HWY_INLINE V<D> Full(D d, V<D> a, size_t at) const {
    return Fma(hn::LoadU(d, p + at), hn::LoadU(d, q + at), a);
  }
  template <class D>
  HWY_INLINE V<D> Part(D d, V<D> a, size_t at, size_t n) const {
    return Fma(LoadPart(d, p + at, n), LoadPart(d, q + at, n), a);
  }
};

template <class F>
struct Values {
  const F* p;
  template <class D>
  HWY_INLINE V<D> Full(D d, V<D> a, size_t at) const {
    return hn::Add(a, hn::LoadU(d, p + at));
  }
  template <class D>
  HWY_INLINE V<D> Part(D d, V<D> a, size_t at, size_t n) const {
    return hn::Add(a, LoadPart(d, p + at, n));
  }
};

// ------------------------------------------------------------------------------------------------------- a leaf to one vector

#if ISONORM_FIXED_VECTORS

// Lanes whose index has the bit `kStride` set change places with those that have it clear.
template <size_t kStride, class D>
HWY_INLINE V<D> SwapAt(D d, V<D> v) {
  constexpr size_t kBytes = kStride * sizeof(hn::TFromD<D>);
  (void)d;
  if constexpr (kBytes == 32) {
    return hn::ConcatLowerUpper(d, v, v);
  } else if constexpr (kBytes == 16) {
    return hn::SwapAdjacentBlocks(v);
  } else if constexpr (kBytes == 8 && sizeof(hn::TFromD<D>) == 8) {
    return hn::Shuffle01(v);
  } else if constexpr (kBytes == 8) {
    return hn::Shuffle1032(v);
  } else {
    return hn::Shuffle2301(v);
  }
}

// Lanes whose index has the bit set come from `set`, the others from `clear`.
template <size_t kStride, class D>
HWY_INLINE V<D> BlendAt(D d, V<D> set, V<D> clear) {
  constexpr size_t kBytes = kStride * sizeof(hn::TFromD<D>);
  (void)d;
  if constexpr (kBytes == 32) {
    return hn::ConcatUpperLower(d, set, clear);
  } else if constexpr (kBytes == 16) {
    return hn::OddEvenBlocks(set, clear);
  } else if constexpr (kBytes == 8) {
    const hn::Repartition<double, D> d64;
    return hn::BitCast(d, hn::OddEven(hn::BitCast(d64, set), hn::BitCast(d64, clear)));
  } else {
    return hn::OddEven(set, clear);
  }
}

// One level of the lane tree on two vectors at once: the folded a where the bit is clear, the folded b where it is set.
template <size_t kStride, class D>
HWY_INLINE V<D> FoldAt(D d, V<D> a, V<D> b) {
  return hn::Add(BlendAt<kStride>(d, b, a), SwapAt<kStride>(d, BlendAt<kStride>(d, a, b)));
}

template <size_t kStride, class D>
HWY_INLINE V<D> FoldSelf(D d, V<D> v) {
  return hn::Add(v, SwapAt<kStride>(d, v));
}

// Folds the vector's own lanes, widest stride first.
template <class D, size_t kStride = hn::MaxLanes(D()) / 2>
HWY_INLINE hn::TFromD<D> FoldAll(D d, V<D> v) {
  if constexpr (kStride == 0) {
    return hn::GetLane(v);
  } else {
    return FoldAll<D, kStride / 2>(d, FoldSelf<kStride>(d, v));
  }
}

// The 64 lanes in registers, where there are enough of them.
template <class D>
constexpr bool kLanesFit = kLanes / hn::MaxLanes(D()) <= (HWY_ARCH_ARM ? 16 : 8);

// What else happens while a leaf is summed: called with every 64 elements, and with what is left.
struct Nothing {
  HWY_INLINE void operator()() const {}
};

// Loops over the vectors of a leaf are unrolled, or the compiler would keep the array in memory. kConstant: the length is a
// constant of whole turns, 8 at most, and the loop over them is unrolled too.
template <bool kConstant = false, class D, class Term, class Beside = Nothing>
HWY_INLINE V<D> LeafInRegisters(D d, const Term& term, size_t length, Beside&& beside = {}) {
  constexpr size_t kWidth = hn::MaxLanes(D()), kVectors = kLanes / kWidth;
  V<D> a[kVectors];
  HWY_UNROLL(16)
  for (size_t j = 0; j < kVectors; ++j) a[j] = hn::Zero(d);
  size_t at = 0;
  if constexpr (kConstant) {
    HWY_UNROLL(8)
    for (; at < length; at += kLanes) {
      HWY_UNROLL(16)
      for (size_t j = 0; j < kVectors; ++j) a[j] = term.Full(d, a[j], at + j * kWidth);
      beside();
    }
  } else {
    for (; at + kLanes <= length; at += kLanes) {
      HWY_UNROLL(16)
      for (size_t j = 0; j < kVectors; ++j) a[j] = term.Full(d, a[j], at + j * kWidth);
      beside();
    }
  }
  if (at < length) {
    HWY_UNROLL(16)
    for (size_t j = 0; j < kVectors; ++j) {
      const size_t from = at + j * kWidth;
#if HWY_MEM_OPS_MIGHT_FAULT
      if (from + kWidth <= length) {
        a[j] = term.Full(d, a[j], from);
      } else if (from < length) {
        a[j] = term.Part(d, a[j], from, length - from);
      }
#else  // without branches: they would keep the vectors in memory
      a[j] = term.Part(d, a[j], from, std::min(kWidth, length - std::min(from, length)));
#endif
    }
    beside();
  }
  HWY_UNROLL(4)
  for (size_t half = kVectors / 2; half >= 1; half /= 2) {
    HWY_UNROLL(8)
    for (size_t j = 0; j < half; ++j) a[j] = hn::Add(a[j], a[j + half]);
  }
  return a[0];
}

#endif  // ISONORM_FIXED_VECTORS

// The lane tree over 64 lanes in memory.
template <class D>
HWY_INLINE hn::TFromD<D> FoldLanes(D d, hn::TFromD<D>* lane) {
  size_t half = kLanes / 2;
  for (; half >= hn::Lanes(d); half /= 2) {
    for (size_t l = 0; l < half; l += hn::Lanes(d)) {
      hn::Store(hn::Add(hn::Load(d, lane + l), hn::Load(d, lane + l + half)), d, lane + l);
    }
  }
#if ISONORM_FIXED_VECTORS
  return FoldAll(d, hn::Load(d, lane));
#else
  for (; half >= 1; half /= 2) {
    for (size_t l = 0; l < half; ++l) lane[l] = lane[l] + lane[l + half];
  }
  return lane[0];
#endif
}

// Any number of lanes: four accumulators sweep over the leaf as often as it takes.
template <class D, class Term>
HWY_INLINE hn::TFromD<D> LeafBySweeps(D d, const Term& term, size_t length) {
  using F = hn::TFromD<D>;
  const size_t width = hn::Lanes(d);
  HWY_ALIGN F lane[kLanes];
  for (size_t first = 0; first < kLanes; first += 4 * width) {
    auto a0 = hn::Zero(d), a1 = hn::Zero(d), a2 = hn::Zero(d), a3 = hn::Zero(d);
    size_t at = first;
    for (; at + 4 * width <= length; at += kLanes) {
      a0 = term.Full(d, a0, at);
      a1 = term.Full(d, a1, at + width);
      a2 = term.Full(d, a2, at + 2 * width);
      a3 = term.Full(d, a3, at + 3 * width);
    }
    const auto fold = [&](V<D> a, size_t from) HWY_ATTR {
      if (from + width <= length) return term.Full(d, a, from);
      return from < length ? term.Part(d, a, from, length - from) : a;
    };
    hn::StoreU(fold(a0, at), d, lane + first);
    hn::StoreU(fold(a1, at + width), d, lane + first + width);
    hn::StoreU(fold(a2, at + 2 * width), d, lane + first + 2 * width);
    hn::StoreU(fold(a3, at + 3 * width), d, lane + first + 3 * width);
  }
  return FoldLanes(d, lane);
}

// The value of one leaf.
template <class D, class Term>
HWY_INLINE hn::TFromD<D> LeafValue(D d, const Term& term, size_t length) {
#if ISONORM_FIXED_VECTORS
  if constexpr (kLanesFit<D>) return FoldAll(d, LeafInRegisters(d, term, length));
#endif
  return LeafBySweeps(d, term, length);
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_VECTOR_SUM_INL_H_
