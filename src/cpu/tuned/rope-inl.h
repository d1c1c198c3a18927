// The tuned forward of rotated heads: heads of a multiple of 64 columns, all of them rotated, one storage type, no fusion but
// the rotation. Sums of a block of heads come first, as in tuned_forward-inl.h; the cosines and sines of a token stay in
// registers, or in the first-level cache, for all its heads.
#if defined(ISONORM_CPU_TUNED_ROPE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_ROPE_INL_H_
#undef ISONORM_CPU_TUNED_ROPE_INL_H_
#else
#define ISONORM_CPU_TUNED_ROPE_INL_H_
#endif

#include <algorithm>

#include "cpu/general/rope-inl.h"
#include "cpu/tuned/forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// What a head is. kRoundC, kRoundT: x * rstd is rounded to T, and what leaves the norm. kColumns: 128, for unrolled loops that
// keep weight and angles in registers, or 0 for any number.
template <class Type, bool kC, bool kT, bool kPairs, size_t kColumns>
struct HeadOf {
  using T = Type;
  static constexpr bool kRoundC = kC, kRoundT = kT, kInterleaved = kPairs;
  static constexpr size_t kCols = kColumns;
};

template <class Head>
class RopeWriter {
  using D = Tag<float>;
  using T = typename Head::T;
  static constexpr Layout kLayout = kLayoutOf<T, T>;
  static constexpr size_t kWidth = hn::MaxLanes(D()), kStep = 2 * kWidth, kDuos = Head::kCols / kStep;
  // Neighbours are two vectors of a duo that splits even and odd, or alternate within a vector of runs.
  static constexpr bool kAlternate = Head::kInterleaved && kLayout == Layout::kRuns;
  // Duos of cosines, and of sines; neighbours in a vector have one each.
  static constexpr size_t kAngleDuos = kAlternate ? kDuos : kDuos / 2;

 public:
  explicit RopeWriter(const Call& call) : rope_(call.rope), cols_(static_cast<size_t>(call.cols)) {
    const D d;
    const auto offset = hn::Set(d, static_cast<float>(call.weight_offset));
    const auto* weight = static_cast<const T*>(call.weight);
    // Larger ones might overflow, and turn infinities into NaN, which the loops do not look for.
    const auto limit = hn::Set(d, std::is_same_v<T, F16> ? 1024.0f : 0x1p60f);
    auto tame = hn::FirstN(d, kWidth);
    for (size_t i = 0; i < cols_; i += kStep) {
      auto w = LoadDuo<kLayout>(d, weight + i);
      if (call.weight_offset != 0) w = Map(w, [&](V<D> v) HWY_ATTR { return hn::Add(v, offset); });
      tame = hn::And(tame, hn::And(hn::Le(hn::Abs(w.a), limit), hn::Le(hn::Abs(w.b), limit)));
      hn::Store(w.a, d, weight_ + i);
      hn::Store(w.b, d, weight_ + i + kWidth);
    }
    tame_weight_ = hn::AllTrue(d, tame);
  }

  bool tame_weight() const { return tame_weight_; }

  // From here on rows that share entry `index` of the positions. False if their angles are none that cosines and sines can
  // have.
  HWY_NOINLINE bool Turn(int64_t index) {
    const Rope::Angles angles = rope_.AnglesAt(index);
    if (rope_.table == isonorm::Type::kF32) {
      return TakeAngles(reinterpret_cast<const float*>(angles.cos), reinterpret_cast<const float*>(angles.sin));
    }
    return TakeAngles(reinterpret_cast<const T*>(angles.cos), reinterpret_cast<const T*>(angles.sin));
  }

