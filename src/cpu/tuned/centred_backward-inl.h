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

// What a row is made of: c = ((x - mean) - shift) * r.
struct Centred {
  float mean, shift, r;
  template <class D>
  HWY_INLINE V<D> C(D d, V<D> x) const {
    return hn::Mul(hn::Sub(hn::Sub(x, hn::Set(d, mean)), hn::Set(d, shift)), hn::Set(d, r));
  }
};

// Of a duo: f32 that lies in the order of duos, but for a part of one, which is in that of columns.
template <bool kPart, Layout kLayout>
constexpr Layout kArranged = kPart ? kLayout : Layout::kRuns;

// The sums of g * c and of g = dy * weight. Behind a row g is 0, and a c that is infinite there hands the row to the general
// path. The weight lies in the order of the duos of leaves.
template <class T>
struct GradientSums {
  static constexpr int kSums = 2;
  const T* dy;
  const float* weight;
  Centred row;
  HWY_INLINE GradientSums From(int64_t begin) const { return {dy + begin, weight + begin, row}; }
  template <Layout kLayout, bool kPart, class D>
  HWY_INLINE void Add(D d, const Duo<D>& x, size_t at, size_t count, Duo<D> (&sum)[2]) const {
    const auto g =
        Product(TakeDuo<kPart, kLayout>(dy + at, count), TakeDuo<kPart, kArranged<kPart, kLayout>>(weight + at, count));
    const auto c = Map(x, [&](V<D> of) HWY_ATTR { return row.C(d, of); });
    sum[0] = Map(g, c, sum[0], [](V<D> of, V<D> by, V<D> to) HWY_ATTR { return Fma(of, by, to); });
    sum[1] = Map(g, sum[1], [](V<D> of, V<D> to) HWY_ATTR { return hn::Add(to, of); });
  }
};

// Columns of rows on their way to dx = r * ((dy * weight - mean_g) - c * f), dweight += dy * round(c) and dbias += dy. dx,
// dweight and dbias may be null, but not if kAll: then c is not rounded either, and no step has a branch. Weight and sums lie
// in the order of duos.
template <class T, int kRows, bool kAll = false, Store kStore = Store::kCached>
struct CentredGradientColumns {
  static constexpr Layout kLayout = kLeafLayout<T>;
  const T *x[kRows], *dy[kRows];
  T* dx[kRows];
  Centred row[kRows];
  float f[kRows], mean_g[kRows];
  const float* weight;
  float *dweight, *dbias;
  bool rounds;  // c to T

  HWY_INLINE bool All() const { return dx[0] != nullptr && dweight != nullptr && dbias != nullptr && !rounds; }
  // From column i on, with dx at the same place.
  template <bool kOthersAll = false, Store kOther = Store::kCached>
  HWY_INLINE CentredGradientColumns<T, kRows, kOthersAll, kOther> From(size_t i) const {
    CentredGradientColumns<T, kRows, kOthersAll, kOther> piece;
    for (int k = 0; k < kRows; ++k) {
      piece.x[k] = x[k] + i;
      piece.dy[k] = dy[k] + i;
      piece.dx[k] = dx[k] == nullptr ? nullptr : dx[k] + i;
      piece.row[k] = row[k];
      piece.f[k] = f[k];
      piece.mean_g[k] = mean_g[k];
    }
    piece.weight = weight + i;
    piece.dweight = dweight == nullptr ? nullptr : dweight + i;
    piece.dbias = dbias == nullptr ? nullptr : dbias + i;
    piece.rounds = rounds;
    return piece;
  }

