// The sink of the tuned forward: y = round(round(x * r) * (weight + offset)).
#if defined(ISONORM_CPU_WRITE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_WRITE_INL_H_
#undef ISONORM_CPU_WRITE_INL_H_
#else
#define ISONORM_CPU_WRITE_INL_H_
#endif

#include <algorithm>

#include "cpu/duo-inl.h"
#include "kernels.h"
#include "run.h"
#include "tuning.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// Where rows come from and go to. It changes the speed only.
enum class Flow {
  kNear,      // cached, in a call that fits the second-level cache: backwards, for the row's end is still in the first
  kCached,    // ordinary stores
  kInPlace,   // ordinary stores to lines that were just read; the row that comes next is fetched meanwhile
  kStreamed,  // y bypasses the cache, and the row that comes next is fetched meanwhile
};

// Which part of a row that comes later is fetched meanwhile, into the second-level cache. Measured on a CPU with 32 KB of
// first-level cache: what fits it needs no help; from 8 KB on two rows ahead is best, a quarter of it during the sum.
struct AheadPlan {
  explicit AheadPlan(int64_t row_bytes, Flow flow) {
    if (row_bytes <= 4 << 10) return;
    if (flow == Flow::kInPlace || row_bytes > 24 << 10) {
      distance = 1;
      quarters_in_sum = flow == Flow::kInPlace ? 2 : 0;
    } else {
      distance = 2;
      quarters_in_sum = row_bytes > 8 << 10 ? 1 : 0;
    }
  }
  int64_t distance = 0;  // rows; 0: nothing is fetched
  size_t quarters_in_sum = 0;
};

constexpr int64_t kNearBytes = 512 << 10;

HWY_INLINE Flow FlowOf(const Call& call, const char* in, const char* out) {
  const int64_t bytes = RowBytes(call);
  if (bytes < kNearBytes) return Flow::kNear;
  if (bytes < GetTuning().stream_bytes) return Flow::kCached;
  return in == out || !ISONORM_FIXED_VECTORS ? Flow::kInPlace : Flow::kStreamed;
}

// kOffset: the contract adds something to the weight. Those that do not are spared an operation in ten.
template <class Tx, class Tw, class Ty, bool kOffset>
class RowWriter {
  using D = Tag<float>;
  static constexpr Layout kLayout = kLayoutOf<Tx, Ty>;
  // c is rounded to the 16-bit type among x's and the weight's, if the contract rounds it at all.
  using Tc = std::conditional_t<sizeof(Tx) == 2, Tx, Tw>;
  static constexpr bool kCanRound = std::is_same_v<Tc, Bf16> || std::is_same_v<Tc, F16>;

 public:
  RowWriter(const Call& call, const Run& run)
      : cols_(static_cast<size_t>(call.cols)),
        weight_(static_cast<const Tw*>(call.weight)),
        offset_(static_cast<float>(call.weight_offset)),
        round_(kCanRound && call.scaled_type != Type::kNone),
        clean_(call.weight_finite),
        flow_(FlowOf(call, run.data[kX], run.data[kY])),
        plan_(call.cols * static_cast<int64_t>(sizeof(Tx)), flow_),
        count_(run.count),
        x_(run.data[kX]),
        y_(run.data[kY]),
        x_stride_(run.stride[kX]),
        y_stride_(run.stride[kY]) {}

  // Writes `rows` rows from `first` on with the reciprocals r.
  HWY_INLINE void Write(int64_t first, int64_t rows, const float* r) const {
    if constexpr (kCanRound) {
      if (round_) return WriteRounded<true>(first, rows, r);
    }
    WriteRounded<false>(first, rows, r);
  }