  // `rows` rows that share a position.
  template <Store kStore>
  HWY_NOINLINE void Write(const char* x, int64_t x_stride, char* y, int64_t y_stride, int64_t rows,
                          const float* r_of_rows) const {
    const D d;
    constexpr bool kStays = kDuos != 0;
    Duo<D> w[kDuos + 1], c[kAngleDuos + 1], s[kAngleDuos + 1];
    const size_t duos = kStays ? kDuos : cols_ / kStep;
    if constexpr (kStays) {
      HWY_UNROLL(4)
      for (size_t k = 0; k < kDuos; ++k) w[k] = Taken(weight_, k);
      HWY_UNROLL(4)
      for (size_t k = 0; k < kAngleDuos; ++k) {
        c[k] = Taken(cos_, k);
        s[k] = Taken(sin_, k);
      }
    }
    const auto weight = [&](size_t k) HWY_ATTR { return kStays ? w[k] : Taken(weight_, k); };
    const auto cosines = [&](size_t k) HWY_ATTR { return kStays ? c[k] : Taken(cos_, k); };
    const auto sines = [&](size_t k) HWY_ATTR { return kStays ? s[k] : Taken(sin_, k); };
    HWY_UNROLL(1)
    for (int64_t row = 0; row < rows; ++row, x += x_stride, y += y_stride) {
      const auto* from = reinterpret_cast<const T*>(x);
      auto* to = reinterpret_cast<T*>(y);
      const auto r = hn::Set(d, r_of_rows[row]);
      const auto pair = [&](size_t k) HWY_ATTR {
        const size_t at_b = (k + duos / 2) * kStep;
        const Duo<D> a = Normed(from + k * kStep, weight(k), r), b = Normed(from + at_b, weight(k + duos / 2), r);
        const Duo<D> cosine = cosines(k), sine = sines(k);
        Duo<D> y_a, y_b;
        Rotate<false>(a.a, b.a, cosine.a, sine.a, y_a.a, y_b.a);
        Rotate<false>(a.b, b.b, cosine.b, sine.b, y_a.b, y_b.b);
        StoreDuo<kLayout, Nans::kNone, kStore>(y_a, d, to + k * kStep);
        StoreDuo<kLayout, Nans::kNone, kStore>(y_b, d, to + at_b);
      };
      const auto neighbours = [&](size_t k) HWY_ATTR {
        const Duo<D> t = Normed(from + k * kStep, weight(k), r);
        Duo<D> turned;
        if constexpr (kAlternate) {  // every second sine is negative
          const auto product = Map(t, cosines(k), [](V<D> v, V<D> by) HWY_ATTR { return hn::Mul(v, by); });
          const auto others = Map(t, [](V<D> v) HWY_ATTR { return hn::Shuffle2301(v); });
          turned = Map(others, sines(k), product, [](V<D> v, V<D> by, V<D> to_v) HWY_ATTR { return Fma(v, by, to_v); });
        } else {
          const Duo<D> cosine = cosines(k / 2), sine = sines(k / 2);
          const bool even = k % 2 == 0;
          Rotate<false>(t.a, t.b, even ? cosine.a : cosine.b, even ? sine.a : sine.b, turned.a, turned.b);
        }
        StoreDuo<kLayout, Nans::kNone, kStore>(turned, d, to + k * kStep);
      };
      const auto step = [&](size_t k) HWY_ATTR {
        if constexpr (Head::kInterleaved) {
          neighbours(k);
        } else {
          pair(k);
        }
      };
      if constexpr (kStays) {
        HWY_UNROLL(4)
        for (size_t k = 0; k < (Head::kInterleaved ? kDuos : kDuos / 2); ++k) step(k);
      } else {
        HWY_UNROLL(1)
        for (size_t k = 0; k < (Head::kInterleaved ? duos : duos / 2); ++k) step(k);
      }
    }
  }

 private:
  static HWY_INLINE Duo<D> Taken(const float* from, size_t k) {
    return {hn::Load(D(), from + k * kStep), hn::Load(D(), from + k * kStep + kWidth)};
  }

  static HWY_INLINE Duo<D> Normed(const T* x, const Duo<D>& w, V<D> r) {
    return Map(LoadDuo<kLayout>(D(), x), w, [r](V<D> v, V<D> by) HWY_ATTR {
      auto c = hn::Mul(v, r);
      if constexpr (Head::kRoundC) c = RoundThrough<T, Nans::kNone>(D(), c);
      const auto t = hn::Mul(c, by);
      return Head::kRoundT ? RoundThrough<T, Nans::kNone>(D(), t) : t;
    });
  }

  template <class Table>
  HWY_INLINE bool TakeAngles(const Table* cos, const Table* sin) {
    const D d;
    const auto limit = hn::Set(d, 4.0f);
    auto tame = hn::FirstN(d, kWidth);
    const auto look_at = [&](V<D> c, V<D> s)
                             HWY_ATTR { tame = hn::And(tame, hn::And(hn::Le(hn::Abs(c), limit), hn::Le(hn::Abs(s), limit))); };
    if constexpr (Head::kInterleaved) {
      for (size_t i = 0; i < cols_ / 2; i += kWidth) {
        const auto c = LoadAs(d, cos + i), s = LoadAs(d, sin + i);
        look_at(c, s);
        if constexpr (kAlternate) {
          hn::StoreInterleaved2(c, c, d, cos_ + 2 * i);
          hn::StoreInterleaved2(hn::Neg(s), s, d, sin_ + 2 * i);
        } else {
          hn::Store(c, d, cos_ + i);
          hn::Store(s, d, sin_ + i);
        }
      }
    } else {
      for (size_t i = 0; i < cols_ / 2; i += kStep) {
        const auto c = LoadDuo<kLayout>(d, cos + i), s = LoadDuo<kLayout>(d, sin + i);
        look_at(c.a, s.a);
        look_at(c.b, s.b);
        hn::Store(c.a, d, cos_ + i);
        hn::Store(c.b, d, cos_ + i + kWidth);
        hn::Store(s.a, d, sin_ + i);
        hn::Store(s.b, d, sin_ + i + kWidth);
      }
    }
    return hn::AllTrue(d, tame);
  }

