// The tuned backward: x and dy in, dx and dweight out, no fusion. Two rows at a time: first each row's dot product, then both
// column by column, so that weight and the sums of dweight are read once for two rows.
#if defined(ISONORM_CPU_TUNED_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_BACKWARD_INL_H_
#undef ISONORM_CPU_TUNED_BACKWARD_INL_H_
#else
#define ISONORM_CPU_TUNED_BACKWARD_INL_H_
#endif

#include <algorithm>

#include "cpu/general/general-inl.h"
#include "cpu/tuned/gradient_loop-inl.h"
#include "cpu/tuned/rows-inl.h"
#include "cpu/tuned/write-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

constexpr int kTogether = 2;

// What is fetched while a row's dot product is taken, where the plan has that, and again while two rows are written. f32 asks
// for every second line of a row further on, then for every line of those that come next. 16-bit types ask for each line of the
// first halves of those, then twice for the second halves.
template <class T>
struct FetchTwo {
  static constexpr bool kNarrow = sizeof(T) == 2;
  static constexpr int64_t kRowsAhead = kNarrow ? kTogether : kTogether + 1;
  static constexpr size_t kLines = kNarrow ? 1 : 2;  // with each turn of 64 elements
  const char* x;
  const char* dy;
  HWY_INLINE void operator()() {
    HWY_UNROLL(2)
    for (size_t i = 0; i < kLines; ++i) {
      PrefetchFar(x + i * 2 * kLine);
      PrefetchFar(dy + i * 2 * kLine);
    }
    x += kNarrow ? kLine : 4 * kLine;
    dy += kNarrow ? kLine : 4 * kLine;
  }
};

template <class Tx, class Tw, class Ty>
class GradientRows {
  using D = Tag<float>;
  static constexpr Layout kLayout = kLayoutOf<Tx, Ty>;
  using Tc = std::conditional_t<sizeof(Tx) == 2, Tx, Tw>;
  static constexpr bool kCanRound = sizeof(Tc) == 2;
  // What waits for memory rather than for arithmetic; for others loops that only these can use are not compiled.
  static constexpr bool kWide = std::is_same_v<Tx, float> && std::is_same_v<Ty, float>;

 public:
  GradientRows(const Call& call, const Run& run, const ColumnSums& sums)
      : call_(call),
        run_(run),
        rows_(call, run),
        statistic_(call, run),
        cols_(static_cast<size_t>(call.cols)),
        weight_(static_cast<const Tw*>(call.weight)),
        offset_(call.weight_offset == 0 ? -0.0f : static_cast<float>(call.weight_offset)),
        sums_(static_cast<float*>(sums.dweight)),
        round_(kCanRound && call.scaled_type != Type::kNone),
        flow_(FlowOf(call, run.data[kDx] == run.data[kX] ? run.data[kX] : run.data[kDy], run.data[kDx])),
        plan_(CurrentPlan().gradient[sizeof(Tx) == 2]),
        fetch_(flow_ < Flow::kInPlace ? GradientFetch::kNone : plan_.fetch),
        // Rows that do not share their place in a line cannot stream two by two: ordinary stores then.
        streams_(flow_ == Flow::kStreamed && run.data[kDx] != nullptr && run.stride[kDx] % kLine == 0),
        head_(streams_ ? std::min(ElementsToLine(reinterpret_cast<const Ty*>(run.data[kDx])), cols_) : 0) {}

  void Run() {
    if (run_.first % kRowBlock != 0) ArrangeSums<true>();  // otherwise they are zeros
    // Rows from memory are fetched as pairs of them go on; where none is, the hardware follows the tensors of one row better.
    const bool cached = flow_ < Flow::kInPlace;
    if (cached && call_.cols * static_cast<int64_t>(sizeof(Tx)) <= kShortGradient) {
      GradientLoop<kShortGradients, kTogether>(run_.count, *this);
    } else if (streams_ && fetch_ == GradientFetch::kNone) {
      GradientLoop<1, 1>(run_.count, *this);
    } else {
      GradientLoop<kTogether, kTogether>(run_.count, *this);
    }
    ArrangeSums<false>();
    if (streams_) hwy::FlushStream();
  }

