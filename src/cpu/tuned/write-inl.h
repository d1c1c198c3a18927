// The sink of the tuned forward: y = round(round(x * r) * (weight + offset)).
#if defined(ISONORM_CPU_TUNED_WRITE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_WRITE_INL_H_
#undef ISONORM_CPU_TUNED_WRITE_INL_H_
#else
#define ISONORM_CPU_TUNED_WRITE_INL_H_
#endif

#include <algorithm>

#include "cpu/tuned/duo-inl.h"
#include "cpu/tuned/row_alone-inl.h"
#include "cpu/tuned/row_loop-inl.h"
#include "table/kernels.h"
#include "cpu/run.h"
#include "cpu/tuning.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// Where rows come from and go to. It changes the speed only.
enum class Flow {
  kNear,      // cached, in a call that fits the second-level cache: backwards, for the row's end is still in the first
  kCached,    // ordinary stores
  kFetched,   // the same, where the plan says that calls of this size fetch the row that comes next, and y's lines
  kInPlace,   // ordinary stores to lines that were just read; the row that comes next is fetched meanwhile
  kStreamed,  // y bypasses the cache, and the row that comes next is fetched meanwhile
};

// Rows that are fetched; `other` only where a row is made of two tensors.
struct AheadRows {
  const char* row;
  const char* other;
  template <bool kTwo>
  AheadRows From(size_t bytes) const {
    return {row + bytes, kTwo ? other + bytes : nullptr};
  }
};

constexpr int64_t kNearBytes = 512 << 10;

HWY_INLINE Flow FlowOf(const Call& call, const char* in, const char* out) {
  const int64_t bytes = RowBytes(call) + call.bytes_beside;
  if (bytes < StreamBytes()) return bytes < kNearBytes ? Flow::kNear : Flow::kCached;
  return ISONORM_FIXED_VECTORS && in != out && WritesAlignedElements(call) ? Flow::kStreamed : Flow::kInPlace;
}

// Of rows of one tensor, which are also fetched where they lie in the last cache, or not even there.
HWY_INLINE Flow FlowOfRows(const Call& call, const Run& run) {
  const Flow flow = FlowOf(call, run.data[kX], run.data[kY]);
  return flow == Flow::kCached && RowBytes(call) + call.bytes_beside >= CurrentPlan().fetched ? Flow::kFetched : flow;
}

// What the plan for this CPU has for rows of one tensor, or of several.
template <class T>
HWY_INLINE FetchPlan PlanOfRows(int64_t cols, Flow flow, bool several) {
  if (flow <= Flow::kCached) return {};
  const Plan& plan = CurrentPlan();
  const RowPlan* const* lists = flow == Flow::kStreamed ? plan.streamed : plan.in_place;
  return {several ? plan.several : lists[sizeof(T) == 2], cols * static_cast<int64_t>(sizeof(T))};
}

// kOffset: the contract adds to the weight; others are spared an operation in ten. kTwo: rows of two tensors, both fetched.
template <class Tx, class Tw, class Ty, bool kOffset, bool kTwo = false>
class RowWriter : public TakesAll {
  using D = Tag<float>;
  using Steps = RowWriter<Tx, Tw, Ty, kOffset>;  // without what does not matter to a row alone
  static constexpr Layout kLayout = kLayoutOf<Tx, Ty>;
  // c is rounded to the 16-bit type among x's and the weight's, if the contract rounds it at all.
  using Tc = std::conditional_t<sizeof(Tx) == 2, Tx, Tw>;
  static constexpr bool kCanRound = sizeof(Tc) == 2;

 public:
  RowWriter(const Call& call, const Run& run) : RowWriter(call, run, FlowOfRows(call, run)) {}