  // The only row of a small call.
  static HWY_INLINE void WriteOne(const Call& call, const Run& run, float r) {
    const auto write = [&](auto kRound, auto kNans) HWY_ATTR {
      Cached<kRound(), kNans()>(reinterpret_cast<const Tx*>(run.data[kX]), static_cast<const Tw*>(call.weight),
                                reinterpret_cast<Ty*>(run.data[kY]), static_cast<size_t>(call.cols), r,
                                static_cast<float>(call.weight_offset), true);
    };
    const std::integral_constant<Nans, Nans::kPossible> possible;
    const std::integral_constant<Nans, Nans::kNone> none;
    if constexpr (kCanRound) {
      if (call.scaled_type != Type::kNone)
        return call.weight_finite ? write(std::true_type(), none) : write(std::true_type(), possible);
    }
    call.weight_finite ? write(std::false_type(), none) : write(std::false_type(), possible);
  }

  // Whether rows come from memory and are long enough to be fetched ahead; shorter ones the hardware fetches better alone.
  bool FetchesAhead() const { return clean_ && from_memory() && plan_.distance > 0; }
  bool from_memory() const { return flow_ > Flow::kCached; }
  const AheadPlan& plan() const { return plan_; }

  // Streamed stores are ordered before whatever the caller does next.
  void Finish() const {
    if (flow_ == Flow::kStreamed) hwy::FlushStream();
  }

 private:
  const Tx* X(int64_t row) const { return reinterpret_cast<const Tx*>(x_ + row * x_stride_); }
  template <class T>
  static HWY_INLINE T* Next(T* p, int64_t bytes) {
    using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
    return reinterpret_cast<T*>(reinterpret_cast<Byte*>(p) + bytes);
  }
  Ty* Y(int64_t row) const { return reinterpret_cast<Ty*>(y_ + row * y_stride_); }

