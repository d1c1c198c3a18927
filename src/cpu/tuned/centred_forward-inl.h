// The tuned forward of LayerNorm, with any weight and any bias: three sweeps over a row that is then in the cache.
#if defined(ISONORM_CPU_TUNED_CENTRED_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_CENTRED_FORWARD_INL_H_
#undef ISONORM_CPU_TUNED_CENTRED_FORWARD_INL_H_
#else
#define ISONORM_CPU_TUNED_CENTRED_FORWARD_INL_H_
#endif

#include <algorithm>
#include <cmath>

#include "cpu/choose.h"
#include "cpu/tuned/centred_sums-inl.h"
#include "cpu/tuned/forward-inl.h"
#include "cpu/tuned/pieces-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// Rows of x and y, elements of the size of E, all of their columns or a piece of them, with what the loops read beside. Weight
// and bias are of one type. One that is not there is a duo of ones, or of -0, which changes no bit of a product: `mask` keeps
// every column there.
struct Affine {
  const void *weight, *bias;
  size_t weight_mask, bias_mask;
};
template <class E>
struct CentredPiece {
  const E* x;
  E* y;
  int64_t x_stride, y_stride;
  Affine affine;
  bool rounds;
  int64_t rows;
  CentredOfRows of;
};

// Tw: the type of weight and bias: T, or f32 in the order of duos. kLooks: they may not be finite, see row_alone-inl.h.
template <class T, class Tw, bool kLooks>
class CentredColumns {
  using D = Tag<float>;
  static constexpr Layout kLayout = kLayoutOf<T, T>;
  static constexpr size_t kDuo = 2 * hn::MaxLanes(D());

 public:
  explicit CentredColumns(const CentredPiece<Raw<T>>& piece) : piece_(piece) {}

  // Columns [0, cols) of one row, while another is fetched; if none is, from the end, for it is still in the first-level cache.
  template <Store kStore>
  HWY_INLINE void WriteRow(size_t cols, FetchAhead ahead) {
    constexpr size_t kGroup = std::max<size_t>(kDuo, kLine / sizeof(T));
    const bool back = kStore == Store::kCached && ahead.step == 0;
    const size_t groups = cols / kGroup, move = back ? -kGroup : kGroup;
    size_t i = back ? (groups - 1) * kGroup : 0;
    for (size_t group = 0; group < groups; ++group, i += move) {
      HWY_UNROLL(4)
      for (size_t k = 0; k < kGroup; k += kDuo) Take<true, 1, false, kStore>(i + k, kDuo);
      ahead.Fetch<kGroup * sizeof(T) / kLine>();
    }
    for (i = groups * kGroup; i + kDuo <= cols; i += kDuo) Take<true, 1, false, kStore>(i, kDuo);
    if (kStore == Store::kCached && i < cols) Take<true, 1, true>(i, cols - i);
  }
  // Of all rows; two duos at a time share their weight and bias in registers.
  HWY_INLINE void WriteRows(size_t cols) {
    size_t i = 0;
    for (; i + 2 * kDuo <= cols; i += 2 * kDuo) Take<false, 2, false>(i, kDuo);
    for (; i + kDuo <= cols; i += kDuo) Take<false, 1, false>(i, kDuo);
    if (i < cols) Take<false, 1, true>(i, cols - i);
  }
  // Whether no weight or bias was seen that is NaN or infinite.
  HWY_INLINE bool finite() const { return !kLooks || hn::AllTrue(D(), hn::And(hn::IsFinite(seen_.a), hn::IsFinite(seen_.b))); }