  template <bool kPart>
  HWY_INLINE void Step(size_t i, size_t n) const {
    constexpr Layout kSums = kArranged<kPart, kLayout>;
    const Tag<float> d;
    const bool to_dx = kAll || dx[0] != nullptr, to_dweight = kAll || dweight != nullptr, to_dbias = kAll || dbias != nullptr;
    auto w = Duo<Tag<float>>{hn::Zero(d), hn::Zero(d)}, to_weight = w, to_bias = w;
    Duo<Tag<float>> t[kRows];
    if (to_dx) w = TakeDuo<kPart, kSums>(weight + i, n);
    if (to_dweight) to_weight = TakeDuo<kPart, kSums>(dweight + i, n);
    if (to_dbias) to_bias = TakeDuo<kPart, kSums>(dbias + i, n);
    HWY_UNROLL(2)
    for (int k = 0; k < kRows; ++k) {
      const auto v = TakeDuo<kPart, kLayout>(dy[k] + i, n);
      const auto c = Map(TakeDuo<kPart, kLayout>(x[k] + i, n), [&](V<Tag<float>> of) HWY_ATTR { return row[k].C(d, of); });
      if (to_dbias) {
        to_bias = Map(v, to_bias, [](V<Tag<float>> of, V<Tag<float>> a) HWY_ATTR { return hn::Add(a, of); });
      }
      if (to_dweight) {
        auto by = c;
        if constexpr (!kAll && sizeof(T) == 2) {
          if (rounds) by = Map(c, [&](V<Tag<float>> of) HWY_ATTR { return RoundThrough<T, Nans::kNone>(d, of); });
        }
        to_weight = Map(v, by, to_weight,
                        [](V<Tag<float>> of, V<Tag<float>> times, V<Tag<float>> a) HWY_ATTR { return Fma(of, times, a); });
      }
      if (to_dx) {
        const auto r = hn::Set(d, row[k].r), factor = hn::Set(d, f[k]), mean = hn::Set(d, mean_g[k]);
        t[k] = Map(v, w, c, [&](V<Tag<float>> of, V<Tag<float>> times, V<Tag<float>> c_of) HWY_ATTR {
          return hn::Mul(r, NegFma(c_of, factor, hn::Sub(hn::Mul(of, times), mean)));
        });
      }
    }
    // No load comes behind these that might lie at the same place in a page, as rows often do, and wait.
    if (to_dx) {
      HWY_UNROLL(2)
      for (int k = 0; k < kRows; ++k) {
        if constexpr (kPart) {
          StoreDuoPart<kLayout, Nans::kNone>(t[k], d, dx[k] + i, n);
        } else {
          StoreDuo<kLayout, Nans::kNone, kStore>(t[k], d, dx[k] + i);
        }
      }
    }
    // NaNs become canonical where the sums are stored.
    if (to_dweight) PutDuo<kPart, kSums, Nans::kNone>(to_weight, dweight + i, n);
    if (to_dbias) PutDuo<kPart, kSums, Nans::kNone>(to_bias, dbias + i, n);
  }
};

template <class T>
class CentredGradientRows {
  static constexpr int kFew = 2, kMany = kShortGradients;
  static constexpr bool kWide = sizeof(T) == 4;
  static constexpr Layout kLayout = kLeafLayout<T>;
  static constexpr size_t kDuo = 2 * hn::MaxLanes(Tag<float>());

 public:
  CentredGradientRows(const Call& call, const isonorm::Run& run, const ColumnSums& sums)
      : call_(call),
        run_(run),
        sums_(sums),
        norm_(call.norm),
        leaves_(call.cols),
        cols_(static_cast<size_t>(call.cols)),
        flow_(FlowOf(call, run.data[kDx] == run.data[kX] ? run.data[kX] : run.data[kDy], run.data[kDx])),
        plan_(CurrentPlan().gradient[sizeof(T) == 2]),
        fetching_(flow_ == Flow::kCached && 2 * (RowBytes(call) + call.bytes_beside) >= StreamBytes() ? Flow::kInPlace : flow_),
        // Rows that do not share their place in a line cannot stream two by two: ordinary stores then.
        streams_(flow_ == Flow::kStreamed && run.data[kDx] != nullptr && run.stride[kDx] % kLine == 0),
        head_(streams_ ? std::min(ElementsToLine(reinterpret_cast<const T*>(run.data[kDx])), cols_) : 0),
        saved_(run.data[kRstd] != nullptr && run.data[kMean] != nullptr && !norm_.eps_outside),
        weight_(WeightIsInPlace(call) ? static_cast<const float*>(call.weight) : room_),
        weight_of_leaves_(weight_) {
    if (weight_ != room_) return;
    WidenWeight(call, room_);
    if constexpr (kLayout == Layout::kRuns) return;
    if (!LeavesAreWholeDuos() || head_ % kDuo != 0) {
      for (int64_t i = 0; i < leaves_.count; ++i) {
        const auto begin = static_cast<size_t>(leaves_.begin(i)), n = static_cast<size_t>(leaves_.begin(i + 1)) - begin;
        std::copy_n(room_ + begin, n, room_of_leaves_ + begin);
        ArrangeDuos<kLayout>(n, room_of_leaves_ + begin);
      }
      weight_of_leaves_ = room_of_leaves_;
    }
    ArrangeRow<kLayout, Layout::kRuns>(room_);
  }

