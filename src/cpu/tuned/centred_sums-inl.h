// The statistics of LayerNorm for the tuned loops: the sum of a row, then the squares and the sum of what is left of its values
// without the mean, in the order of docs/numerics.md §1, and what follows from them by §2.
#if defined(ISONORM_CPU_TUNED_CENTRED_SUMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_CENTRED_SUMS_INL_H_
#undef ISONORM_CPU_TUNED_CENTRED_SUMS_INL_H_
#else
#define ISONORM_CPU_TUNED_CENTRED_SUMS_INL_H_
#endif

#include "cpu/plan.h"
#include "cpu/tuned/duo-inl.h"
#include "cpu/tuned/row_sums-inl.h"
#include "cpu/tuned/rstd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

#if ISONORM_LEAF_NETWORK
template <class T>
constexpr Layout kLeafLayout = kEvenOdd<T> ? Layout::kEvenOdd : Layout::kRuns;
#else
template <class T>
constexpr Layout kLeafLayout = Layout::kRuns;
#endif

// The first `count` elements of a duo, and zeros.
template <Layout kLayout, class D>
HWY_INLINE Duo<D> FirstOfDuo(D d, const Duo<D>& v, size_t count) {
  const size_t width = hn::Lanes(d), in_a = kLayout == Layout::kEvenOdd ? (count + 1) / 2 : std::min(count, width);
  return {hn::IfThenElseZero(hn::FirstN(d, in_a), v.a), hn::IfThenElseZero(hn::FirstN(d, count - in_a), v.b)};
}

// Values less their mean. One of two by a multiply-add: operations that all were additions would leave the other units idle.
template <Layout kLayout, bool kPart, class D>
HWY_INLINE Duo<D> DistancesOf(D d, const Duo<D>& v, float mean, size_t count) {
  const auto by = hn::Set(d, mean);
  const Duo<D> distance = {hn::Sub(v.a, by), Fma(v.b, hn::Set(d, 1.0f), hn::Neg(by))};
  if constexpr (kPart) return FirstOfDuo<kLayout>(d, distance, count);
  return distance;
}

// What a sweep over a leaf adds up, given two vectors of values, the first of which is the `at`-th of the leaf: the values, or
// their distances from the mean, alone or with the squares. What reads beside them has From(begin), for a leaf that begins
// there, and what fetches Fetch(at), for every 64 elements.
struct ValueSums {
  static constexpr int kSums = 1;
  template <Layout kLayout, bool kPart, class D>
  HWY_INLINE void Add(D, const Duo<D>& v, size_t, size_t, Duo<D> (&sum)[1]) const {
    sum[0] = Map(v, sum[0], [](V<D> of, V<D> to) HWY_ATTR { return hn::Add(to, of); });
  }
};
// While `step` bytes with every 64 elements are fetched; 16-bit types ask once for two lines.
template <class T>
struct FetchingValueSums : ValueSums {
  const char* ahead;
  size_t step;
  FetchingValueSums(const char* from, size_t bytes) : ahead(from), step(bytes) {}
  HWY_INLINE FetchingValueSums From(int64_t begin) const { return {ahead + static_cast<size_t>(begin) / kLanes * step, step}; }
  HWY_INLINE void Fetch(size_t at) const {
    constexpr size_t kTimes = sizeof(T) == 2 ? 1 : kLanes * sizeof(T) / kLine;
    HWY_UNROLL(4)
    for (size_t i = 0; i < kTimes; ++i) PrefetchFar(ahead + at / kLanes * step + i * step / kTimes);
  }
};
struct ShiftSums {
  static constexpr int kSums = 1;
  float mean;
  template <Layout kLayout, bool kPart, class D>
  HWY_INLINE void Add(D d, const Duo<D>& v, size_t, size_t count, Duo<D> (&sum)[1]) const {
    const auto distance = DistancesOf<kLayout, kPart>(d, v, mean, count);
    sum[0] = Map(distance, sum[0], [](V<D> of, V<D> to) HWY_ATTR { return hn::Add(to, of); });
  }
};
struct DistanceSums {
  static constexpr int kSums = 2;
  float mean;
  template <Layout kLayout, bool kPart, class D>
  HWY_INLINE void Add(D d, const Duo<D>& v, size_t, size_t count, Duo<D> (&sum)[2]) const {
    const auto distance = DistancesOf<kLayout, kPart>(d, v, mean, count);
    sum[0] = Map(distance, sum[0], [](V<D> of, V<D> to) HWY_ATTR { return Fma(of, of, to); });
    sum[1] = Map(distance, sum[1], [](V<D> of, V<D> to) HWY_ATTR { return hn::Add(to, of); });
  }
};