 private:
  template <bool kOne, size_t kDuos, bool kPart, Store kStore = Store::kCached>
  HWY_INLINE void Take(size_t i, size_t n) {
    const D d;
    constexpr Layout kLayoutOfW = !kPart && std::is_same_v<Tw, float> ? Layout::kRuns : kLayout;
    const auto *weight = static_cast<const Tw*>(piece_.affine.weight), *bias = static_cast<const Tw*>(piece_.affine.bias);
    Duo<D> w[kDuos], b[kDuos];
    HWY_UNROLL(2)
    for (size_t k = 0; k < kDuos; ++k) {
      w[k] = TakeDuo<kPart, kLayoutOfW>(weight + ((i + k * kDuo) & piece_.affine.weight_mask), n);
      b[k] = TakeDuo<kPart, kLayoutOfW>(bias + ((i + k * kDuo) & piece_.affine.bias_mask), n);
      if constexpr (kLooks) seen_ = {Fma(w[k].a, w[k].b, seen_.a), Fma(b[k].a, b[k].b, seen_.b)};
    }
    const char* x = reinterpret_cast<const char*>(piece_.x + i);
    char* y = reinterpret_cast<char*>(piece_.y + i);
    int64_t row = 0;
    do {
      const auto mean = hn::Set(d, piece_.of.mean[row]), shift = hn::Set(d, piece_.of.shift[row]);
      const auto r = hn::Set(d, piece_.of.r[row]);
      HWY_UNROLL(2)
      for (size_t k = 0; k < kDuos; ++k) {
        auto c = Map(TakeDuo<kPart, kLayout>(reinterpret_cast<const T*>(x) + k * kDuo, n),
                     [&](V<D> v) HWY_ATTR { return hn::Mul(hn::Sub(hn::Sub(v, mean), shift), r); });
        if constexpr (sizeof(T) == 2) {
          if (piece_.rounds) c = Map(c, [&](V<D> v) HWY_ATTR { return RoundThrough<T, Nans::kNone>(d, v); });
        }
        const auto t = Map(c, w[k], b[k], [](V<D> v, V<D> by, V<D> add) HWY_ATTR { return Fma(v, by, add); });
        T* const to = reinterpret_cast<T*>(y) + k * kDuo;
        if constexpr (kPart) {
          StoreDuoPart<kLayout, Nans::kNone>(t, d, to, n);
        } else {
          StoreDuo<kLayout, Nans::kNone, kStore>(t, d, to);
        }
      }
      x += piece_.x_stride;
      y += piece_.y_stride;
    } while (!kOne && ++row != piece_.rows);
  }

  const CentredPiece<Raw<T>> piece_;  // a copy, which no store of y can change
  Duo<D> seen_ = {hn::Zero(D()), hn::Zero(D())};
};

template <class T, class Tw, bool kLooks, Store kStore>
bool WriteCentredRow(const CentredPiece<Raw<T>>& piece, size_t cols, const FetchAhead& ahead) {
  const float mean = *piece.of.mean, shift = *piece.of.shift, r = *piece.of.r;
  CentredPiece<Raw<T>> one = piece;
  one.of = {&mean, &shift, &r};
  CentredColumns<T, Tw, kLooks> columns(one);
  columns.template WriteRow<kStore>(cols, ahead);
  return columns.finite();
}
template <class T, class Tw, bool kLooks>
bool WriteCentredRows(const CentredPiece<Raw<T>>& piece, size_t cols) {
  CentredColumns<T, Tw, kLooks> columns(piece);
  columns.WriteRows(cols);
  return columns.finite();
}

// Those for types of x, weight and bias, so that what is around them is compiled once for a size of x. They return whether
// weight and bias are known to be finite now.
template <class E>
struct CentredWrites {
  using Row = bool(const CentredPiece<E>& piece, size_t cols, const FetchAhead& ahead);
  using Rows = bool(const CentredPiece<E>& piece, size_t cols);
  Row *looking, *row, *streamed;  // streamed: whole duos at whole lines, of a finite weight and bias
  Rows *looking_rows, *rows;
  size_t weight_size;
  bool arranged;  // weight and bias are in the order of duos
};
// kSpares: once weight and bias are known to be finite, loops that do not look any more.
template <class T, class Tw, bool kSpares>
HWY_INLINE CentredWrites<Raw<T>> CentredWritesOf() {
  constexpr bool kArranged = kLayoutOf<T, T> == Layout::kEvenOdd && !std::is_same_v<T, Tw>;
  constexpr Store kCached = Store::kCached;
  return {WriteCentredRow<T, Tw, true, kCached>,
          WriteCentredRow<T, Tw, !kSpares, kCached>,
          WriteCentredRow<T, Tw, false, Store::kStreamed>,
          WriteCentredRows<T, Tw, true>,
          WriteCentredRows<T, Tw, !kSpares>,
          sizeof(Tw),
          kArranged};
}

// NaNs of a row that was written as if there were none, as in row_alone-inl.h: they come from the weight and the bias.
HWY_NOINLINE inline void CanonicaliseCentred(const Call& call, void* y) {
  const auto is_nan = [](const void* data, Type type, int64_t i) {
    return type != Type::kNone && std::isnan(LoadScalar<float>(data, type, i));
  };
  for (int64_t i = 0; i < call.cols; ++i) {
    if (is_nan(call.weight, call.weight_type, i) || is_nan(call.bias, call.bias_type, i) || is_nan(y, call.type[kY], i)) {
      StoreScalar(CanonicalNaN<float>(), y, call.type[kY], i);
    }
  }
}