  void Run() {
    if (run_.first % kRowBlock != 0) ArrangeSums<true>();  // otherwise they are zeros
    if (call_.cols * static_cast<int64_t>(sizeof(T)) <= kShortGradient) {
      GradientLoop<kMany, kFew>(run_.count, *this);
    } else {
      GradientLoop<kFew, kFew>(run_.count, *this);
    }
    ArrangeSums<false>();
    if (streams_) hwy::FlushStream();
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
      row.f = norm_.Factor(sums[i][0] + 0.0f, row.q, row.centred.r);
      row.mean_g = Mean(sums[i][1] + 0.0f, norm_.count);
      // Finite sums have finite terms, so every dy and weight is finite, and no dx will be NaN.
      tame[i] = tame[i] && IsFinite(sums[i][0]) && IsFinite(sums[i][1]) && IsFinite(row.f);
    }
  }
  template <int kTogether>
  HWY_NOINLINE void Write(int64_t row, int first) const {
    if (kTogether > 1 && streams_ && !Directs()) {
      for (int i = 0; i < kTogether; ++i) Write<1>(row + i, first + i);
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
    if (!streams_) {
      if constexpr (kTogether > 1) {
        if (columns.All()) return ColumnLoop(columns.template From<true>(0), cols_, next);
      }
      return ColumnLoop(columns, cols_, next);
    }
    if constexpr (kTogether == 1) {
      WriteInRowPieces(columns, next);
    } else if constexpr (kWide) {
      Direct(columns, next);
    }
  }
  HWY_NOINLINE void General(int64_t row) const {
    char* data[kRowTensors];
    ArrangeSums<false>();
    GeneralBackward(call_, OneRow(run_, row, data), sums_);
    ArrangeSums<true>();
  }

 private:
  struct Found {
    Centred centred;
    float q, f, mean_g;
  };

  static bool IsFinite(float v) { return std::fabs(v) <= std::numeric_limits<float>::max(); }

  HWY_INLINE const T* X(int64_t row) const { return At<const T>(run_, kX, row); }
  HWY_INLINE const T* Dy(int64_t row) const { return At<const T>(run_, kDy, row); }

  bool LeavesAreWholeDuos() const {
    for (int64_t i = 1; i < leaves_.count; ++i) {
      if (static_cast<size_t>(leaves_.begin(i)) % kDuo != 0) return false;
    }
    return true;
  }
  // What the columns of a row are written from and to has the order of its duos; that of columns outside.
  template <Layout kFrom, Layout kTo>
  void ArrangeRow(float* row) const {
    ArrangeDuos<kFrom, kTo>(head_, row);
    ArrangeDuos<kFrom, kTo>(cols_ - head_, row + head_);
  }
  template <bool kIn>
  void ArrangeSums() const {
    constexpr Layout kFrom = kIn ? kLayout : Layout::kRuns, kTo = kIn ? Layout::kRuns : kLayout;
    if constexpr (kFrom == kTo) return;
    for (void* sums : {sums_.dweight, sums_.dbias}) {
      if (sums != nullptr) ArrangeRow<kFrom, kTo>(static_cast<float*>(sums));
    }
  }

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
  HWY_NOINLINE void Dot(int64_t row, const Centred& centred, float (&sums)[2]) const {
    TotalsOfRow(X(row), leaves_, GradientSums<T>{Dy(row), weight_of_leaves_, centred}, sums);
  }

  // The rows that come after those from `row` on: x and dy of each.
  template <int kTogether>
  HWY_INLINE NextRows<T, 2 * kTogether, true> Next(int64_t row) const {
    const int64_t ahead = row + kFew;
    if constexpr (kTogether == 1) {
      return NextRows<T, 2, true>::Of(run_, {kX, kDy}, ahead, call_.cols, fetching_);
    } else {
      auto next = NextRows<T, 4, true>::Of(run_, {kX, kDy, kX, kDy}, ahead, call_.cols, fetching_);
      next.row[2] += run_.stride[kX];
      next.row[3] += run_.stride[kDy];
      return next;
    }
  }

  // dx bypasses the cache by whole lines: that of two rows at once, each line by itself, or by way of a buffer.
  HWY_INLINE bool Directs() const { return kWide && plan_.direct; }
  HWY_INLINE void Direct(const CentredGradientColumns<T, kFew>& rows, const NextRows<T, 2 * kFew, true>& next) const {
    constexpr size_t kStep = std::max<size_t>(kDuo, kLine / sizeof(T));
    const size_t end = head_ + (cols_ - head_) / kStep * kStep;
    const NextRows<T, 2 * kFew, true> none;
    if (head_ != 0) ColumnLoop(rows, head_, none);
    ColumnLoop(rows.template From<false, Store::kStreamed>(head_), end - head_, next.From(head_));
    if (end != cols_) ColumnLoop(rows.From(end), cols_ - end, none);
  }
  HWY_INLINE void WriteInRowPieces(const CentredGradientColumns<T, 1>& row, const NextRows<T, 2, true>& next) const {
    WriteInPieces(row.dx[0], cols_, flow_, [&](size_t i, size_t n, T* to) HWY_ATTR {
      auto piece = row.From(i);
      piece.dx[0] = to;
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
  const GradientPlan plan_;
  const Flow fetching_;  // as which rows are fetched
  const bool streams_;
  const size_t head_;  // columns of dx before the first whole line, if it streams
  const bool saved_;
  const float* const weight_;
  const float* weight_of_leaves_;
  Found found_[kMany];
  HWY_ALIGN float room_[kMostColumns];
  HWY_ALIGN float room_of_leaves_[kLayout == Layout::kRuns ? 1 : kMostColumns];  // where a leaf begins amid a duo
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
