// The tuned forward of LayerNorm, with any weight and any bias: three sweeps over a row that is then in the cache.
#if defined(ISONORM_CPU_TUNED_CENTRED_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_CENTRED_FORWARD_INL_H_
#undef ISONORM_CPU_TUNED_CENTRED_FORWARD_INL_H_
#else
#define ISONORM_CPU_TUNED_CENTRED_FORWARD_INL_H_
#endif

#include <algorithm>

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

// Tw: the type of weight and bias: T, or f32 in the order of duos.
template <class T, class Tw, Nans kNans>
class CentredColumns {
  using D = Tag<float>;
  static constexpr Layout kLayout = kLayoutOf<T, T>;
  static constexpr size_t kDuo = 2 * hn::MaxLanes(D());

 public:
  explicit CentredColumns(const CentredPiece<Raw<T>>& piece) : piece_(piece) {}

  // Columns [0, cols) of all rows; two duos at a time share their weight and bias in registers.
  template <bool kOne, class Next>
  HWY_INLINE void Write(size_t cols, const Next& next) const {
    size_t i = 0;
    for (; i + 2 * kDuo <= cols; i += 2 * kDuo) {
      Take<kOne, 2, false>(i, kDuo);
      next.template Fetch<2 * kDuo>(i);
    }
    for (; i + kDuo <= cols; i += kDuo) Take<kOne, 1, false>(i, kDuo);
    if (i < cols) Take<kOne, 1, true>(i, cols - i);
  }

 private:
  template <bool kOne, size_t kDuos, bool kPart>
  HWY_INLINE void Take(size_t i, size_t n) const {
    const D d;
    constexpr Layout kLayoutOfW = !kPart && std::is_same_v<Tw, float> ? Layout::kRuns : kLayout;
    const auto *weight = static_cast<const Tw*>(piece_.affine.weight), *bias = static_cast<const Tw*>(piece_.affine.bias);
    Duo<D> w[kDuos], b[kDuos];
    HWY_UNROLL(2)
    for (size_t k = 0; k < kDuos; ++k) {
      w[k] = TakeDuo<kPart, kLayoutOfW>(weight + ((i + k * kDuo) & piece_.affine.weight_mask), n);
      b[k] = TakeDuo<kPart, kLayoutOfW>(bias + ((i + k * kDuo) & piece_.affine.bias_mask), n);
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
        PutDuo<kPart, kLayout, kNans>(t, reinterpret_cast<T*>(y) + k * kDuo, n);
      }
      x += piece_.x_stride;
      y += piece_.y_stride;
    } while (!kOne && ++row != piece_.rows);
  }

  const CentredPiece<Raw<T>> piece_;  // a copy, which no store of y can change
};

template <class T, class Tw, Nans kNans>
void WriteCentredRow(const CentredPiece<Raw<T>>& piece, size_t cols, const NextRows<Raw<T>, 1>& next) {
  const float mean = *piece.of.mean, shift = *piece.of.shift, r = *piece.of.r;
  CentredPiece<Raw<T>> one = piece;
  one.of = {&mean, &shift, &r};
  CentredColumns<T, Tw, kNans>(one).template Write<true>(cols, NextRows<Raw<T>, 1>(next));
}
template <class T, class Tw, Nans kNans>
void WriteCentredRows(const CentredPiece<Raw<T>>& piece, size_t cols) {
  CentredColumns<T, Tw, kNans>(piece).template Write<false>(cols, NoRows());
}

// Those for types of x, weight and bias, so that what is around them is compiled once for a size of x.
template <class E>
struct CentredWrites {
  void (*row)(const CentredPiece<E>& piece, size_t cols, const NextRows<E, 1>& next);
  void (*rows)(const CentredPiece<E>& piece, size_t cols);
  size_t weight_size;
  bool arranged;  // weight and bias are in the order of duos
};
template <class T, class Tw, Nans kNans>
HWY_INLINE CentredWrites<Raw<T>> CentredWritesOf() {
  constexpr bool kArranged = kLayoutOf<T, T> == Layout::kEvenOdd && !std::is_same_v<T, Tw>;
  return {WriteCentredRow<T, Tw, kNans>, WriteCentredRows<T, Tw, kNans>, sizeof(Tw), kArranged};
}

// The sink.
template <class E>
class CentredSink : public TakesAll {
 public:
  CentredSink(const Call& call, const Run& run, const Affine& affine, const CentredWrites<E>& writes)
      : run_(run), cols_(call.cols), flow_(FlowOf(call, run.data[kX], run.data[kY])), writes_(writes) {
    all_.affine = affine;
    all_.rounds = call.scaled_type != Type::kNone;
    all_.x_stride = run.stride[kX];
    all_.y_stride = run.stride[kY];
    // Pieces of a row are whole duos only where rows begin with a line, and a weight that is arranged has whole ones alone.
    const auto place = reinterpret_cast<intptr_t>(run.data[kY]) | (run.count > 1 ? run.stride[kY] : 0);
    if (writes.arranged && flow_ == Flow::kStreamed && place % kLine != 0) flow_ = Flow::kInPlace;
  }

  HWY_INLINE bool from_memory() const { return flow_ > Flow::kCached; }

  HWY_INLINE void Write(int64_t first, int64_t rows, const CentredOfRows& of) const {
    CentredPiece<E> piece = all_;
    const auto cols = static_cast<size_t>(cols_);
    if (rows > 1 && flow_ != Flow::kStreamed) {
      piece.x = At<const E>(run_, kX, first);
      piece.y = At<E>(run_, kY, first);
      piece.rows = rows;
      piece.of = of;
      return writes_.rows(piece, cols);
    }
    for (int64_t i = 0; i < rows; ++i) {
      const auto next = NextRows<E, 1>::Of(run_, {kX}, first + i + 1, cols_, flow_ == Flow::kCached ? Flow::kInPlace : flow_);
      const E* x = At<const E>(run_, kX, first + i);
      piece.of = {of.mean + i, of.shift + i, of.r + i};
      WriteInPieces(At<E>(run_, kY, first + i), cols, flow_, [&](size_t at, size_t n, E* to) HWY_ATTR {
        piece.x = x + at;
        piece.y = to;
        piece.affine.weight = Advanced(all_.affine.weight, at & all_.affine.weight_mask);
        piece.affine.bias = Advanced(all_.affine.bias, at & all_.affine.bias_mask);
        writes_.row(piece, n, next.From(at));
      });
    }
  }
  HWY_INLINE void Finish() const {
    if (flow_ == Flow::kStreamed) hwy::FlushStream();
  }

 private:
  HWY_INLINE const void* Advanced(const void* p, size_t columns) const {
    return static_cast<const char*>(p) + columns * writes_.weight_size;
  }

  const Run& run_;
  const int64_t cols_;
  Flow flow_;
  const CentredWrites<E> writes_;
  CentredPiece<E> all_ = {};
};

template <class E>
HWY_NOINLINE void CentredForwardRows(const Call& call, const Run& run, const Affine& affine, const CentredSums& sums,
                                     const CentredWrites<E>& writes) {
  const CentredRows source(call, run, sums);
  const CentredSink<E> sink(call, run, affine, writes);
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
  CentredForwardRows(call, run, affine, CentredSums::Of<T>(), CentredWritesOf<T, float, Nans::kPossible>());
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
      const auto writes = call.weight_finite ? CentredWritesOf<T, T, Nans::kNone>() : CentredWritesOf<T, T, Nans::kPossible>();
      return CentredForwardRows(call, run, affine, CentredSums::Of<T>(), writes);
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
