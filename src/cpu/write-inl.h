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
        run_(run) {}

  // Writes `rows` rows from `first` on with the reciprocals r.
  HWY_INLINE void Write(int64_t first, int64_t rows, const float* r) const {
    if constexpr (kCanRound) {
      if (round_) return WriteRounded<true>(first, rows, r);
    }
    WriteRounded<false>(first, rows, r);
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
  const Tx* X(int64_t row) const { return reinterpret_cast<const Tx*>(run_.data[kX] + row * run_.stride[kX]); }
  Ty* Y(int64_t row) const { return reinterpret_cast<Ty*>(run_.data[kY] + row * run_.stride[kY]); }

  template <bool kRound>
  HWY_INLINE void WriteRounded(int64_t first, int64_t rows, const float* r) const {
    if (!clean_) {
      for (int64_t i = 0; i < rows; ++i) Cached<kRound, Nans::kPossible>(X(first + i), Y(first + i), r[i]);
    } else if (flow_ > Flow::kCached) {
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t row = first + i;
        const Tx* ahead = plan_.distance > 0 && row + plan_.distance < run_.count ? X(row + plan_.distance) : nullptr;
        if (flow_ == Flow::kInPlace) {
          InPlace<kRound>(X(row), ahead, Y(row), r[i]);
        } else if (plan_.distance != 2) {
          Streamed<kRound, false>(X(row), ahead, Y(row), r[i]);
        } else {
          Streamed<kRound, true>(X(row), ahead, Y(row), r[i]);
        }
      }
    } else if (rows > 1) {
      ByColumns<kRound>(first, rows, r);
    } else {
      Cached<kRound, Nans::kNone>(X(first), Y(first), r[0]);
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

  template <bool kRound, Nans kNans>
  HWY_INLINE void Cached(const Tx* x, Ty* y, float r_of_row) const {
    const D d;
    const auto r = hn::Set(d, r_of_row), offset = hn::Set(d, offset_);
    const size_t step = 2 * hn::Lanes(d), turns = cols_ / step, rest = cols_ % step;
    if (rest != 0) {
      const size_t i = cols_ - rest;
      PartStep<kRound, kNans>(d, x + i, WeightAt(i), y + i, rest, r, offset);
    }
    const bool back = flow_ == Flow::kNear && run_.count == 1;
    size_t i = back ? (turns - 1) * step : 0;
    const size_t move = back ? 0 - step : step;  // wraps around, as unsigned numbers may
    for (size_t turn = 0; turn < turns; ++turn, i += move) Step<kRound, kNans>(d, x + i, WeightAt(i), y + i, r, offset);
  }

  // Several short rows: column by column, so that the weight is read once for all of them.
  template <bool kRound>
  HWY_INLINE void ByColumns(int64_t first, int64_t rows, const float* r_of_rows) const {
    const D d;
    const auto offset = hn::Set(d, offset_);
    const size_t step = 2 * hn::Lanes(d);
    const int64_t x_stride = run_.stride[kX], y_stride = run_.stride[kY];
    const auto next = [](auto* p, int64_t bytes) HWY_ATTR {
      using Byte = std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(p)>>, const char, char>;
      return reinterpret_cast<decltype(p)>(reinterpret_cast<Byte*>(p) + bytes);
    };
    size_t i = 0;
    for (; i + step <= cols_; i += step) {
      const auto w = LoadDuo<kLayout>(d, WeightAt(i));
      const Tx* x = X(first) + i;
      Ty* y = Y(first) + i;
      for (int64_t row = 0; row < rows; ++row, x = next(x, x_stride), y = next(y, y_stride)) {
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
  const Run& run_;
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_WRITE_INL_H_