// What is left of a leaf's 64 lanes of each sum after the additions of whole vectors, in `vector`. kTurns: the leaf has
// 64 * kTurns elements; 0: it has `length`. Two sums that do not fit the registers take half of the lanes at a time.
template <int kTurns, class T, class Sums, class D>
HWY_INLINE void LeafOfSums(D d, const T* p, size_t length, const Sums& of, V<D> (&vector)[Sums::kSums]) {
  constexpr Layout kLayout = kLeafLayout<T>;
  constexpr int kSums = Sums::kSums;
  constexpr size_t kDuo = 2 * hn::MaxLanes(D()), kDuos = kLanes / kDuo;
  constexpr size_t kSweeps = !kLanesFit<D> || (kSums == 2 && !HWY_CAP_GE512) ? 2 : 1, kEach = kDuos / kSweeps;
  if constexpr (kTurns > 0) length = kTurns * kLanes;
  Duo<D> half[kEach][kSums];
  HWY_UNROLL(2)
  for (size_t sweep = 0; sweep < kSweeps; ++sweep) {
    Duo<D> sum[kEach][kSums];
    HWY_UNROLL(8)
    for (size_t k = 0; k < kEach; ++k) {
      HWY_UNROLL(2)
      for (int s = 0; s < kSums; ++s) sum[k][s] = {hn::Zero(d), hn::Zero(d)};
    }
    size_t at = sweep * kEach * kDuo;
    const auto turn = [&]() HWY_ATTR {
      HWY_UNROLL(8)
      for (size_t k = 0; k < kEach; ++k) {
        const size_t from = at + k * kDuo;
        of.template Add<kLayout, false>(d, LoadDuo<kLayout>(d, p + from), from, kDuo, sum[k]);
      }
      if constexpr (requires { of.Fetch(at); }) of.Fetch(at);
    };
    if constexpr (kTurns > 0) {
      HWY_UNROLL(8)
      for (; at < length; at += kLanes) turn();
    } else {
      for (; at + kEach * kDuo <= length; at += kLanes) turn();
      HWY_UNROLL(8)
      for (size_t k = 0; k < kEach; ++k) {
        const size_t from = at + k * kDuo;
        if (from + kDuo <= length) {
          of.template Add<kLayout, false>(d, LoadDuo<kLayout>(d, p + from), from, kDuo, sum[k]);
        } else if (from < length) {
          of.template Add<kLayout, true>(d, LoadDuoPart<kLayout>(d, p + from, length - from), from, length - from, sum[k]);
        }
      }
    }
    HWY_UNROLL(8)
    for (size_t k = 0; k < kEach; ++k) {
      HWY_UNROLL(2)
      for (int s = 0; s < kSums; ++s) {
        half[k][s] = sweep == 0
                         ? sum[k][s]
                         : Map(half[k][s], sum[k][s], [](V<D> left, V<D> right) HWY_ATTR { return hn::Add(left, right); });
      }
    }
  }
  HWY_UNROLL(3)
  for (size_t count = kEach / 2; count >= 1; count /= 2) {
    HWY_UNROLL(4)
    for (size_t k = 0; k < count; ++k) {
      HWY_UNROLL(2)
      for (int s = 0; s < kSums; ++s) {
        half[k][s] = Map(half[k][s], half[k + count][s], [](V<D> left, V<D> right) HWY_ATTR { return hn::Add(left, right); });
      }
    }
  }
  HWY_UNROLL(2)
  for (int s = 0; s < kSums; ++s) {
    vector[s] = kLayout == Layout::kEvenOdd ? FoldAt<hn::MaxLanes(D()) / 2>(d, half[0][s].a, half[0][s].b)
                                            : hn::Add(half[0][s].a, half[0][s].b);
  }
}

