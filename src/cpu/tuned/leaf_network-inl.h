// Sums of a row by its leaves, for the tuned loops, whatever is added up. Where vectors have 8 or more lanes, eight leaves (of
// one row or of several) go through the lane tree and the lower leaf tree together in one network.
#if defined(ISONORM_CPU_TUNED_LEAF_NETWORK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_LEAF_NETWORK_INL_H_
#undef ISONORM_CPU_TUNED_LEAF_NETWORK_INL_H_
#else
#define ISONORM_CPU_TUNED_LEAF_NETWORK_INL_H_
#endif

#include <algorithm>

#include "cpu/tuned/duo-inl.h"
#include "cpu/vector/sum-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// The leaves of a call's rows, with what is the same for all of them taken out of the loops.
struct RowLeaves {
  explicit RowLeaves(int64_t cols) : RowLeaves(LeavesOf(cols)) {}
  // Those of a rank's columns may be fewer and longer than a row of as many columns has.
  explicit RowLeaves(const Leaves& of) : leaves(of), count(of.count()), length(of.equal() ? of.cols >> of.depth : 0) {}
  int64_t begin(int64_t i) const { return length != 0 ? i * length : leaves.begin(i); }

  Leaves leaves;
  int64_t count;
  int64_t length;  // of every leaf; 0 if they differ
};

#undef ISONORM_LEAF_NETWORK
#if ISONORM_FIXED_VECTORS && (HWY_CAP_GE256 || HWY_CAP_GE512)
#define ISONORM_LEAF_NETWORK 1

// bf16 leaves keep even and odd elements in two vectors: one load feeds both, and no permutation is needed. The widest stride
// that is left then lies between the two, so one fold merges them and the even/odd stride comes last.
template <class T>
constexpr bool kEvenOdd = std::is_same_v<T, Bf16>;

template <bool kConstant = false, class D, class Term, class Beside = Nothing>
HWY_INLINE V<D> EvenOddLeaf(D d, const Term& term, size_t length, Beside&& beside = {}) {
  constexpr size_t kWidth = hn::MaxLanes(D()), kPairs = kLanes / (2 * kWidth);
  Duo<D> sum[kPairs];
  HWY_UNROLL(4)
  for (size_t j = 0; j < kPairs; ++j) sum[j] = {hn::Zero(d), hn::Zero(d)};
  size_t at = 0;
  if constexpr (kConstant) {
    HWY_UNROLL(8)
    for (; at < length; at += kLanes) {
      HWY_UNROLL(4)
      for (size_t j = 0; j < kPairs; ++j) term.FoldDuo(d, sum[j], at + 2 * j * kWidth);
      beside();
    }
  } else {
    for (; at + kLanes <= length; at += kLanes) {
      HWY_UNROLL(4)
      for (size_t j = 0; j < kPairs; ++j) term.FoldDuo(d, sum[j], at + 2 * j * kWidth);
      beside();
    }
  }
  if (at < length) {
    HWY_UNROLL(4)
    for (size_t j = 0; j < kPairs; ++j) {
      const size_t from = at + 2 * j * kWidth;
#if HWY_MEM_OPS_MIGHT_FAULT
      if (from + 2 * kWidth <= length) {
        term.FoldDuo(d, sum[j], from);
      } else if (from < length) {
        term.FoldDuoPart(d, sum[j], from, length - from);
      }
#else  // as in LeafInRegisters
      term.FoldDuoPart(d, sum[j], from, std::min(2 * kWidth, length - std::min(from, length)));
#endif
    }
    beside();
  }
  HWY_UNROLL(2)
  for (size_t half = kPairs / 2; half >= 1; half /= 2) {
    HWY_UNROLL(2)
    for (size_t j = 0; j < half; ++j) {
      sum[j] = Map(sum[j], sum[j + half], [](V<D> left, V<D> right) HWY_ATTR { return hn::Add(left, right); });
    }
  }
  return FoldAt<kWidth / 2>(d, sum[0].a, sum[0].b);
}

// Strides of the levels that are left, in the order in which the lane tree folds them; 0 for none.
template <class D, class T>
struct Levels {
  static constexpr size_t kTop = hn::MaxLanes(D()) / 2;
  static constexpr size_t k0 = kEvenOdd<T> ? kTop / 2 : kTop;
  static constexpr size_t k1 = k0 / 2;
  static constexpr size_t k2 = kEvenOdd<T> && k1 == 1 ? kTop : k1 / 2;
  static constexpr size_t k3 = kTop == 4 ? 0 : (kEvenOdd<T> ? kTop : 1);
  // The lane in which the network leaves leaf i of 8.
  static constexpr size_t LaneOf(size_t i) { return (i & 1 ? k0 : 0) + (i & 2 ? k1 : 0) + (i & 4 ? k2 : 0); }
};

// Zeros that a compiler cannot see: of stores of zeros g++ makes `rep stos`, and what that wrote cannot be loaded before it,
// and every streaming store in front of it, has left the core: 105 ns for each row of 512 on a Zen 5.
template <class D>
HWY_INLINE V<D> HiddenZero(D d) {
  auto zero = hn::Zero(d);
#if HWY_ARCH_X86
  __asm__("" : "+v"(zero.raw));
#endif
  return zero;
}

// Eight leaf vectors to eight leaf values.
template <class T, class D>
HWY_INLINE V<D> LeafNetwork(D d, const float* HWY_RESTRICT leaf) {
  using L = Levels<D, T>;
  constexpr size_t kWidth = hn::MaxLanes(D());
  const auto load = [&](size_t i) HWY_ATTR { return hn::Load(d, leaf + i * kWidth); };
  const auto a = FoldAt<L::k1>(d, FoldAt<L::k0>(d, load(0), load(1)), FoldAt<L::k0>(d, load(2), load(3)));
  const auto b = FoldAt<L::k1>(d, FoldAt<L::k0>(d, load(4), load(5)), FoldAt<L::k0>(d, load(6), load(7)));
  auto values = FoldAt<L::k2>(d, a, b);
  if constexpr (L::k3 != 0) values = FoldSelf<L::k3>(d, values);
  return values;
}

