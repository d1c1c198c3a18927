// The sums of squares of a few rows at once, for the tuned loops.
#if defined(ISONORM_CPU_TUNED_ROW_SUMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_ROW_SUMS_INL_H_
#undef ISONORM_CPU_TUNED_ROW_SUMS_INL_H_
#else
#define ISONORM_CPU_TUNED_ROW_SUMS_INL_H_
#endif

#include <algorithm>

#include "cpu/tuned/leaf_network-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

#if ISONORM_LEAF_NETWORK

struct EvenOddSquares {
  const Bf16* p;
  template <class D>
  HWY_INLINE void FoldDuo(D d, Duo<D>& a, size_t at) const {
    auto raw = hn::LoadU(hn::Repartition<uint16_t, D>(), reinterpret_cast<const uint16_t*>(p + at));
#if HWY_CAP_GE512  // otherwise the compiler loads it twice, and loads are what such a sum waits for
    __asm__("" : "+v"(raw.raw));
#endif
    a = Map(SplitPairs(d, raw), a, [](V<D> v, V<D> sum) HWY_ATTR { return Fma(v, v, sum); });
  }
  template <class D>
  HWY_INLINE void FoldDuoPart(D d, Duo<D>& a, size_t at, size_t n) const {
    a = Map(LoadDuoPart<Layout::kEvenOdd>(d, p + at, n), a, [](V<D> v, V<D> sum) HWY_ATTR { return Fma(v, v, sum); });
  }
};

// Every leaf of a row of 129 to 1024 elements has from 64 to 128: a whole turn and a tail.
constexpr int kTurnAndTail = -1;

#if HWY_CAP_GE512
// LeafVector for those. Vectors have names, for an array that is written behind a branch would lie in memory; the branches are
// the same for every row.
template <class D, class T>
HWY_INLINE V<D> ShortLeaf(D d, const T* p, size_t length) {
  const auto square = [](V<D> v) HWY_ATTR { return hn::Mul(v, v); };
  const auto add_square = [](V<D> v, V<D> sum) HWY_ATTR { return Fma(v, v, sum); };
  const size_t tail = length - kLanes;
  const T* q = p + kLanes;
  if constexpr (kEvenOdd<T>) {
    constexpr size_t kPair = 2 * hn::MaxLanes(D());
    const hn::Repartition<uint16_t, D> d16;
    const auto part = [&](size_t at) HWY_ATTR {
      return SplitPairs(d, hn::MaskedLoad(hn::FirstN(d16, tail - at), d16, reinterpret_cast<const uint16_t*>(q + at)));
    };
    auto sum0 = Map(LoadDuo<Layout::kEvenOdd>(d, p), square), sum1 = Map(LoadDuo<Layout::kEvenOdd>(d, p + kPair), square);
    if (tail > 0) sum0 = Map(part(0), sum0, add_square);
    if (tail > kPair) sum1 = Map(part(kPair), sum1, add_square);
    return FoldAt<hn::MaxLanes(D()) / 2>(d, hn::Add(sum0.a, sum1.a), hn::Add(sum0.b, sum1.b));
  } else {
    constexpr size_t kWidth = hn::MaxLanes(D());
    const hn::Rebind<Raw<T>, D> ds;
    const auto part = [&](size_t at) HWY_ATTR {
      return WidenRaw<D, T>(d, hn::MaskedLoad(hn::FirstN(ds, tail - at), ds, reinterpret_cast<const Raw<T>*>(q + at)));
    };
    auto sum0 = square(LoadAs(d, p)), sum1 = square(LoadAs(d, p + kWidth));
    auto sum2 = square(LoadAs(d, p + 2 * kWidth)), sum3 = square(LoadAs(d, p + 3 * kWidth));
    if (tail > 0) sum0 = add_square(part(0), sum0);
    if (tail > kWidth) sum1 = add_square(part(kWidth), sum1);
    if (tail > 2 * kWidth) sum2 = add_square(part(2 * kWidth), sum2);
    if (tail > 3 * kWidth) sum3 = add_square(part(3 * kWidth), sum3);
    return hn::Add(hn::Add(sum0, sum2), hn::Add(sum1, sum3));
  }
}
#endif