  // The parts of the loop.
  HWY_NOINLINE void Find(int64_t first, int count, bool* tame) {
    const bool finite = statistic_.FindR(first, count, rows_, tame);
    // The roundings of c must not meet a NaN either.
    if (run_.data[kDx] == nullptr && (!round_ || finite)) return;
    statistic_.FindF(first, count, tame, *this);
  }
  HWY_INLINE void Dots(int64_t first, int count, const float* r, float* dots) const {
#if ISONORM_LEAF_NETWORK
    if (count > kTogether && cols_ == kHead) {
      return HeadDots<LeafType<kLayout>>(
          count, rows_.leaves(), [&](int64_t i) HWY_ATTR { return ProductsOf(first + i, r[i]); }, dots);
    }
    if constexpr (kWide) {
      if (count == kTogether && plan_.together && rows_.leaves().length == kMaxLeaf) {
        const GradientProducts<kLayout, Tx, Tw, Ty> products[kTogether] = {ProductsOf(first, r[0]),
                                                                           ProductsOf(first + 1, r[1])};
        return GradientDots(products, rows_.leaves(), dots);
      }
    }
#endif
    for (int i = 0; i < count; ++i) {
      const auto products = ProductsOf(first + i, r[i]);
      const int64_t next = first + i + FetchTwo<Tx>::kRowsAhead;
      dots[i] = fetch_ == GradientFetch::kInDotsToo
                    ? GradientDot<Tx, Tw, Ty>(products, rows_.leaves(),
                                              FetchTwo<Tx>{At<const char>(run_, kX, next), At<const char>(run_, kDy, next)})
                    : GradientDot<Tx, Tw, Ty>(products, rows_.leaves(), Nothing());
    }
  }
  template <int kRows>
  HWY_INLINE void Write(int64_t row, int first) const {
    if constexpr (kCanRound) {
      if (round_) return Loop<kRows, true>(row, first);
    }
    Loop<kRows, false>(row, first);
  }
  void General(int64_t row) const {
    char* data[kRowTensors];
    ArrangeSums<false>();
    GeneralBackward(call_, OneRow(run_, row, data), ColumnSums{sums_, nullptr});
    ArrangeSums<true>();
  }

 private:
  HWY_INLINE GradientProducts<kLayout, Tx, Tw, Ty> ProductsOf(int64_t row, float r) const {
    return {At<const Tx>(run_, kX, row), weight_, At<const Ty>(run_, kDy, row), r, offset_};
  }

  // The sums of dweight between rows: every whole step of columns in the order of a duo, which saves each step permutations.
  // Outside: in the order of columns.
  template <bool kIn>
  void ArrangeSums() const {
    if (kLayout == Layout::kRuns || sums_ == nullptr) return;
    constexpr Layout kFrom = kIn ? kLayout : Layout::kRuns, kTo = kIn ? Layout::kRuns : kLayout;
    const D d;
    const size_t step = 2 * hn::Lanes(d);
    const auto arrange = [&](size_t begin, size_t end) HWY_ATTR {
      for (size_t i = begin; i + step <= end; i += step) {
        StoreDuo<kTo, Nans::kNone, Store::kCached>(LoadDuo<kFrom>(d, sums_ + i), d, sums_ + i);
      }
    };
    arrange(0, head_);
    arrange(head_, cols_);
  }

  // What a turn over the columns needs, in registers as far as they go: members would be read again after each store.
  template <int kRows>
  struct Rows {
    const Tx* x[kRows];
    const Ty* dy[kRows];
    Ty* dx[kRows];
    float r[kRows], f[kRows], offset;
    const Tw* weight;
    float* sums;
    // The rows that are fetched meanwhile, from where that begins.
    bool fetches, halves;
    const char *next_x[kRows], *next_dy[kRows];
  };