// A single leaf vector to its value.
template <class T, class D>
HWY_INLINE float FoldLevels(D d, V<D> v) {
  using L = Levels<D, T>;
  v = FoldSelf<L::k2>(d, FoldSelf<L::k1>(d, FoldSelf<L::k0>(d, v)));
  if constexpr (L::k3 != 0) v = FoldSelf<L::k3>(d, v);
  return hn::GetLane(v);
}

// Up to eight leaf vectors of a row of `leaves` to the sum of those leaves.
template <class T>
HWY_INLINE float FoldLeaves(const float* HWY_RESTRICT vectors, int64_t leaves) {
  const Tag<float> d;
  using L = Levels<Tag<float>, T>;
  auto values = LeafNetwork<T>(d, vectors);
  if (leaves >= 2) values = FoldSelf<L::k0>(d, values);
  if (leaves >= 4) values = FoldSelf<L::k1>(d, values);
  if (leaves >= 8) values = FoldSelf<L::k2>(d, values);
  return hn::GetLane(values);
}

// Sums of one row. leaf(begin, length, into) stores a leaf's vectors in the layout that T has, one for each of kSums, eight
// vectors apart.
template <class T, int kSums, class Leaf>
HWY_INLINE void RowTotals(const RowLeaves& row, const Leaf& leaf, float* HWY_RESTRICT totals) {
  const Tag<float> d;
  constexpr size_t kWidth = hn::MaxLanes(Tag<float>());
  HWY_ALIGN float vectors[kSums * 8 * kWidth];
  LeafTree<float> tree[kSums];
  int64_t begin = 0;
  for (int64_t first = 0; first < row.count; first += 8) {
    const int64_t count = std::min<int64_t>(row.count - first, 8);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t end = row.begin(first + i + 1);
      leaf(begin, static_cast<size_t>(end - begin), vectors + static_cast<size_t>(i) * kWidth);
      begin = end;
    }
    const auto zero = HiddenZero(d);
    HWY_UNROLL(2)
    for (int sum = 0; sum < kSums; ++sum) {
      float* const of_sum = vectors + static_cast<size_t>(sum) * 8 * kWidth;
      if (row.count == 1) {
        totals[sum] = FoldLevels<T>(d, hn::Load(d, of_sum));
        continue;
      }
      for (auto i = static_cast<size_t>(count); i < 8; ++i) hn::Store(zero, d, of_sum + i * kWidth);
      const float of_leaves = FoldLeaves<T>(of_sum, row.count);
      if (row.count <= 8) {
        totals[sum] = of_leaves;
      } else {
        tree[sum].Push(of_leaves);
      }
    }
  }
  if (row.count <= 8) return;
  HWY_UNROLL(2)
  for (int sum = 0; sum < kSums; ++sum) totals[sum] = tree[sum].Total();
}

// Its only sum. leaf(d, begin, length) gives a leaf's vector.
template <class T, class Leaf>
HWY_INLINE float RowTotal(const RowLeaves& row, const Leaf& leaf) {
  const Tag<float> d;
  float total = 0;
  RowTotals<T, 1>(
      row, [&](int64_t begin, size_t n, float* into) HWY_ATTR { hn::Store(leaf(d, begin, n), d, into); }, &total);
  return total;
}

// Rows of kLeaves leaves, 1, 2 or 4, share a network. leaf(row, begin, length, into) stores as for RowTotals. Sums of rows up
// to the next full network are written too, without meaning.
template <int kLeaves, class T, int kSums, class Leaf>
HWY_INLINE void NarrowRowTotals(int64_t rows, const RowLeaves& row, const Leaf& leaf, float* const (&sums)[kSums]) {
  const Tag<float> d;
  constexpr size_t kWidth = hn::MaxLanes(Tag<float>());
  constexpr int64_t kRows = 8 / kLeaves;
  using L = Levels<Tag<float>, T>;
  HWY_ALIGN float vectors[kSums * 8 * kWidth];
  const auto zero = HiddenZero(d);
  HWY_UNROLL(16)
  for (size_t i = 0; i < kSums * 8; ++i) hn::Store(zero, d, vectors + i * kWidth);
  HWY_ALIGN float values_of[kWidth];
  for (int64_t first = 0; first < rows; first += kRows) {
    const int64_t count = std::min(kRows, rows - first);
    float* into = vectors;
    for (int64_t r = 0; r < count; ++r) {
      int64_t begin = 0;
      for (int64_t i = 0; i < kLeaves; ++i, into += kWidth) {
        const int64_t end = row.begin(i + 1);
        leaf(first + r, begin, static_cast<size_t>(end - begin), into);
        begin = end;
      }
    }
    HWY_UNROLL(2)
    for (int sum = 0; sum < kSums; ++sum) {
      auto values = LeafNetwork<T>(d, vectors + static_cast<size_t>(sum) * 8 * kWidth);
      if (kLeaves >= 2) values = FoldSelf<L::k0>(d, values);
      if (kLeaves >= 4) values = FoldSelf<L::k1>(d, values);
      hn::Store(values, d, values_of);
      HWY_UNROLL(8)
      for (size_t r = 0; r < kRows; ++r) sums[sum][first + static_cast<int64_t>(r)] = values_of[L::LaneOf(r * kLeaves)];
    }
  }
}

#else
#define ISONORM_LEAF_NETWORK 0
#endif

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_LEAF_NETWORK_INL_H_