// What is left of a leaf's 64 lanes after the additions of whole vectors. kTurns: the leaf has 64 * kTurns elements, a
// constant, so that no loop is left; 0: it has `length`; kTurnAndTail: so it has, from 64 to 128.
template <int kTurns, class D, class T, class Beside = Nothing>
HWY_INLINE V<D> LeafVector(D d, const T* p, size_t length, Beside&& beside = {}) {
  if constexpr (kTurns > 0) length = kTurns * kLanes;
#if HWY_CAP_GE512
  if constexpr (kTurns == kTurnAndTail) return ShortLeaf(d, p, length);
#endif
  if constexpr (kEvenOdd<T>) {
    return EvenOddLeaf<(kTurns > 0)>(d, EvenOddSquares{p}, length, beside);
  } else {
    return LeafInRegisters<(kTurns > 0)>(d, Squares<T>{p}, length, beside);
  }
}

template <int kLeaves, int kTurns, class T>
HWY_INLINE void NarrowRowSums(const T* x, int64_t stride, int64_t rows, const RowLeaves& row, float* HWY_RESTRICT sums) {
  const Tag<float> d;
  const auto leaf = [&](int64_t r, int64_t begin, size_t n, float* into) HWY_ATTR {
    const T* p = reinterpret_cast<const T*>(reinterpret_cast<const char*>(x) + r * stride);
    hn::Store(LeafVector<kTurns>(d, p + begin, n), d, into);
  };
  NarrowRowTotals<kLeaves, T, 1>(rows, row, leaf, {sums});
}

// kTurns: as for LeafVector, for every leaf.
template <int kTurns, class T>
HWY_INLINE float RowSumsOf(const T* x, int64_t stride, int64_t rows, const RowLeaves& row, float* HWY_RESTRICT sums) {
  if constexpr (kTurns <= 2) {  // longer leaves come in eights
    if (row.count <= 4) {
      if (row.count == 1) NarrowRowSums<1, kTurns>(x, stride, rows, row, sums);
      if (row.count == 2) NarrowRowSums<2, kTurns>(x, stride, rows, row, sums);
      if (row.count == 4) NarrowRowSums<4, kTurns>(x, stride, rows, row, sums);
      return sums[rows - 1];
    }
  }
  float sum = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const T* p = reinterpret_cast<const T*>(reinterpret_cast<const char*>(x) + r * stride);
    sum = RowTotal<T>(row, [p](auto d, int64_t begin, size_t n) HWY_ATTR { return LeafVector<kTurns>(d, p + begin, n); });
    sums[r] = sum;
  }
  return sum;
}

template <class T>
HWY_INLINE float RowSumsByLength(const T* x, int64_t stride, int64_t rows, const RowLeaves& row, float* HWY_RESTRICT sums) {
  if (row.count < 8 && row.leaves.cols > row.count * 2 * static_cast<int64_t>(kLanes)) {  // of a rank
    return RowSumsOf<0>(x, stride, rows, row, sums);
  }
  switch (row.length) {
    case 2 * kLanes: return RowSumsOf<2>(x, stride, rows, row, sums);
    case 4 * kLanes: return RowSumsOf<4>(x, stride, rows, row, sums);
    case 5 * kLanes: return RowSumsOf<5>(x, stride, rows, row, sums);
    case 6 * kLanes: return RowSumsOf<6>(x, stride, rows, row, sums);
    case 7 * kLanes: return RowSumsOf<7>(x, stride, rows, row, sums);
    case 8 * kLanes: return RowSumsOf<8>(x, stride, rows, row, sums);
    default: break;
  }
#if HWY_CAP_GE512
  if (row.count > 1 && row.leaves.cols <= 8 * 128) return RowSumsOf<kTurnAndTail>(x, stride, rows, row, sums);
#endif
  return RowSumsOf<0>(x, stride, rows, row, sums);
}

