// The tuned backward of LayerNorm, with any weight: x and dy in, dx and the sums of dweight and dbias out. Of each row first
// the sums: what the rounding of the mean left over, or all statistics where none are saved, then the dot product and the sum
// of dy * weight; then two rows at a time column by column, so that weight and sums are read once for both.
#if defined(ISONORM_CPU_TUNED_CENTRED_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_CENTRED_BACKWARD_INL_H_
#undef ISONORM_CPU_TUNED_CENTRED_BACKWARD_INL_H_
#else
#define ISONORM_CPU_TUNED_CENTRED_BACKWARD_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/choose.h"
#include "cpu/general/general-inl.h"
#include "cpu/tuned/centred_sums-inl.h"
#include "cpu/tuned/gradient_loop-inl.h"
#include "cpu/tuned/pieces-inl.h"
#include "cpu/tuned/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// Terms of sums over a row.

// g = dy * weight.
template <class T>
struct Upstream {
  const T* dy;
  const float* w;

  HWY_INLINE Upstream From(int64_t at) const { return {dy + at, w + at}; }
  template <class D>
  HWY_INLINE V<D> Of(D d, size_t at) const {
    return hn::Mul(LoadAs(d, dy + at), hn::LoadU(d, w + at));
  }
  template <class D>
  HWY_INLINE V<D> OfPart(D d, size_t at, size_t n) const {
    return hn::Mul(LoadAsPart(d, dy + at, n), LoadPart(d, w + at, n));
  }
  template <class D>
  HWY_INLINE V<D> Full(D d, V<D> a, size_t at) const {
    return hn::Add(a, Of(d, at));
  }
  template <class D>
  HWY_INLINE V<D> Part(D d, V<D> a, size_t at, size_t n) const {
    return hn::Add(a, OfPart(d, at, n));
  }
};

// What a row is made of: c = ((x - mean) - shift) * r.
struct Centred {
  float mean, shift, r;
  template <class D>
  HWY_INLINE V<D> C(D d, V<D> x) const {
    return hn::Mul(hn::Sub(hn::Sub(x, hn::Set(d, mean)), hn::Set(d, shift)), hn::Set(d, r));
  }
};

// g * c. Behind the row g is 0, and a c that is infinite there hands the row to the general path.
template <class T>
struct CentredProducts {
  const T* x;
  Upstream<T> g;
  Centred row;

  HWY_INLINE CentredProducts From(int64_t at) const { return {x + at, g.From(at), row}; }
  template <class D>
  HWY_INLINE V<D> Full(D d, V<D> a, size_t at) const {
    return Fma(g.Of(d, at), row.C(d, LoadAs(d, x + at)), a);
  }
  template <class D>
  HWY_INLINE V<D> Part(D d, V<D> a, size_t at, size_t n) const {
    return Fma(g.OfPart(d, at, n), row.C(d, LoadAsPart(d, x + at, n)), a);
  }
};

// Sums over a row of one term or of two, leaf by leaf, so that what one has read is in the cache for the other: both at once
// would not fit the registers.
template <class... Terms>
HWY_INLINE void TotalsOf(const RowLeaves& row, float* totals, const Terms&... terms) {
  LeafTree<float> trees[sizeof...(Terms)];
  for (int64_t i = 0; i < row.count; ++i) {
    const int64_t begin = row.begin(i);
    const auto n = static_cast<size_t>(row.begin(i + 1) - begin);
    LeafTree<float>* tree = trees;
    (tree++->Push(LeafValue(Tag<float>(), terms.From(begin), n)), ...);
  }
  for (size_t k = 0; k < sizeof...(Terms); ++k) totals[k] = trees[k].Total() + 0.0f;
}

// Columns of rows on their way to dx = r * ((dy * weight - mean_g) - c * f), dweight += dy * round(c) and dbias += dy. dx,
// dweight and dbias may be null.
template <class T, int kRows>
struct CentredGradientColumns {
  const T *x[kRows], *dy[kRows];
  T* dx[kRows];
  Centred row[kRows];
  float f[kRows], mean_g[kRows];
  const float* weight;
  float *dweight, *dbias;
  bool rounds;  // c to T