// The same for a leaf anywhere, into memory, the sums `apart` floats apart. Not inlined, for it is long.
template <int kTurns, class T, class Sums>
HWY_INLINE void StoreLeaf(const T* p, size_t length, const Sums& of, float* HWY_RESTRICT into, size_t apart) {
  const Tag<float> d;
  V<Tag<float>> vector[Sums::kSums];
  LeafOfSums<kTurns>(d, p, length, of, vector);
  HWY_UNROLL(2)
  for (size_t s = 0; s < Sums::kSums; ++s) hn::Store(vector[s], d, into + s * apart);
}
template <class T, class Sums>
HWY_NOINLINE void StoreAnyLeaf(const T* p, size_t length, Sums of, float* HWY_RESTRICT into, size_t apart) {
  if constexpr (!requires { of.From(0); }) {  // what all loops have
    if (length == 2 * kLanes) return StoreLeaf<2>(p, length, of, into, apart);
  }
  StoreLeaf<0>(p, length, of, into, apart);
}

template <class Sums>
HWY_INLINE Sums Beginning(const Sums& of, [[maybe_unused]] int64_t begin) {
  if constexpr (requires { of.From(begin); }) return of.From(begin);
  return of;
}

// Those sums of one row.
template <class T, class Sums>
HWY_INLINE void TotalsOfRow(const T* x, const RowLeaves& row, const Sums& of, float (&totals)[Sums::kSums]) {
  constexpr size_t kWidth = hn::MaxLanes(Tag<float>());
#if ISONORM_LEAF_NETWORK
  const auto leaf = [&](int64_t begin, size_t n, float* into)
                        HWY_ATTR { StoreAnyLeaf(x + begin, n, Beginning(of, begin), into, 8 * kWidth); };
  RowTotals<T, Sums::kSums>(row, leaf, totals);
#else
  LeafTree<float> tree[Sums::kSums];
  for (int64_t i = 0; i < row.count; ++i) {
    const int64_t begin = row.begin(i);
    HWY_ALIGN float vector[Sums::kSums * kWidth];
    StoreAnyLeaf(x + begin, static_cast<size_t>(row.begin(i + 1) - begin), Beginning(of, begin), vector, kWidth);
    for (size_t s = 0; s < Sums::kSums; ++s) tree[s].Push(FoldAll(Tag<float>(), hn::Load(Tag<float>(), vector + s * kWidth)));
  }
  for (int s = 0; s < Sums::kSums; ++s) totals[s] = tree[s].Total();
#endif
}

// Those sums of rows, `stride` bytes apart; of(row) says what of each. Whole vectors are written.
template <class T, int kSums, class Of>
HWY_INLINE void TotalsOfRows(const T* x, int64_t stride, int64_t rows, const RowLeaves& row, const Of& of,
                             float* const (&totals)[kSums]) {
  const auto at = [&](int64_t r) HWY_ATTR { return reinterpret_cast<const T*>(reinterpret_cast<const char*>(x) + r * stride); };
#if ISONORM_LEAF_NETWORK
  constexpr size_t kWidth = hn::MaxLanes(Tag<float>());
  if (row.length == 2 * kLanes && row.count == 1) {  // heads, mostly: no call and no branch
    const auto leaf = [&](int64_t r, int64_t, size_t n, float* into)
                          HWY_ATTR { StoreLeaf<2>(at(r), n, of(r), into, 8 * kWidth); };
    return NarrowRowTotals<1, T>(rows, row, leaf, totals);
  }
  const auto leaf = [&](int64_t r, int64_t begin, size_t n, float* into)
                        HWY_ATTR { StoreAnyLeaf(at(r) + begin, n, Beginning(of(r), begin), into, 8 * kWidth); };
  if (row.count == 1) return NarrowRowTotals<1, T>(rows, row, leaf, totals);
  if (row.count == 2) return NarrowRowTotals<2, T>(rows, row, leaf, totals);
  if (row.count == 4) return NarrowRowTotals<4, T>(rows, row, leaf, totals);
#endif
  for (int64_t r = 0; r < rows; ++r) {
    float of_row[kSums] = {};
    TotalsOfRow(at(r), row, of(r), of_row);
    HWY_UNROLL(2)
    for (int s = 0; s < kSums; ++s) totals[s][r] = of_row[s];
  }
}