  template <int kRows, bool kRound>
  HWY_NOINLINE void Loop(int64_t row, int first) const {
    Rows<kRows> rows;
    rows.offset = offset_;
    rows.weight = weight_;
    rows.sums = sums_;
    rows.fetches = fetch_ != GradientFetch::kNone;
    rows.halves = FetchTwo<Tx>::kNarrow && fetch_ == GradientFetch::kInDotsToo;
    const size_t from = rows.halves ? cols_ / 2 * sizeof(Tx) : 0;
    for (int i = 0; i < kRows; ++i) {
      rows.next_x[i] = At<const char>(run_, kX, row + i + kTogether) + from;
      rows.next_dy[i] = At<const char>(run_, kDy, row + i + kTogether) + from;
      rows.x[i] = At<const Tx>(run_, kX, row + i);
      rows.dy[i] = At<const Ty>(run_, kDy, row + i);
      rows.dx[i] = run_.data[kDx] == nullptr ? nullptr : At<Ty>(run_, kDx, row + i);
      rows.r[i] = statistic_.r(first + i);
      rows.f[i] = statistic_.f(first + i);
    }
    if constexpr (kWide && (kRows == kTogether || HWY_TARGET == HWY_AVX2)) {  // the plan of one row is for CPUs without AVX-512
      if (streams_ && plan_.direct) return Direct<kRows, kRound>(rows);
    }
    if (streams_) return Streamed<kRows, kRound>(rows);
    Columns<kRows, kRound>(rows, 0, 0, cols_);
  }

  // What goes with `count` bytes written from `at` on: each line once, or each line of half as many bytes twice.
  static HWY_INLINE void FetchLines(const char* next, bool halves, size_t at, size_t count) {
    for (size_t line = 0; line < count; line += kLine) PrefetchFar(next + ((at + line) >> (halves ? 1 : 0)));
  }

  // Columns [begin, begin + count), which dx has at `out`.
  template <int kRows, bool kRound, Store kStore = Store::kCached>
  static HWY_INLINE void Columns(const Rows<kRows>& rows, size_t begin, size_t out, size_t count) {
    const size_t step = 2 * hn::Lanes(D());
    size_t i = 0;
    for (; i + step <= count; i += step) {
      Step<kRows, kRound, false, kStore>(rows, begin + i, out + i, step);
      // After the step, whose own loads ought not to wait for these.
      if (rows.fetches) {
        for (int k = 0; k < kRows; ++k) {
          FetchLines(rows.next_x[k], rows.halves, (begin + i) * sizeof(Tx), step * sizeof(Tx));
          FetchLines(rows.next_dy[k], rows.halves, (begin + i) * sizeof(Ty), step * sizeof(Ty));
        }
      }
    }
    if (kStore == Store::kCached && i < count) Step<kRows, kRound, true>(rows, begin + i, out + i, count - i);
  }

  // dx bypasses the cache by whole lines, each by itself.
  template <int kRows, bool kRound>
  HWY_INLINE void Direct(const Rows<kRows>& rows) const {
    constexpr size_t kStep = std::max<size_t>(2 * hn::MaxLanes(D()), kLine / sizeof(Ty));
    const size_t end = head_ + (cols_ - head_) / kStep * kStep;
    Columns<kRows, kRound>(rows, 0, 0, head_);
    Columns<kRows, kRound, Store::kStreamed>(rows, head_, head_, end - head_);
    Columns<kRows, kRound>(rows, end, end, cols_ - end);
  }

  // dx bypasses the cache by whole lines, by way of a buffer as in RowWriter: two lines of each row are best.
  template <int kRows, bool kRound>
  HWY_INLINE void Streamed(Rows<kRows> rows) const {
    constexpr size_t kBytes = 128, kPerLine = kLine / sizeof(Ty);
    Columns<kRows, kRound>(rows, 0, 0, head_);
    alignas(kLine) char room[kPage + kRows * kBytes];
    char* const stage = HalfAPageFrom(rows.x[0] + head_, room);
    Ty* dx[kRows];
    for (int k = 0; k < kRows; ++k) {
      dx[k] = rows.dx[k];
      rows.dx[k] = reinterpret_cast<Ty*>(stage + k * kBytes);
    }
    size_t i = head_;
    while (cols_ - i >= kPerLine) {
      const size_t count = std::min(kBytes / sizeof(Ty), (cols_ - i) / kPerLine * kPerLine);
      Columns<kRows, kRound>(rows, i, 0, count);
      for (int k = 0; k < kRows; ++k) StreamLines(rows.dx[k], dx[k] + i, count * sizeof(Ty));
      i += count;
    }
    for (int k = 0; k < kRows; ++k) rows.dx[k] = dx[k];
    Columns<kRows, kRound>(rows, i, i, cols_ - i);
  }