  template <bool kPart>
  HWY_INLINE void Step(size_t i, size_t n) const {
    constexpr Layout kRuns = Layout::kRuns;
    const Tag<float> d;
    auto w = Duo<Tag<float>>{hn::Zero(d), hn::Zero(d)}, to_weight = w, to_bias = w;
    Duo<Tag<float>> t[kRows];
    if (dx[0] != nullptr) w = TakeDuo<kPart, kRuns>(weight + i, n);
    if (dweight != nullptr) to_weight = TakeDuo<kPart, kRuns>(dweight + i, n);
    if (dbias != nullptr) to_bias = TakeDuo<kPart, kRuns>(dbias + i, n);
    HWY_UNROLL(2)
    for (int k = 0; k < kRows; ++k) {
      const auto v = TakeDuo<kPart, kRuns>(dy[k] + i, n);
      const auto c = Map(TakeDuo<kPart, kRuns>(x[k] + i, n), [&](V<Tag<float>> of) HWY_ATTR { return row[k].C(d, of); });
      if (dbias != nullptr) {
        to_bias = Map(v, to_bias, [](V<Tag<float>> of, V<Tag<float>> a) HWY_ATTR { return hn::Add(a, of); });
      }
      if (dweight != nullptr) {
        auto by = c;
        if constexpr (sizeof(T) == 2) {
          if (rounds) by = Map(c, [&](V<Tag<float>> of) HWY_ATTR { return RoundThrough<T, Nans::kNone>(d, of); });
        }
        to_weight = Map(v, by, to_weight,
                        [](V<Tag<float>> of, V<Tag<float>> times, V<Tag<float>> a) HWY_ATTR { return Fma(of, times, a); });
      }
      if (dx[0] != nullptr) {
        const auto r = hn::Set(d, row[k].r), factor = hn::Set(d, f[k]), mean = hn::Set(d, mean_g[k]);
        t[k] = Map(v, w, c, [&](V<Tag<float>> of, V<Tag<float>> times, V<Tag<float>> c_of) HWY_ATTR {
          return hn::Mul(r, NegFma(c_of, factor, hn::Sub(hn::Mul(of, times), mean)));
        });
      }
    }
    // No load comes behind these that might lie at the same place in a page, as rows often do, and wait.
    if (dx[0] != nullptr) {
      HWY_UNROLL(2)
      for (int k = 0; k < kRows; ++k) PutDuo<kPart, kRuns, Nans::kNone>(t[k], dx[k] + i, n);
    }
    // NaNs become canonical where the sums are stored.
    if (dweight != nullptr) PutDuo<kPart, kRuns, Nans::kNone>(to_weight, dweight + i, n);
    if (dbias != nullptr) PutDuo<kPart, kRuns, Nans::kNone>(to_bias, dbias + i, n);
  }
};

template <class T>
class CentredGradientRows {
  static constexpr int kFew = 2, kMany = kShortGradients;
  // Bytes of a call from which on rows are fetched ahead though stores are ordinary: the last cache has them no longer, or
  // late, and each of three sweeps waits for it. Measured: 12 MB and 24 MB take 0.75 of the time so, 6 MB 1.15.
  static constexpr int64_t kLarge = 8 << 20;

 public:
  CentredGradientRows(const Call& call, const isonorm::Run& run, const ColumnSums& sums)
      : call_(call),
        run_(run),
        sums_(sums),
        norm_(call.norm),
        leaves_(call.cols),
        cols_(static_cast<size_t>(call.cols)),
        flow_(FlowOf(call, run.data[kDx] == run.data[kX] ? run.data[kX] : run.data[kDy], run.data[kDx])),
        fetching_(flow_ == Flow::kCached && RowBytes(call) + call.bytes_beside >= kLarge ? Flow::kInPlace : flow_),
        saved_(run.data[kRstd] != nullptr && run.data[kMean] != nullptr && !norm_.eps_outside),
        weight_(WeightIsInPlace(call) ? static_cast<const float*>(call.weight) : room_) {
    if (weight_ == room_) WidenWeight(call, room_);
  }

