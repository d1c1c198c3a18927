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

// Where rows come from and go to. It changes the speed only.
enum class Flow {
  kNear,      // cached, in a call that fits the second-level cache: backwards, for the row's end is still in the first
  kCached,    // ordinary stores
  kInPlace,   // ordinary stores to lines that were just read; the row that comes next is fetched meanwhile
  kStreamed,  // y bypasses the cache, and the row that comes next is fetched meanwhile
};

constexpr int64_t kNearBytes = 512 << 10;

HWY_INLINE Flow FlowOf(const Call& call, const char* in, const char* out) {
  const int64_t bytes = RowBytes(call);
  if (bytes < kNearBytes) return Flow::kNear;
  if (bytes < GetTuning().stream_bytes) return Flow::kCached;
  return in == out || !ISONORM_FIXED_VECTORS ? Flow::kInPlace : Flow::kStreamed;
}

template <class Tx, class Tw, class Ty>
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
        offset_(call.weight_offset == 0 ? -0.0f : static_cast<float>(call.weight_offset)),  // w + -0 is w for every w
        round_(kCanRound && call.scaled_type != Type::kNone),
        clean_(call.weight_finite),
        flow_(FlowOf(call, run.data[kX], run.data[kY])),
        run_(run) {}

  // Writes `rows` rows from `first` on with the reciprocals r; fetches those that come `ahead` rows later, where it pays.
  HWY_INLINE void Write(int64_t first, int64_t rows, int64_t ahead, const float* r) const {
    if constexpr (kCanRound) {
      if (round_) return WriteRounded<true>(first, rows, ahead, r);
    }
    WriteRounded<false>(first, rows, ahead, r);
  }

  // Streamed stores are ordered before whatever the caller does next.
  void Finish() const {
    if (flow_ == Flow::kStreamed) hwy::FlushStream();
  }

 private:
  const Tx* X(int64_t row) const { return reinterpret_cast<const Tx*>(run_.data[kX] + row * run_.stride[kX]); }
  Ty* Y(int64_t row) const { return reinterpret_cast<Ty*>(run_.data[kY] + row * run_.stride[kY]); }

  template <bool kRound>
  HWY_INLINE void WriteRounded(int64_t first, int64_t rows, int64_t ahead, const float* r) const {
    if (!clean_) {
      for (int64_t i = 0; i < rows; ++i) Cached<kRound, Nans::kPossible>(X(first + i), Y(first + i), r[i]);
    } else if (flow_ > Flow::kCached) {
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t row = first + i;
        const Tx* next = X(row + ahead < run_.count ? row + ahead : row);
        if (flow_ == Flow::kInPlace) {
          Ahead<kRound, Store::kCached>(X(row), next, Y(row), r[i]);
        } else {
          Ahead<kRound, Store::kStreamed>(X(row), next, Y(row), r[i]);
        }
      }
    } else if (rows > 1) {
      ByColumns<kRound>(first, rows, r);
    } else {
      Cached<kRound, Nans::kNone>(X(first), Y(first), r[0]);
    }
  }

  template <bool kRound, Nans kNans>
  HWY_INLINE Duo<D> Scale(D d, const Duo<D>& x, const Duo<D>& w, V<D> r, V<D> offset) const {
    return Map(x, w, [&](V<D> v, V<D> by) HWY_ATTR {
      auto c = hn::Mul(v, r);
      if constexpr (kRound) c = RoundThrough<Tc, kNans>(d, c);
      if constexpr (std::is_same_v<Tw, None>) {
        return c;
      } else {
        return hn::Mul(c, hn::Add(by, offset));
      }
    });
  }

  HWY_INLINE const Tw* WeightAt(size_t i) const { return std::is_same_v<Tw, None> ? weight_ : weight_ + i; }

  template <bool kRound, Nans kNans, Store kStore>
  HWY_INLINE void Step(D d, const Tx* x, Ty* y, size_t i, V<D> r, V<D> offset) const {
    const auto w = LoadDuo<kLayout>(d, WeightAt(i));
    StoreDuo<kLayout, kNans, kStore>(Scale<kRound, kNans>(d, LoadDuo<kLayout>(d, x + i), w, r, offset), d, y + i);
  }

  template <bool kRound, Nans kNans>
  HWY_INLINE void PartStep(D d, const Tx* x, Ty* y, size_t i, size_t count, V<D> r, V<D> offset) const {
    const auto w = LoadDuoPart<kLayout>(d, WeightAt(i), count);
    StoreDuoPart<kLayout, kNans>(Scale<kRound, kNans>(d, LoadDuoPart<kLayout>(d, x + i, count), w, r, offset), d, y + i, count);
  }

  template <bool kRound, Nans kNans>
  HWY_INLINE void Cached(const Tx* x, Ty* y, float r_of_row) const {
    const D d;
    const auto r = hn::Set(d, r_of_row), offset = hn::Set(d, offset_);
    const size_t step = 2 * hn::Lanes(d), turns = cols_ / step, rest = cols_ % step;
    if (rest != 0) PartStep<kRound, kNans>(d, x, y, cols_ - rest, rest, r, offset);
    const bool back = flow_ == Flow::kNear && run_.count == 1;
    size_t i = back ? (turns - 1) * step : 0;
    const size_t move = back ? 0 - step : step;  // wraps around, as unsigned numbers may
    for (size_t turn = 0; turn < turns; ++turn, i += move) Step<kRound, kNans, Store::kCached>(d, x, y, i, r, offset);
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
        StoreDuo<kLayout, Nans::kNone, Store::kCached>(Scale<kRound, Nans::kNone>(d, LoadDuo<kLayout>(d, x), w, r, offset), d, y);
      }
    }
    if (i == cols_) return;
    for (int64_t row = 0; row < rows; ++row) {
      PartStep<kRound, Nans::kNone>(d, X(first + row), Y(first + row), i, cols_ - i, hn::Set(d, r_of_rows[row]), offset);
    }
  }

  // Rows from memory: without NaN, for the weight was looked at.
  template <bool kRound, Store kStore>
  HWY_INLINE void Ahead(const Tx* x, const Tx* next, Ty* y, float r_of_row) const {
    const D d;
    const auto r = hn::Set(d, r_of_row), offset = hn::Set(d, offset_);
    const size_t step = 2 * hn::Lanes(d);
    size_t i = 0;
    if constexpr (kStore == Store::kStreamed) {
      for (const size_t head = std::min(ElementsToLine(y), cols_); i < head;) {
        const size_t count = std::min(step, head - i);
        if (count == step) {
          Step<kRound, Nans::kNone, Store::kCached>(d, x, y, i, r, offset);
        } else {
          PartStep<kRound, Nans::kNone>(d, x, y, i, count, r, offset);
        }
        i += count;
      }
    }
    for (; i + step <= cols_; i += step) {
      PrefetchElements(next + i, step);
      Step<kRound, Nans::kNone, kStore>(d, x, y, i, r, offset);
    }
    if (i < cols_) PartStep<kRound, Nans::kNone>(d, x, y, i, cols_ - i, r, offset);
  }

  const size_t cols_;
  const Tw* const weight_;
  const float offset_;
  const bool round_;
  const bool clean_;
  const Flow flow_;
  const Run& run_;
};

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_WRITE_INL_H_