// Not inlined: every kernel of the type calls them.
template <class T>
HWY_NOINLINE void SumsOfValues(const void* x, int64_t stride, int64_t rows, const RowLeaves& row, float* HWY_RESTRICT sums) {
  const auto of = [](int64_t) HWY_ATTR { return ValueSums(); };
  TotalsOfRows(static_cast<const T*>(x), stride, rows, row, of, {sums});
}
template <class T>
HWY_NOINLINE float SumFetchingRow(const void* x, const RowLeaves& row, const char* ahead, size_t bytes) {
  const FetchingValueSums<T> of(ahead, bytes * (kLanes * sizeof(T) / kLine));
  float total[1];
  TotalsOfRow(static_cast<const T*>(x), row, of, total);
  return total[0];
}
template <class T>
HWY_NOINLINE void SumsOfDistances(const void* x, int64_t stride, int64_t rows, const RowLeaves& row,
                                  const float* HWY_RESTRICT means, float* HWY_RESTRICT squares, float* HWY_RESTRICT shifts) {
  const auto of = [means](int64_t r) HWY_ATTR { return DistanceSums{means[r]}; };
  TotalsOfRows(static_cast<const T*>(x), stride, rows, row, of, {squares, shifts});
}

// Sums to means. A sum ends with + 0.
HWY_NOINLINE inline void ToMeans(const Norm& norm, int64_t rows, float* HWY_RESTRICT sums) {
  if (rows == 1) {
    sums[0] = MeanOfSum(sums[0] + 0.0f, norm.count);
    return;
  }
  const EightSums d;
  for (size_t i = 0; i < static_cast<size_t>(rows); i += hn::Lanes(d)) {
    hn::StoreU(MeanOfSum(hn::Add(hn::LoadU(d, sums + i), hn::Zero(d)), norm.count), d, sums + i);
  }
}
// From the squares and means of distances. Squares become NaN, which is in no range, where c might be so large that its
// rounding to f16 is infinite, as it is where next to nothing but rounding errors is left of a row and eps is 0: |c| is at most
// 2 * sqrt(squares) * r, here 2^15.
HWY_NOINLINE inline void RstdOfDistances(const Norm& norm, int64_t rows, const float* HWY_RESTRICT shifts,
                                         float* HWY_RESTRICT squares, float* HWY_RESTRICT r) {
  if (rows == 1) {
    const float m = std::fma(-shifts[0], shifts[0], MeanOfSum(squares[0], norm.count));
    r[0] = RstdOfMean(m < 0 ? 0.0f : m, norm);
    if (!(squares[0] * r[0] * r[0] <= 0x1p28f)) squares[0] = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  const EightSums d;
  const auto zero = hn::Zero(d), nan = hn::Set(d, std::numeric_limits<float>::quiet_NaN());
  for (size_t i = 0; i < static_cast<size_t>(rows); i += hn::Lanes(d)) {
    const auto shift = hn::LoadU(d, shifts + i), sum = hn::LoadU(d, squares + i);
    const auto m = NegFma(shift, shift, MeanOfSum(sum, norm.count));
    const auto rstd = RstdOfMean(hn::IfThenElse(hn::Lt(m, zero), zero, m), norm);
    const auto small = hn::Le(hn::Mul(hn::Mul(sum, rstd), rstd), hn::Set(d, 0x1p28f));
    hn::StoreU(hn::IfThenElse(small, sum, nan), d, squares + i);
    hn::StoreU(rstd, d, r + i);
  }
}

// Those of rows that ranks share.
HWY_NOINLINE inline void TakeShared(const Shard& shard, int64_t first, int64_t rows, float* HWY_RESTRICT sums,
                                    float* HWY_RESTRICT squares, float* HWY_RESTRICT shifts) {
  for (int64_t i = 0; i < rows; ++i) {
    const auto of = shard.SumsOf<float>(first + i);
    sums[i] = of.sum;
    shifts[i] = of.shift;
    squares[i] = of.scaled() ? std::numeric_limits<float>::quiet_NaN() : of.squares;
  }
}

// The sums for a type of x, so that what is around them need not know it.
struct CentredSums {
  void (*values)(const void* x, int64_t stride, int64_t rows, const RowLeaves& row, float* HWY_RESTRICT sums);
  void (*distances)(const void* x, int64_t stride, int64_t rows, const RowLeaves& row, const float* HWY_RESTRICT means,
                    float* HWY_RESTRICT squares, float* HWY_RESTRICT shifts);
  float (*fetching)(const void* x, const RowLeaves& row, const char* ahead, size_t bytes);  // the sum of one row's values
  template <class T>
  static CentredSums Of() {
    return {SumsOfValues<T>, SumsOfDistances<T>, SumFetchingRow<T>};
  }
};

// Rows as they lie; the plan is that of the sink.
class CentredRows {
 public:
  CentredRows(const Call& call, const Run& run, const CentredSums& sums, const FetchPlan& plan)
      : run_(run), leaves_(call.cols), sums_(sums), plan_(plan) {}
  HWY_INLINE void Make(int64_t) const {}
  HWY_INLINE void Values(int64_t first, int64_t rows, float* sums) const {
    if (rows == 1 && plan_.in_sum != 0) {
      sums[0] = sums_.fetching(X(first), leaves_, static_cast<const char*>(X(first + plan_.distance)), plan_.in_sum);
      return;
    }
    sums_.values(X(first), run_.stride[kX], rows, leaves_, sums);
  }
  HWY_INLINE void Distances(int64_t first, int64_t rows, const float* means, float* squares, float* shifts) const {
    sums_.distances(X(first), run_.stride[kX], rows, leaves_, means, squares, shifts);
  }

 private:
  HWY_INLINE const void* X(int64_t row) const { return run_.data[kX] + row * run_.stride[kX]; }

  const Run& run_;
  const RowLeaves leaves_;
  const CentredSums sums_;
  const FetchPlan& plan_;
};

// What the sink is given of some rows.
struct CentredOfRows {
  const float *mean, *shift, *r;
};

// What the call stores of each row, in the type that it has there.
HWY_NOINLINE inline void StorePerRow(const Call& call, const Run& run, RowTensor tensor, int64_t first, int64_t rows,
                                     const float* values) {
  for (int64_t i = 0; i < rows; ++i) {
    StoreScalar(values[i], run.data[tensor] + (first + i) * run.stride[tensor], call.type[tensor], 0);
  }
}

// The statistics of up to kRows rows of LayerNorm, for the row loop (docs/numerics.md §2).
template <int64_t kRows>
class CentredStatistics {
 public:
  using OfRows = CentredOfRows;
  explicit CentredStatistics(const Call& call) : call_(call), range_(call.norm) {}

  template <class Source>
  HWY_INLINE void Take(const Call& call, const Run& run, int64_t first, int64_t rows, const Source& source) {
    if (HWY_LIKELY(call.shard == nullptr)) {
      source.Values(first, rows, mean_);
      ToMeans(call.norm, rows, mean_);
      source.Distances(first, rows, mean_, squares_, shift_);
    } else {
      TakeShared(*call.shard, run.first + first, rows, mean_, squares_, shift_);
      ToMeans(call.norm, rows, mean_);
    }
    ToMeans(call.norm, rows, shift_);
    RstdOfDistances(call.norm, rows, shift_, squares_, r_);
  }
  HWY_INLINE bool Tame(int64_t rows) const { return range_.HoldsAll(squares_, rows); }
  HWY_INLINE OfRows From(int64_t row) const { return {mean_ + row, shift_ + row, r_ + row}; }
  HWY_INLINE void Store(const Run& run, int64_t first, int64_t rows, const OfRows& of) const {
    if (run.data[kRstd] != nullptr) StorePerRow(call_, run, kRstd, first, rows, of.r);
    if (run.data[kMean] != nullptr) StorePerRow(call_, run, kMean, first, rows, of.mean);
  }

 private:
  const Call& call_;
  const TameRange range_;
  HWY_ALIGN float mean_[kBlockRows] = {};
  HWY_ALIGN float shift_[kBlockRows] = {};
  HWY_ALIGN float squares_[kBlockRows] = {};
  HWY_ALIGN float r_[kBlockRows];
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_CENTRED_SUMS_INL_H_