  void Run() {
    call_.cols* static_cast<int64_t>(sizeof(T)) <= kShortGradient ? GradientLoop<kMany, kFew>(run_.count, *this)
                                                                  : GradientLoop<kFew, kFew>(run_.count, *this);
    if (flow_ == Flow::kStreamed) hwy::FlushStream();
  }

  // The parts of the loop.
  HWY_NOINLINE void Find(int64_t first, int count, bool* tame) {
    for (int i = 0; i < count; ++i) tame[i] = FindSaved(first + i, found_[i]);
    for (int i = 0; i < count; ++i) tame[i] = tame[i] ? FindShift(found_[i]) : FindStatistic(first + i, found_[i]);
    if (run_.data[kDx] == nullptr) return;
    float sums[kMany][2] = {};
    for (int i = 0; i < count; ++i) Dot(first + i, found_[i].centred, sums[i]);
    for (int i = 0; i < count; ++i) {
      Found& row = found_[i];
      row.f = norm_.Factor(sums[i][0], row.q, row.centred.r);
      row.mean_g = Mean(sums[i][1], norm_.count);
      // Finite sums have finite terms, so every dy and weight is finite, and no dx will be NaN.
      tame[i] = tame[i] && IsFinite(sums[i][0]) && IsFinite(sums[i][1]) && IsFinite(row.f);
    }
  }
  template <int kRows>
  HWY_INLINE void Write(int64_t row, int first) const {
    WriteRows<kRows>(row, first);
  }
  HWY_NOINLINE void General(int64_t row) const {
    char* data[kRowTensors];
    GeneralBackward(call_, OneRow(run_, row, data), sums_);
  }

 private:
  struct Found {
    Centred centred;
    float q, f, mean_g;
  };

  static bool IsFinite(float v) { return std::fabs(v) <= std::numeric_limits<float>::max(); }

  HWY_INLINE const T* X(int64_t row) const { return At<const T>(run_, kX, row); }
  HWY_INLINE const T* Dy(int64_t row) const { return At<const T>(run_, kDy, row); }

  // What was saved, of any type, and the sum of distances from that mean in place of the shift; false: it says too little.
  HWY_INLINE bool FindSaved(int64_t row, Found& found) const {
    found = {};
    if (!saved_) return false;
    const auto r = LoadScalar<float>(At<const char>(run_, kRstd, row), call_.type[kRstd], 0);
    const auto mean = LoadScalar<float>(At<const char>(run_, kMean, row), call_.type[kMean], 0);
    if (!Norm::Takes(r) || !Norm::TakesMean(mean)) return false;
    found.centred = {mean, SumOfDistances(row, mean), r};
    return true;
  }
  HWY_INLINE bool FindShift(Found& found) const {
    const float sum = found.centred.shift;
    found.centred.shift = Mean(sum, norm_.count);
    return IsFinite(sum);
  }
  HWY_NOINLINE bool FindStatistic(int64_t row, Found& found) const {
    RowStatistic<float> sums = {};
    float of_values[1], of_distances[2];
    TotalsOfRow(X(row), leaves_, ValueSums(), of_values);
    sums.sum = of_values[0] + 0.0f;
    TotalsOfRow(X(row), leaves_, DistanceSums{norm_.MeanOf(sums)}, of_distances);
    sums.squares = of_distances[0];
    sums.shift = of_distances[1] + 0.0f;
    if (norm_.AskForScaling(sums)) return false;
    const RowNorm<float> of = norm_.Finish(sums);
    found.centred = {of.mean, of.shift, of.r};
    found.q = of.q;
    return IsFinite(of.r);  // it is not where nothing is left of a row and eps is 0
  }