// The sink. Rows are fetched ahead as the plan has it, those of a call that leaves the second-level cache too.
template <class E>
class CentredSink : public TakesAll {
 public:
  CentredSink(const Call& call, const Run& run, const Affine& affine, const CentredWrites<E>& writes)
      : call_(call),
        run_(run),
        cols_(static_cast<size_t>(call.cols)),
        flow_(FlowOf(call, run.data[kX], run.data[kY])),
        plan_(PlanOfRows<E>(call.cols, flow_ == Flow::kCached ? Flow::kInPlace : flow_, false)),
        clean_(call.weight_finite),
        writes_(writes) {
    all_.affine = affine;
    all_.rounds = call.scaled_type != Type::kNone;
    all_.x_stride = run.stride[kX];
    all_.y_stride = run.stride[kY];
    // Pieces of a row are whole duos only where rows begin with a line, and a weight that is arranged has whole ones alone.
    const auto place = reinterpret_cast<intptr_t>(run.data[kY]) | (run.count > 1 ? run.stride[kY] : 0);
    if (writes.arranged && flow_ == Flow::kStreamed && place % kLine != 0) flow_ = Flow::kInPlace;
  }

  HWY_INLINE bool from_memory() const { return flow_ > Flow::kCached; }
  HWY_INLINE const FetchPlan& plan() const { return plan_; }
  // The row that is fetched while this one is worked on. Only fetched, so it may lie past the last row.
  HWY_INLINE const char* Ahead(int64_t row) const { return run_.data[kX] + (row + plan_.distance) * run_.stride[kX]; }

  HWY_INLINE void Write(int64_t first, int64_t rows, const CentredOfRows& of) {
    CentredPiece<E> piece = all_;
    const bool streams = flow_ == Flow::kStreamed && clean_;
    if (rows > 1 && !streams) {
      piece.x = At<const E>(run_, kX, first);
      piece.y = At<E>(run_, kY, first);
      piece.rows = rows;
      piece.of = of;
      return Look((clean_ ? writes_.rows : writes_.looking_rows)(piece, cols_), first, rows);
    }
    for (int64_t i = first; i < first + rows; ++i) {
      const int64_t at = i - first;
      piece.x = At<const E>(run_, kX, i);
      piece.y = At<E>(run_, kY, i);
      piece.of = {of.mean + at, of.shift + at, of.r + at};
      const FetchAhead ahead(plan_, Ahead(i) + plan_.from);
      if (streams) {
        Streamed(piece, ahead);
      } else {
        Look((clean_ ? writes_.row : writes_.looking)(piece, cols_, ahead), i, 1);
      }
    }
  }
  HWY_INLINE void Finish() const {
    if (flow_ == Flow::kStreamed) hwy::FlushStream();
  }

 private:
  HWY_INLINE void Look(bool finite, int64_t first, int64_t rows) {
    clean_ = finite;
    if (HWY_LIKELY(finite)) return;
    for (int64_t row = first; row < first + rows; ++row) CanonicaliseCentred(call_, At<E>(run_, kY, row));
  }

  static HWY_INLINE const void* Advanced(const void* p, size_t bytes) { return static_cast<const char*>(p) + bytes; }
  // Columns of the row from `at` on, to be written to `to`.
  HWY_INLINE CentredPiece<E> From(const CentredPiece<E>& row, size_t at, E* to) const {
    CentredPiece<E> piece = row;
    piece.x += at;
    piece.y = to;
    piece.affine.weight = Advanced(row.affine.weight, (at & row.affine.weight_mask) * writes_.weight_size);
    piece.affine.bias = Advanced(row.affine.bias, (at & row.affine.bias_mask) * writes_.weight_size);
    return piece;
  }
  // y bypasses the cache by whole lines, by way of a buffer if the plan has one.
  HWY_NOINLINE void Streamed(const CentredPiece<E>& row, const FetchAhead& ahead) const {
    constexpr size_t kPerLine = kLine / sizeof(E), kDirect = std::max(kPerLine, 2 * hn::MaxLanes(Tag<float>()));
    const size_t head = std::min(ElementsToLine(row.y), cols_);
    if (head != 0) writes_.row(From(row, 0, row.y), head, FetchAhead());
    alignas(kLine) char room[kPage + 512];
    E* const stage = reinterpret_cast<E*>(HalfAPageFrom(row.x + head, room));
    const bool staged = plan_.stage != 0;
    const size_t least = staged ? kPerLine : kDirect, most = staged ? plan_.stage / sizeof(E) : cols_;
    size_t i = head;
    while (cols_ - i >= least) {
      const size_t count = std::min(most, (cols_ - i) / least * least);
      (staged ? writes_.row : writes_.streamed)(From(row, i, staged ? stage : row.y + i), count,
                                                ahead.From((i - head) / kPerLine));
      if (staged) StreamLines(stage, row.y + i, count * sizeof(E));
      i += count;
    }
    if (i < cols_) writes_.row(From(row, i, row.y + i), cols_ - i, FetchAhead());
  }