  template <int kRows, bool kRound, bool kPart, Store kStore = Store::kCached>
  static HWY_INLINE void Step(const Rows<kRows>& rows, size_t i, size_t out, size_t count) {
    const D d;
    const auto load = [&](auto* p) HWY_ATTR {
      if constexpr (kPart) {
        return LoadDuoPart<kLayout>(d, p, count);
      } else {
        return LoadDuo<kLayout>(d, p);
      }
    };
    const auto offset = hn::Set(d, rows.offset);
    const auto w = Map(load(std::is_same_v<Tw, None> ? rows.weight : rows.weight + i),
                       [&](V<D> v) HWY_ATTR { return std::is_same_v<Tw, None> ? v : hn::Add(v, offset); });
    const bool want_dx = rows.dx[0] != nullptr, want_sums = rows.sums != nullptr;
    auto sum = Duo<D>{hn::Zero(d), hn::Zero(d)};
    if (want_sums) sum = kPart ? load(static_cast<const float*>(rows.sums + i)) : LoadDuo<Layout::kRuns>(d, rows.sums + i);
    [[maybe_unused]] Duo<D> last[kRows];
    HWY_UNROLL(2)
    for (int k = 0; k < kRows; ++k) {
      const auto r = hn::Set(d, rows.r[k]), f = hn::Set(d, rows.f[k]);
      const auto dy = load(rows.dy[k] + i);
      const auto c = Map(load(rows.x[k] + i), [&](V<D> x) HWY_ATTR { return hn::Mul(x, r); });
      if (want_sums) {
        sum = Map(dy, c, sum, [&](V<D> v, V<D> of, V<D> a) HWY_ATTR {
          if constexpr (kRound) of = RoundThrough<Tc, Nans::kNone>(d, of);
          return Fma(v, of, a);
        });
      }
      if (want_dx) {
        const auto dx = Map(dy, c, w, [&](V<D> v, V<D> of, V<D> by) HWY_ATTR {
          const auto g = std::is_same_v<Tw, None> ? v : hn::Mul(v, by);
          return hn::Mul(r, hn::NegMulAdd(of, f, g));
        });
        if constexpr (kPart) {
          StoreDuoPart<kLayout, Nans::kNone>(dx, d, rows.dx[k] + out, count);
        } else if constexpr (kStore == Store::kStreamed) {
          last[k] = dx;
        } else {
          StoreDuo<kLayout, Nans::kNone, kStore>(dx, d, rows.dx[k] + out);
        }
      }
    }
    if constexpr (kStore == Store::kStreamed) {
      // After all loads: rows of whole pages lie at the same places of theirs, for which a load would wait.
      HWY_UNROLL(2)
      for (int k = 0; k < kRows; ++k) StoreDuo<kLayout, Nans::kNone, kStore>(last[k], d, rows.dx[k] + out);
    }
    if (!want_sums) return;
    if constexpr (kPart) {  // NaNs become canonical where dweight is stored
      StoreDuoPart<kLayout, Nans::kNone>(sum, d, rows.sums + i, count);
    } else {
      StoreDuo<Layout::kRuns, Nans::kNone, Store::kCached>(sum, d, rows.sums + i);
    }
  }

  const Call& call_;
  const isonorm::Run run_;
  const PlainRows<Tx> rows_;
  GradientStatistic<kShortGradients> statistic_;
  const size_t cols_;
  const Tw* const weight_;
  const float offset_;
  float* const sums_;
  const bool round_;
  const Flow flow_;
  const GradientPlan plan_;
  const GradientFetch fetch_;
  const bool streams_;
  const size_t head_;  // columns of dx before the first whole line, if it streams
};

template <class Tx, class Tw, class Ty>
void TunedBackward(const Call& call, const Run& run, const ColumnSums& sums) {
  GradientRows<Tx, Tw, Ty>(call, run, sums).Run();
}

template <class Tx, class Tw, class Ty>
struct RowOf<Operation::k_backward, Source::k_plain, Sink::k_cast, Tx, Tw, Ty> {
  static constexpr Kernel kRun = TunedBackward<Tx, Tw, Ty>;
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_BACKWARD_INL_H_