  // From a buffer that holds one row at a time, made of x and another tensor, which are fetched meanwhile.
  RowWriter(const Call& call, const Run& run, Flow flow, const Tx* buffer, RowTensor other) : RowWriter(call, run, flow) {
    plan_ = PlanOfRows<Tx>(call.cols, flow, true);
    x_stride_ = 0;
    other_ = run.data[other];
    other_stride_ = run.stride[other];
    ReadFrom(buffer);
  }
  HWY_INLINE void ReadFrom(const Tx* buffer) { x_ = reinterpret_cast<const char*>(buffer); }

  // Writes `rows` rows from `first` on with the reciprocals r.
  HWY_INLINE void Write(int64_t first, int64_t rows, const float* r) {
    if constexpr (kCanRound) {
      if (round_) return WriteRounded<true>(first, rows, r);
    }
    WriteRounded<false>(first, rows, r);
  }

  // The only row of a small call.
  static HWY_INLINE void WriteOne(const Call& call, const Run& run, float r) {
    const auto write = [&](auto kRound, auto kLooks) HWY_ATTR {
      WriteAlone<Steps, kRound(), kLooks()>(reinterpret_cast<const Tx*>(run.data[kX]), static_cast<const Tw*>(call.weight),
                                            reinterpret_cast<Ty*>(run.data[kY]), static_cast<size_t>(call.cols), r,
                                            static_cast<float>(call.weight_offset), true);
    };
    const std::true_type yes;
    const std::false_type no;
    if constexpr (kCanRound) {
      if (call.scaled_type != Type::kNone) return call.weight_finite ? write(yes, no) : write(yes, yes);
    }
    call.weight_finite ? write(no, no) : write(no, yes);
  }

  // Whether rows come from memory and go one by one, while a later one is fetched.
  HWY_INLINE bool FetchesAhead() const { return clean_ && from_memory() && !plan_.blocks; }
  HWY_INLINE bool from_memory() const { return flow_ > Flow::kCached; }
  HWY_INLINE const FetchPlan& plan() const { return plan_; }

  // Where the row lies that is fetched while this one is worked on. Only fetched, so it may lie past the last row.
  HWY_INLINE const char* Ahead(int64_t row) const { return fetched_ + (row + plan_.distance) * fetched_stride_; }
  HWY_INLINE const char* OtherAhead(int64_t row) const {
    return kTwo ? other_ + (row + plan_.distance) * other_stride_ : nullptr;
  }

  // Streamed stores are ordered before whatever the caller does next.
  HWY_INLINE void Finish() const {
    if (flow_ == Flow::kStreamed) hwy::FlushStream();
  }

 private:
  RowWriter(const Call& call, const Run& run, Flow flow)
      : cols_(static_cast<size_t>(call.cols)),
        weight_(static_cast<const Tw*>(call.weight)),
        offset_(static_cast<float>(call.weight_offset)),
        round_(kCanRound && call.scaled_type != Type::kNone),
        clean_(call.weight_finite),
        flow_(flow),
        plan_(PlanOfRows<Tx>(call.cols, flow_, false)),
        fetched_(run.data[kX]),
        fetched_stride_(run.stride[kX]),
        x_(run.data[kX]),
        y_(run.data[kY]),
        x_stride_(run.stride[kX]),
        y_stride_(run.stride[kY]) {}

  HWY_INLINE const Tx* X(int64_t row) const { return reinterpret_cast<const Tx*>(x_ + row * x_stride_); }
  HWY_INLINE Ty* Y(int64_t row) const { return reinterpret_cast<Ty*>(y_ + row * y_stride_); }
  template <class T>
  static HWY_INLINE T* Next(T* p, int64_t bytes) {
    using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
    return reinterpret_cast<T*>(reinterpret_cast<Byte*>(p) + bytes);
  }