  const Call& call_;
  const Run& run_;
  const size_t cols_;
  Flow flow_;
  const FetchPlan plan_;
  bool clean_;  // whether weight and bias are known to be finite
  const CentredWrites<E> writes_;
  CentredPiece<E> all_ = {};
};

template <class E>
HWY_NOINLINE void CentredForwardRows(const Call& call, const Run& run, const Affine& affine, const CentredSums& sums,
                                     const CentredWrites<E>& writes) {
  CentredSink<E> sink(call, run, affine, writes);
  const CentredRows source(call, run, sums, sink.plan());
  const int64_t block = RowsPerBlock(call.cols * static_cast<int64_t>(sizeof(E)), sink.from_memory());
  RowLoop<CentredStatistics>(call, run, block, source, sink);
}

// Each that is there is used as it lies, or copied to `room` in f32.
template <class T>
HWY_NOINLINE void CentredForwardConverted(const Call& call, const Run& run, Affine affine) {
  constexpr Layout kLayout = kLayoutOf<T, T>;
  HWY_ALIGN float weight[kMostColumns];
  HWY_ALIGN float bias[kMostColumns];
  const auto cols = static_cast<size_t>(call.cols);
  if (call.weight_type != Type::kNone) {
    WidenWeight(call, weight);
    ArrangeDuos<kLayout>(cols, weight);
    affine.weight = weight;
  }
  if (call.bias_type != Type::kNone) {
    WidenVector(call.bias, call.bias_type, -0.0f, cols, bias);
    ArrangeDuos<kLayout>(cols, bias);
    affine.bias = bias;
  }
  CentredForwardRows(call, run, affine, CentredSums::Of<T>(), CentredWritesOf<T, float, false>());
}

// Ones, or -0, of a type.
template <class T>
HWY_INLINE void FillDuo(float value, T* room) {
  const Tag<float> d;
  const auto v = hn::Set(d, value);
  StoreDuo<Layout::kRuns, Nans::kNone, Store::kCached>(Duo<Tag<float>>(v, v), d, room);
}

template <class T>
void CentredForward(const Call& call, const Run& run, const ColumnSums&) {
  const size_t weight_mask = call.weight_type == Type::kNone ? 0 : ~size_t{0};
  const size_t bias_mask = call.bias_type == Type::kNone ? 0 : ~size_t{0};
  constexpr size_t kDuo = 2 * hn::MaxLanes(Tag<float>());
  if constexpr (!std::is_same_v<T, F16>) {  // which takes longer to widen
    if (ReadsAffineInPlace(call)) {
      HWY_ALIGN T ones[kDuo];
      HWY_ALIGN T zeros[kDuo];
      FillDuo(1.0f, ones);
      FillDuo(-0.0f, zeros);
      const Affine affine = {weight_mask == 0 ? ones : call.weight, bias_mask == 0 ? zeros : call.bias, weight_mask, bias_mask};
      return CentredForwardRows(call, run, affine, CentredSums::Of<T>(), CentredWritesOf<T, T, true>());
    }
  }
  HWY_ALIGN float ones[kDuo];
  HWY_ALIGN float zeros[kDuo];
  FillDuo(1.0f, ones);
  FillDuo(-0.0f, zeros);
  CentredForwardConverted<T>(call, run, {ones, zeros, weight_mask, bias_mask});
}

template <class T>
struct RowOf<Operation::k_forward, Source::k_centred, Sink::k_cast, T, AnyWeight, T> {
  static constexpr Kernel kRun = CentredForward<T>;
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_CENTRED_FORWARD_INL_H_