// The sum of a row of one leaf, which needs no memory on the way.
template <class T>
HWY_NOINLINE float LeafSum(const T* x, int64_t cols) {
  const Tag<float> d;
  return FoldLevels<T>(d, LeafVector<0>(d, x, static_cast<size_t>(cols)));
}

// The sum of a longer one, in a register: read back from `sums` it would have to wait for the store. Not inlined, nor are
// RowSums(): they have many loops, and every tuned kernel calls them.
template <class T>
HWY_NOINLINE float LeavesSum(const T* x, const RowLeaves& row) {
  HWY_ALIGN float sums[8];
  return RowSumsByLength(x, 0, 1, row, sums);
}

template <class T>
HWY_INLINE float RowSum(const T* x, const RowLeaves& row) {
  return row.count == 1 ? LeafSum(x, row.leaves.cols) : LeavesSum(x, row);
}

// Sums of squares of `rows` rows, `stride` bytes apart; whole vectors are written.
template <class T>
HWY_NOINLINE void RowSums(const T* x, int64_t stride, int64_t rows, const RowLeaves& row, float* HWY_RESTRICT sums) {
  if (rows == 1 && row.count == 1) {
    sums[0] = LeafSum(x, row.leaves.cols);
  } else {
    RowSumsByLength(x, stride, rows, row, sums);
  }
}

// The sum of squares of one row, while a row that comes later is fetched: with every 64 elements kTimes `step` bytes from
// `ahead` on. Nothing is read there, so it may lie past the last row.
template <size_t kTimes>
struct Fetch {
  const char* ahead;
  size_t step;
  HWY_INLINE void operator()() {
    HWY_UNROLL(4)
    for (size_t i = 0; i < kTimes; ++i) PrefetchFar(ahead + i * step);
    ahead += kTimes * step;
  }
};

// bytes: fetched with each line of the row.
template <class T>
HWY_NOINLINE float RowSumFetching(const T* x, const RowLeaves& row, const char* ahead, size_t bytes) {
  constexpr size_t kLines = kLanes * sizeof(T) / kLine, kTimes = sizeof(T) == 2 ? 1 : kLines;
  Fetch<kTimes> fetch = {ahead, bytes * kLines / kTimes};
  if (row.length == kMaxLeaf) {
    constexpr int kTurns = kMaxLeaf / kLanes;
    return RowTotal<T>(row, [&](auto d, int64_t at, size_t n) HWY_ATTR { return LeafVector<kTurns>(d, x + at, n, fetch); });
  }
  return RowTotal<T>(row, [&](auto d, int64_t at, size_t n) HWY_ATTR { return LeafVector<0>(d, x + at, n, fetch); });
}

#else

template <class T>
HWY_NOINLINE float LeafSum(const T* x, int64_t cols) {
  return LeafValue(Tag<float>(), Squares<T>{x}, static_cast<size_t>(cols));
}

template <class T>
HWY_NOINLINE float RowSum(const T* x, const RowLeaves& row) {
  LeafTree<float> tree;
  for (int64_t i = 0; i < row.count; ++i) {
    const int64_t begin = row.begin(i);
    tree.Push(LeafValue(Tag<float>(), Squares<T>{x + begin}, static_cast<size_t>(row.begin(i + 1) - begin)));
  }
  return tree.Total();
}

template <class T>
HWY_INLINE void RowSums(const T* x, int64_t stride, int64_t rows, const RowLeaves& row, float* HWY_RESTRICT sums) {
  for (int64_t r = 0; r < rows; ++r) {
    sums[r] = RowSum(reinterpret_cast<const T*>(reinterpret_cast<const char*>(x) + r * stride), row);
  }
}

#endif  // ISONORM_LEAF_NETWORK

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_ROW_SUMS_INL_H_