  template <bool kRound>
  HWY_INLINE void WriteRounded(int64_t first, int64_t rows, const float* r) {
    if constexpr (!std::is_same_v<Tw, Arranged>) {  // which is finite
      for (; HWY_UNLIKELY(!clean_) && rows > 0; ++first, --rows, ++r) {
        clean_ = WriteAlone<Steps, kRound, true>(X(first), weight_, Y(first), cols_, *r, offset_, false);
      }
    }
    if (from_memory()) {
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t row = first + i;
        const AheadRows ahead = AheadRows{Ahead(row), OtherAhead(row)}.From<kTwo>(static_cast<size_t>(plan_.from));
        if (flow_ != Flow::kStreamed) {
          InPlace<kRound>(X(row), Y(row), r[i], ahead);
        } else if (plan_.stage != 0) {
          Streamed<kRound, true>(X(row), Y(row), r[i], ahead);
        } else {
          Streamed<kRound, false>(X(row), Y(row), r[i], ahead);
        }
      }
    } else if (rows > 1 && !CrossesLines(first)) {
      constexpr size_t kStep = 2 * hn::MaxLanes(D());
      if (cols_ == 4 * kStep) return ByRows<kRound, 4>(first, rows, r);
      if (cols_ == 2 * kStep) return ByRows<kRound, 2>(first, rows, r);
      ByColumns<kRound>(X(first), x_stride_, weight_, Y(first), y_stride_, cols_, rows, r, offset_);
    } else {
      for (int64_t i = 0; i < rows; ++i) {
        WriteAlone<Steps, kRound, false>(X(first + i), weight_, Y(first + i), cols_, r[i], offset_, false);
      }
    }
  }

  // Whether rows written together would have most of their stores cross a line, where that costs more than to write them
  // apart: 257 columns of f32 take 0.75 of the time so, 543 of bf16 1.1.
  HWY_INLINE bool CrossesLines(int64_t first) const {
    const size_t places = reinterpret_cast<size_t>(Y(first)) | static_cast<size_t>(y_stride_);
    return sizeof(Ty) == 4 && cols_ > 256 && places % kLine != 0 && CurrentPlan().aligns_stores;
  }

  template <bool kRound>
  static HWY_INLINE Duo<D> Scale(D d, const Duo<D>& x, const Duo<D>& w, V<D> r, V<D> offset) {
    return Map(x, w, [&](V<D> v, V<D> by) HWY_ATTR {
      auto c = hn::Mul(v, r);
      if constexpr (kRound) c = RoundThrough<Tc, Nans::kNone>(d, c);
      if constexpr (std::is_same_v<Tw, None>) {
        return c;
      } else {
        return hn::Mul(c, kOffset ? hn::Add(by, offset) : by);
      }
    });
  }

  // Bytes from the line that is written to the one that is fetched to be written: half a KB is as good, 16 KB are not.
  static constexpr size_t kYAhead = 2 << 10;

  HWY_INLINE const Tw* WeightAt(size_t i) const { return std::is_same_v<Tw, None> ? weight_ : weight_ + i; }

 public:
  // x, w and y at the same column. Steps return the weight.
  static constexpr bool kAdds = kOffset;
  template <bool kRound, Store kStore = Store::kCached>
  static HWY_INLINE Duo<D> Step(D d, const Tx* x, const Tw* w, Ty* y, V<D> r, V<D> offset) {
    const auto w_of = LoadDuo<kLayout>(d, w);
    StoreDuo<kLayout, Nans::kNone, kStore>(Scale<kRound>(d, LoadDuo<kLayout>(d, x), w_of, r, offset), d, y);
    return w_of;
  }

  template <bool kRound>
  static HWY_INLINE Duo<D> PartStep(D d, const Tx* x, const Tw* w, Ty* y, size_t count, V<D> r, V<D> offset) {
    const auto w_of = LoadDuoPart<kLayout>(d, w, count);
    StoreDuoPart<kLayout, Nans::kNone>(Scale<kRound>(d, LoadDuoPart<kLayout>(d, x, count), w_of, r, offset), d, y, count);
    return w_of;
  }

 private:
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
        StoreDuo<kLayout, Nans::kNone, Store::kCached>(Scale<kRound>(d, LoadDuo<kLayout>(d, x + k * step), w[k], r, offset), d,
                                                       y + k * step);
      }
    }
  }

  // Several short rows: column by column, so that the weight is read once for all of them. Not inlined, to have all registers.
  template <bool kRound>
  static HWY_NOINLINE void ByColumns(const Tx* first_x, int64_t x_stride, const Tw* weight, Ty* first_y, int64_t y_stride,
                                     size_t cols, int64_t rows, const float* r_of_rows, float offset_of_call) {
    const D d;
    const auto offset = hn::Set(d, offset_of_call);
    const size_t step = 2 * hn::Lanes(d);
    const auto weight_at = [weight](size_t i) HWY_ATTR { return std::is_same_v<Tw, None> ? weight : weight + i; };
    size_t i = 0;
    for (; i + step <= cols; i += step) {
      const auto w = LoadDuo<kLayout>(d, weight_at(i));
      const Tx* x = first_x + i;
      Ty* y = first_y + i;
      const float* r_of_row = r_of_rows;
      do {  // there is a row, and a test of that with every step takes time
        const auto of = Scale<kRound>(d, LoadDuo<kLayout>(d, x), w, hn::Set(d, *r_of_row++), offset);
        StoreDuo<kLayout, Nans::kNone, Store::kCached>(of, d, y);
        x = Next(x, x_stride);
        y = Next(y, y_stride);
      } while (r_of_row != r_of_rows + rows);
    }
    const size_t rest = cols - i;
    if (rest == 0) return;
    const auto w = LoadDuoPart<kLayout>(d, weight_at(i), rest);
    const Tx* x = first_x + i;
    Ty* y = first_y + i;
    for (int64_t row = 0; row < rows; ++row, x = Next(x, x_stride), y = Next(y, y_stride)) {
      const auto of = Scale<kRound>(d, LoadDuoPart<kLayout>(d, x, rest), w, hn::Set(d, r_of_rows[row]), offset);
      StoreDuoPart<kLayout, Nans::kNone>(of, d, y, rest);
    }
  }

  // The steps over `count` elements, a multiple of a step, while the plan's part of a later row is fetched from `ahead` on;
  // returns how far that has come. kFetchFirst: prefetches go before the loads of their group, by twos: better in place.
  template <bool kRound, Store kStore, bool kFetchFirst>
  HWY_INLINE AheadRows Fetching(const Tx* x, const Tw* w, Ty* y, size_t count, V<D> r, V<D> offset, AheadRows ahead) const {
    const D d;
    constexpr size_t kLines = kFetchFirst ? 2 : 4, kGroup = kLines * kLine / sizeof(Tx), kStep = 2 * hn::MaxLanes(D());
    const auto weight_at = [w](size_t i) HWY_ATTR { return std::is_same_v<Tw, None> ? w : w + i; };
    size_t i = 0;
    const auto fetch = [&]() HWY_ATTR {
      if (plan_.in_write == 0) return;
      if (!kTwo && plan_.near) {
        HWY_UNROLL(4)
        for (size_t line = 0; line < kLines; ++line) PrefetchNear(ahead.row + line * kLine);
      } else {
        HWY_UNROLL(4)
        for (size_t line = 0; line < kLines; ++line) PrefetchFar(ahead.row + line * plan_.in_write);
      }
      if constexpr (kTwo) {
        HWY_UNROLL(4)
        for (size_t line = 0; line < kLines; ++line) PrefetchFar(ahead.other + line * plan_.in_write);
      }
      ahead = ahead.From<kTwo>(kLines * plan_.in_write);
    };
    for (; i + kGroup <= count; i += kGroup) {
      if (kFetchFirst) fetch();
      if (kFetchFirst && flow_ == Flow::kFetched) {  // no lambda: g++ finds that one which only fetches has no effect
        const char* const ahead_in_y = reinterpret_cast<const char*>(y + i) + kYAhead;
        HWY_UNROLL(4)
        for (size_t at = 0; at < kGroup * sizeof(Ty); at += kLine) PrefetchFar(ahead_in_y + at);
      }
      HWY_UNROLL(8)
      for (size_t k = i; k < i + kGroup; k += kStep) {
        Step<kRound, kStore>(d, x + k, weight_at(k), y + k, r, offset);
      }
      if (!kFetchFirst) fetch();
    }
    for (; i < count; i += kStep) Step<kRound, kStore>(d, x + i, weight_at(i), y + i, r, offset);
    return ahead;
  }

  // Ordinary stores, in place to lines that were just read.
  template <bool kRound>
  HWY_INLINE void InPlace(const Tx* x, Ty* y, float r_of_row, AheadRows ahead) const {
    const D d;
    const auto r = hn::Set(d, r_of_row), offset = hn::Set(d, offset_);
    const size_t rest = cols_ % (2 * hn::Lanes(d)), whole = cols_ - rest;
    Fetching<kRound, Store::kCached, true>(x, weight_, y, whole, r, offset, ahead);
    if (rest != 0) PartStep<kRound>(d, x + whole, WeightAt(whole), y + whole, rest, r, offset);
  }

  // Less than a line of y, or none of it. Not inlined: it is rare, and long.
  template <bool kRound>
  static HWY_NOINLINE void Part(const Tx* x, const Tw* w, Ty* y, size_t count, float r_of_row, float offset_of_call) {
    const D d;
    const auto r = hn::Set(d, r_of_row), offset = hn::Set(d, offset_of_call);
    const size_t step = 2 * hn::Lanes(d);
    for (size_t i = 0; i < count; i += step - 1) {
      PartStep<kRound>(d, x + i, std::is_same_v<Tw, None> ? w : w + i, y + i, std::min(step - 1, count - i), r, offset);
    }
  }

  // y bypasses the cache by whole lines. kStaged: by way of a buffer.
  template <bool kRound, bool kStaged>
  HWY_INLINE void Streamed(const Tx* x, Ty* y, float r_of_row, AheadRows ahead) const {
    constexpr size_t kPerLine = kLine / sizeof(Ty);
    constexpr Store kStore = kStaged ? Store::kCached : Store::kStreamed;
    const D d;
    const auto r = hn::Set(d, r_of_row), offset = hn::Set(d, offset_);
    const size_t step = 2 * hn::Lanes(d);
    size_t i = std::min(ElementsToLine(y), cols_);
    Part<kRound>(x, weight_, y, i, r_of_row, offset_);
    alignas(kLine) char room[kStaged ? kPage + 512 : kLine];
    Ty* stage = nullptr;
    const size_t at_once = kStaged ? plan_.stage / sizeof(Ty) : cols_;
    if constexpr (kStaged) stage = reinterpret_cast<Ty*>(HalfAPageFrom(x + i, room));
    while (cols_ - i >= kPerLine) {
      const size_t count = std::min(at_once, (cols_ - i) / kPerLine * kPerLine), whole = count / step * step;
      Ty* const to = kStaged ? stage : y + i;
      ahead = Fetching<kRound, kStore, false>(x + i, WeightAt(i), to, whole, r, offset, ahead);
      if (whole != count) Part<kRound>(x + i + whole, WeightAt(i + whole), to + whole, count - whole, r_of_row, offset_);
      if constexpr (kStaged) StreamLines(stage, y + i, count * sizeof(Ty));
      i += count;
    }
    Part<kRound>(x + i, WeightAt(i), y + i, cols_ - i, r_of_row, offset_);
  }

  const size_t cols_;
  const Tw* const weight_;
  const float offset_;
  const bool round_;
  bool clean_;  // whether the weight is known to be finite
  const Flow flow_;
  FetchPlan plan_;
  const char* const fetched_;
  const int64_t fetched_stride_;
  const char* other_ = nullptr;
  int64_t other_stride_ = 0;
  const char* x_;
  char* const y_;
  int64_t x_stride_;
  const int64_t y_stride_;
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_WRITE_INL_H_