  // Not inlined, for they have several loops.
  HWY_NOINLINE float SumOfDistances(int64_t row, float mean) const {
    float sum[1];
    TotalsOfRow(X(row), leaves_, ShiftSums{mean}, sum);
    return sum[0] + 0.0f;
  }
  // Of g and c, and the sum of g.
  HWY_NOINLINE void Dot(int64_t row, const Centred& centred, float* sums) const {
    const Upstream<T> g = {Dy(row), weight_};
    TotalsOf(leaves_, sums, CentredProducts<T>{X(row), g, centred}, g);
  }

  template <int kTogether>
  HWY_NOINLINE void WriteRows(int64_t row, int first) const {
    if (kTogether > 1 && flow_ == Flow::kStreamed) {
      for (int i = 0; i < kTogether; ++i) WriteRows<1>(row + i, first + i);
      return;
    }
    CentredGradientColumns<T, kTogether> columns;
    columns.weight = weight_;
    columns.dweight = static_cast<float*>(sums_.dweight);
    columns.dbias = static_cast<float*>(sums_.dbias);
    columns.rounds = call_.scaled_type != Type::kNone;
    for (int i = 0; i < kTogether; ++i) {
      const Found& of = found_[first + i];
      columns.x[i] = X(row + i);
      columns.dy[i] = Dy(row + i);
      columns.dx[i] = run_.data[kDx] == nullptr ? nullptr : At<T>(run_, kDx, row + i);
      columns.row[i] = of.centred;
      columns.f[i] = of.f;
      columns.mean_g[i] = of.mean_g;
    }
    const auto next = Next<kTogether>(row);
    if constexpr (kTogether == 1) {
      if (columns.dx[0] != nullptr) return WriteInRowPieces(columns, next);
    }
    ColumnLoop(columns, cols_, next);
  }

  // The rows that come after those from `row` on: x and dy of each.
  template <int kTogether>
  HWY_INLINE NextRows<T, 2 * kTogether> Next(int64_t row) const {
    const int64_t ahead = row + kFew;
    if constexpr (kTogether == 1) {
      return NextRows<T, 2>::Of(run_, {kX, kDy}, ahead, call_.cols, fetching_);
    } else {
      auto next = NextRows<T, 4>::Of(run_, {kX, kDy, kX, kDy}, ahead, call_.cols, fetching_);
      next.row[2] += run_.stride[kX];
      next.row[3] += run_.stride[kDy];
      return next;
    }
  }

  HWY_INLINE void WriteInRowPieces(const CentredGradientColumns<T, 1>& row, const NextRows<T, 2>& next) const {
    WriteInPieces(row.dx[0], cols_, flow_, [&](size_t i, size_t n, T* to) HWY_ATTR {
      CentredGradientColumns<T, 1> piece = row;
      piece.x[0] += i;
      piece.dy[0] += i;
      piece.dx[0] = to;
      piece.weight += i;
      if (piece.dweight != nullptr) piece.dweight += i;
      if (piece.dbias != nullptr) piece.dbias += i;
      ColumnLoop(piece, n, next.From(i));
    });
  }

  const Call& call_;
  const isonorm::Run& run_;
  const ColumnSums& sums_;
  const Norm norm_;  // a copy, because the compiler would read that of the call again after each store
  const RowLeaves leaves_;
  const size_t cols_;
  const Flow flow_;
  const Flow fetching_;  // as which rows are fetched
  const bool saved_;
  const float* const weight_;
  Found found_[kMany];
  HWY_ALIGN float room_[kMostColumns];
};

template <class T>
void CentredBackward(const Call& call, const Run& run, const ColumnSums& sums) {
  CentredGradientRows<T>(call, run, sums).Run();
}

// The loops find the weight in f32, and take dy's and dx's type for x's.
template <class T>
struct RowOf<Operation::k_backward, Source::k_centred, Sink::k_cast, T, AnyWeight, T> {
  static constexpr Kernel kRun = CentredBackward<T>;
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_CENTRED_BACKWARD_INL_H_