  const Rope& rope_;
  const size_t cols_;
  bool tame_weight_;
  HWY_ALIGN float weight_[kMaxHead];  // in the order of duos, as the others
  HWY_ALIGN float cos_[kMaxHead];
  HWY_ALIGN float sin_[kMaxHead];
};

// The sink: heads of a run, those that share a position together.
template <class Head>
class RopeSink {
  using T = typename Head::T;

 public:
  RopeSink(const Call& call, const Run& run, RopeWriter<Head>& writer)
      : run_(run),
        writer_(writer),
        flow_(FlowOf(call, run.data[kX], run.data[kY])),
        row_bytes_(call.cols * static_cast<int64_t>(sizeof(T))),
        each_(call.rope.rows_each),
        index_(each_ == 1 ? run.first : run.first / each_),
        left_over_(each_ == 1 ? 0 : run.first % each_),
        // Between the heads of two tokens of packed memory lies what is not read, and the hardware does not know.
        ahead_(call.leading > 1 && from_memory() ? call.stride[call.leading - 2][kX] : 0) {
    const auto y = reinterpret_cast<uintptr_t>(run.data[kY]) | static_cast<uintptr_t>(run.stride[kY]);
    streams_ = flow_ == Flow::kStreamed && y % kLine == 0;
    // Otherwise RunLines() orders the stores of all its runs at once.
    flushes_ = streams_ && call.leading <= 1;
  }
  bool from_memory() const { return flow_ > Flow::kCached; }

  HWY_INLINE int64_t Takes(int64_t row, int64_t rows) {
    if (row == turns_at_) {
      tame_ = writer_.Turn(index_++);
      turns_at_ += each_ - left_over_;
      left_over_ = 0;
    }
    return tame_ ? std::min(rows, turns_at_ - row) : 0;
  }

  HWY_INLINE void Write(int64_t row, int64_t rows, const float* r) const {
    const int64_t x_stride = run_.stride[kX], y_stride = run_.stride[kY];
    const char* x = At<const char>(run_, kX, row);
    char* y = At<char>(run_, kY, row);
    if (ahead_ != 0) {
      for (int64_t k = 0; k < rows; ++k) {
        HWY_UNROLL(8)
        for (int64_t line = 0; line < row_bytes_; line += kLine) PrefetchFar(x + k * x_stride + ahead_ + line);
      }
    }
    streams_ ? writer_.template Write<Store::kStreamed>(x, x_stride, y, y_stride, rows, r)
             : writer_.template Write<Store::kCached>(x, x_stride, y, y_stride, rows, r);
  }
  HWY_INLINE void Finish() const {
    if (flushes_) hwy::FlushStream();
  }

 private:
  const Run& run_;
  RopeWriter<Head>& writer_;
  const Flow flow_;
  const int64_t row_bytes_, each_;
  int64_t index_, left_over_, turns_at_ = 0;  // turns_at_: the row whose position is the next one
  const int64_t ahead_;
  bool streams_, flushes_, tame_ = true;
};

template <class Head>
HWY_NOINLINE void TunedRopeRows(const Call& call, const Run& run) {
  using T = typename Head::T;
  RopeWriter<Head> writer(call);
  if (!writer.tame_weight()) return GeneralForward(call, run, ColumnSums{});
  const PlainRows<T> source(call, run);
  RopeSink<Head> sink(call, run, writer);
  RowLoop(call, run, RowsPerBlock(call.cols * static_cast<int64_t>(sizeof(T)), sink.from_memory()), source, sink);
}

template <class T, bool kRoundC, bool kRoundT, bool kInterleaved>
void TunedRopeByCols(const Call& call, const Run& run) {
#if HWY_CAP_GE512  // weight, cosines and sines of 128 columns are 16 registers, those of a head in the making 8 more
  if (call.cols == 128) return TunedRopeRows<HeadOf<T, kRoundC, kRoundT, kInterleaved, 128>>(call, run);
#endif
  TunedRopeRows<HeadOf<T, kRoundC, kRoundT, kInterleaved, 0>>(call, run);
}

template <class T, bool kRoundC, bool kRoundT>
void TunedRopeByStyle(const Call& call, const Run& run) {
  call.rope.interleaved ? TunedRopeByCols<T, kRoundC, kRoundT, true>(call, run)
                        : TunedRopeByCols<T, kRoundC, kRoundT, false>(call, run);
}

// c is rounded only where t is: see FitsTunedRope.
template <class T>
void TunedRope(const Call& call, const Run& run, const ColumnSums&) {
  if constexpr (sizeof(T) == 2) {
    if (call.scaled_type != Type::kNone) return TunedRopeByStyle<T, true, true>(call, run);
    if (call.rope.rounded_to != Type::kNone) return TunedRopeByStyle<T, false, true>(call, run);
  }
  TunedRopeByStyle<T, false, false>(call, run);
}

template <class T>
struct RowOf<Operation::k_forward, Source::k_plain, Sink::k_rope, T, T, T> {
  static constexpr Kernel kRun = TunedRope<T>;
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_ROPE_INL_H_