  template <bool kRound>
  HWY_INLINE void WriteRounded(int64_t first, int64_t rows, const float* r) const {
    if (!clean_) {
      for (int64_t i = 0; i < rows; ++i) {
        Cached<kRound, Nans::kPossible>(X(first + i), weight_, Y(first + i), cols_, r[i], offset_, false);
      }
    } else if (flow_ > Flow::kCached) {
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t row = first + i;
        const Tx* ahead = plan_.distance > 0 && row + plan_.distance < count_ ? X(row + plan_.distance) : nullptr;
        if (flow_ == Flow::kInPlace) {
          InPlace<kRound>(X(row), ahead, Y(row), r[i]);
        } else if (plan_.distance != 2) {
          Streamed<kRound, false>(X(row), ahead, Y(row), r[i]);
        } else {
          Streamed<kRound, true>(X(row), ahead, Y(row), r[i]);
        }
      }
    } else if (rows > 1) {
      constexpr size_t kStep = 2 * hn::MaxLanes(D());
      if (cols_ == 4 * kStep) return ByRows<kRound, 4>(first, rows, r);
      if (cols_ == 2 * kStep) return ByRows<kRound, 2>(first, rows, r);
      ByColumns<kRound>(first, rows, r);
    } else {
      Cached<kRound, Nans::kNone>(X(first), weight_, Y(first), cols_, r[0], offset_, false);
    }
  }

  template <bool kRound, Nans kNans>
  static HWY_INLINE Duo<D> Scale(D d, const Duo<D>& x, const Duo<D>& w, V<D> r, V<D> offset) {
    return Map(x, w, [&](V<D> v, V<D> by) HWY_ATTR {
      auto c = hn::Mul(v, r);
      if constexpr (kRound) c = RoundThrough<Tc, kNans>(d, c);
      if constexpr (std::is_same_v<Tw, None>) {
        return c;
      } else {
        return hn::Mul(c, kOffset ? hn::Add(by, offset) : by);
      }
    });
  }

  HWY_INLINE const Tw* WeightAt(size_t i) const { return std::is_same_v<Tw, None> ? weight_ : weight_ + i; }

  // x, w and y at the same column.
  template <bool kRound, Nans kNans, Store kStore = Store::kCached>
  static HWY_INLINE void Step(D d, const Tx* x, const Tw* w, Ty* y, V<D> r, V<D> offset) {
    const auto w_of = LoadDuo<kLayout>(d, w);
    StoreDuo<kLayout, kNans, kStore>(Scale<kRound, kNans>(d, LoadDuo<kLayout>(d, x), w_of, r, offset), d, y);
  }

  template <bool kRound, Nans kNans>
  static HWY_INLINE void PartStep(D d, const Tx* x, const Tw* w, Ty* y, size_t count, V<D> r, V<D> offset) {
    const auto w_of = LoadDuoPart<kLayout>(d, w, count);
    StoreDuoPart<kLayout, kNans>(Scale<kRound, kNans>(d, LoadDuoPart<kLayout>(d, x, count), w_of, r, offset), d, y, count);
  }

  // One row by itself; `back` from its end, which the sum has just left in the first-level cache.
  template <bool kRound, Nans kNans>
  static HWY_NOINLINE void Cached(const Tx* x, const Tw* w, Ty* y, size_t cols, float r_of_row, float offset_of_call,
                                  bool back) {
    const D d;
    const auto r = hn::Set(d, r_of_row), offset = hn::Set(d, offset_of_call);
    const size_t step = 2 * hn::Lanes(d), rest = cols % step, whole = cols - rest;
    const auto weight_at = [w](size_t i) HWY_ATTR { return std::is_same_v<Tw, None> ? w : w + i; };
    if (rest != 0) PartStep<kRound, kNans>(d, x + whole, weight_at(whole), y + whole, rest, r, offset);
    if (back) {
      for (size_t i = whole; i != 0; i -= step) {
        Step<kRound, kNans>(d, x + i - step, weight_at(i - step), y + i - step, r, offset);
      }
    } else {
      for (size_t i = 0; i != whole; i += step) Step<kRound, kNans>(d, x + i, weight_at(i), y + i, r, offset);
    }
  }

  // Several rows of so few columns that their weight stays in registers.
  template <bool kRound, size_t kDuos>
  HWY_INLINE void ByRows(int64_t first, int64_t rows, const float* r_of_rows) const {
    const D d;
    const auto offset = hn::Set(d, offset_);
    const size_t step = 2 * hn::Lanes(d);
    Duo<D> w[kDuos];
    HWY_UNROLL(8)
    for (size_t k = 0; k < kDuos; ++k) w[k] = LoadDuo<kLayout>(d, WeightAt(k * step));
    const Tx* x = X(first);
    Ty* y = Y(first);
    HWY_UNROLL(1)
    for (int64_t row = 0; row < rows; ++row, x = Next(x, x_stride_), y = Next(y, y_stride_)) {
      const auto r = hn::Set(d, r_of_rows[row]);
      HWY_UNROLL(8)
      for (size_t k = 0; k < kDuos; ++k) {
        StoreDuo<kLayout, Nans::kNone, Store::kCached>(
            Scale<kRound, Nans::kNone>(d, LoadDuo<kLayout>(d, x + k * step), w[k], r, offset), d, y + k * step);
      }
    }
  }

  // Several short rows: column by column, so that the weight is read once for all of them.
  template <bool kRound>
  HWY_INLINE void ByColumns(int64_t first, int64_t rows, const float* r_of_rows) const {
    const D d;
    const auto offset = hn::Set(d, offset_);
    const size_t step = 2 * hn::Lanes(d);
    const int64_t x_stride = x_stride_, y_stride = y_stride_;
    size_t i = 0;
    for (; i + step <= cols_; i += step) {
      const auto w = LoadDuo<kLayout>(d, WeightAt(i));
      const Tx* x = X(first) + i;
      Ty* y = Y(first) + i;
      HWY_UNROLL(1)
      for (int64_t row = 0; row < rows; ++row, x = Next(x, x_stride), y = Next(y, y_stride)) {
        const auto r = hn::Set(d, r_of_rows[row]);
        StoreDuo<kLayout, Nans::kNone, Store::kCached>(Scale<kRound, Nans::kNone>(d, LoadDuo<kLayout>(d, x), w, r, offset), d,
                                                       y);
      }
    }
    if (i == cols_) return;
    for (int64_t row = 0; row < rows; ++row) {
      PartStep<kRound, Nans::kNone>(d, X(first + row) + i, WeightAt(i), Y(first + row) + i, cols_ - i,
                                    hn::Set(d, r_of_rows[row]), offset);
    }
  }

  // Fetches the part of the row ahead that belongs to the line of x at column i.
  HWY_INLINE void FetchAhead(const Tx* ahead, size_t i) const {
    if (ahead == nullptr) return;
    const size_t done = cols_ / 4 * plan_.quarters_in_sum;
    const size_t share = 4 - plan_.quarters_in_sum, step = 2 * hn::Lanes(D());
    for (size_t k = 0; k < step; k += kLine / sizeof(Tx)) PrefetchFar(ahead + done + (i + k) / 4 * share);
  }

  // Lines that were just read are written.
  template <bool kRound>
  HWY_INLINE void InPlace(const Tx* x, const Tx* ahead, Ty* y, float r_of_row) const {
    const D d;
    const auto r = hn::Set(d, r_of_row), offset = hn::Set(d, offset_);
    const size_t step = 2 * hn::Lanes(d);
    size_t i = 0;
    for (; i + step <= cols_; i += step) {
      FetchAhead(ahead, i);
      Step<kRound, Nans::kNone>(d, x + i, WeightAt(i), y + i, r, offset);
    }
    if (i < cols_) PartStep<kRound, Nans::kNone>(d, x + i, WeightAt(i), y + i, cols_ - i, r, offset);
  }

  // y bypasses the cache by whole lines. kStaged: by way of a buffer, because streaming stores are slow while loads miss the
  // first-level cache; rows that are longer than that cache gain nothing by it.
  template <bool kRound, bool kStaged>
  HWY_INLINE void Streamed(const Tx* x, const Tx* ahead, Ty* y, float r_of_row) const {
    constexpr size_t kPerLine = kLine / sizeof(Ty), kStage = (4 << 10) / sizeof(Ty);
    const D d;
    const auto r = hn::Set(d, r_of_row), offset = hn::Set(d, offset_);
    const size_t step = 2 * hn::Lanes(d);
    HWY_ALIGN Ty stage[kStage];
    size_t i = std::min(ElementsToLine(y), cols_);
    const auto part = [&](size_t at, size_t count) HWY_ATTR {
      for (size_t k = 0; k < count; k += step) {
        const size_t n = std::min(step - 1, count - k);
        PartStep<kRound, Nans::kNone>(d, x + at + k, WeightAt(at + k), y + at + k, n, r, offset);
        if (n == step - 1 && n < count - k)
          PartStep<kRound, Nans::kNone>(d, x + at + k + n, WeightAt(at + k + n), y + at + k + n, 1, r, offset);
      }
    };
    if (i > 0) part(0, i);
    while (cols_ - i >= kPerLine) {
      const size_t count = std::min(kStage, (cols_ - i) / kPerLine * kPerLine);
      size_t k = 0;
      for (; k + step <= count; k += step) {
        FetchAhead(ahead, i + k);
        Step<kRound, Nans::kNone, kStaged ? Store::kCached : Store::kStreamed>(d, x + i + k, WeightAt(i + k),
                                                                               kStaged ? stage + k : y + i + k, r, offset);
      }
      if (k < count) {
        PartStep<kRound, Nans::kNone>(d, x + i + k, WeightAt(i + k), kStaged ? stage + k : y + i + k, count - k, r, offset);
      }
      if constexpr (kStaged) StreamLines(stage, y + i, count * sizeof(Ty));
      i += count;
    }
    if (i < cols_) part(i, cols_ - i);
  }

  const size_t cols_;
  const Tw* const weight_;
  const float offset_;
  const bool round_;
  const bool clean_;
  const Flow flow_;
  const AheadPlan plan_;
  const int64_t count_;
  const char* const x_;
  char* const y_;
  const int64_t x_stride_, y_stride_;
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_WRITE_INL_H_
