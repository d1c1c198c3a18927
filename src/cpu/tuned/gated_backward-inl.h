// The tuned backward with a gate, row by row. After the norm: one loop makes dy * f(gate), which goes to a buffer and from
// there the way of any dy, and dgate. Before the norm: x * f(gate) goes to a buffer and from there the way of any x, and the
// last loop makes dgate. Nothing is written before it is known that the row is tame, for others start again on the general
// path.
#if defined(ISONORM_CPU_TUNED_GATED_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_GATED_BACKWARD_INL_H_
#undef ISONORM_CPU_TUNED_GATED_BACKWARD_INL_H_
#else
#define ISONORM_CPU_TUNED_GATED_BACKWARD_INL_H_
#endif

#include "cpu/choose.h"
#include "cpu/tuned/gated-inl.h"
#include "cpu/tuned/gradient_loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// A gate after the norm: dy * f(gate), and dgate = dy * t * f'(gate), where t is what leaves the norm.
template <class T, class Function>
struct GateAfterUpstream {
  const T *x, *gate, *dy;
  const float* weight;
  float r;
  Roundings roundings;
  float* upstream;
  T* dgate;

  template <bool kPart>
  HWY_INLINE void Step(size_t i, size_t n) const {
    constexpr Layout kRuns = Layout::kRuns;
    const Tag<float> d;
    const auto r_of = hn::Set(d, r);
    const auto from = TakeDuo<kPart, kRuns>(dy + i, n);
    const auto of = GatesOf<Function, true>(d, TakeDuo<kPart, kRuns>(gate + i, n));
    PutDuo<kPart, kRuns, Nans::kNone>(Product(from, of.f), upstream + i, n);
    auto t = Map(TakeDuo<kPart, kRuns>(x + i, n), [&](V<Tag<float>> v) HWY_ATTR { return hn::Mul(v, r_of); });
    t = Product(RoundIf<T, Nans::kPossible>(roundings.scaled, t), TakeDuo<kPart, kRuns>(weight + i, n));
    t = RoundIf<T, Nans::kPossible>(roundings.gated, t);
    PutDuo<kPart, kRuns, Nans::kPossible>(Product(Product(from, t), of.slope), dgate + i, n);
  }
};

// dx = r * (dy * weight - c * f) and dweight += dy * round(c), where c = x * r. A gate before the norm has that for what it
// made of x, and takes it through the gate: dgate = dx * x * f'(gate), dx = dx * f(gate). dx, dgate and sums may be null.
template <class Tx, class Ty, class T, class Function>
struct GatedGradient {
  static constexpr bool kGated = !std::is_same_v<Function, None>;
  const Tx* x;  // what is normalised
  const Ty* dy;
  const float* weight;
  float r, f;
  Roundings roundings;
  float* sums;
  T* dx;
  const T *source, *gate;  // of a gate before the norm
  T* dgate;

  template <bool kPart>
  HWY_INLINE void Step(size_t i, size_t n) const {
    constexpr Layout kRuns = Layout::kRuns;
    const Tag<float> d;
    const auto r_of = hn::Set(d, r), factor = hn::Set(d, f);
    const auto v = TakeDuo<kPart, kRuns>(dy + i, n);
    const auto c = Map(TakeDuo<kPart, kRuns>(x + i, n), [&](V<Tag<float>> of) HWY_ATTR { return hn::Mul(of, r_of); });
    if (sums != nullptr) {
      const auto sum = Map(v, RoundIf<T, Nans::kNone>(roundings.scaled, c), TakeDuo<kPart, kRuns>(sums + i, n),
                           [](V<Tag<float>> a, V<Tag<float>> b, V<Tag<float>> of) HWY_ATTR { return Fma(a, b, of); });
      PutDuo<kPart, kRuns, Nans::kNone>(sum, sums + i, n);  // NaNs become canonical where dweight is stored
    }
    auto g = Product(v, TakeDuo<kPart, kRuns>(weight + i, n));
    g = Map(c, g, [&](V<Tag<float>> of, V<Tag<float>> up) HWY_ATTR { return hn::Mul(r_of, NegFma(of, factor, up)); });
    if constexpr (kGated) {
      const auto of = GatesOf<Function, true>(d, TakeDuo<kPart, kRuns>(gate + i, n));
      if (dgate != nullptr) {
        const auto t = Product(g, TakeDuo<kPart, kRuns>(source + i, n));
        PutDuo<kPart, kRuns, Nans::kPossible>(Product(t, of.slope), dgate + i, n);
      }
      g = Product(g, of.f);
    }
    if (dx != nullptr) PutDuo<kPart, kRuns, Nans::kPossible>(g, dx + i, n);
  }
};

template <class T, class Function, bool kBefore>
class GatedGradientRows {
  using Next = NextRows<T, 3>;

 public:
  GatedGradientRows(const Call& call, const isonorm::Run& run, const ColumnSums& sums)
      : call_(call),
        run_(run),
        sums_(sums),
        cols_(static_cast<size_t>(call.cols)),
        rows_(call, run),
        gated_(call, run, Flow::kCached, buffer_),
        roundings_(call),
        flow_(FlowOf(call, WrittenOver(), Written())),
        statistic_(call, run) {
    WidenWeight(call, weight_);
  }

  void Run() {
    GradientLoop<1>(run_.count, *this);
    if (flow_ == Flow::kStreamed) hwy::FlushStream();
  }

  // The parts of the loop.
  HWY_INLINE void Find(int64_t row, int, bool* tame) {
    if constexpr (kBefore) {
      gated_.Make(row);
      FindR(row, gated_, tame);
    } else {
      FindR(row, rows_, tame);
      if (!*tame) return;
      const auto *x = At<const T>(run_, kX, row), *gate = At<const T>(run_, kGate, row), *dy = At<const T>(run_, kDy, row);
      const float r = statistic_.r(0);
      GateLoop(GateAfterUpstream<T, Function>{x, gate, dy, weight_, r, roundings_, buffer_, dgate_}, cols_, NextOf(row));
    }
    if (*tame) statistic_.FindF(row, 1, tame, *this);
  }
  HWY_NOINLINE float Dot(int64_t row, float r) const {
    if constexpr (kBefore) {
      const GradientProducts<kLayoutOf<float, T>, float, float, T> products = {buffer_, weight_, At<const T>(run_, kDy, row), r,
                                                                               -0.0f};
      return GradientDot<float, float, T>(products, rows_.leaves(), Nothing());
    } else {
      const GradientProducts<kLayoutOf<T, float>, T, float, float> products = {At<const T>(run_, kX, row), weight_, buffer_, r,
                                                                               -0.0f};
      return GradientDot<T, float, float>(products, rows_.leaves(), Nothing());
    }
  }
  template <int kRows>
  HWY_INLINE void Write(int64_t row, int) {
    const auto *x = At<const T>(run_, kX, row), *gate = At<const T>(run_, kGate, row), *dy = At<const T>(run_, kDy, row);
    const float r = statistic_.r(0), f = statistic_.f(0);
    const Next next = NextOf(row);
    WriteDx(row, [&](T* to, size_t i, size_t n) HWY_ATTR {
      float* const sums = Sums() == nullptr ? nullptr : Sums() + i;
      if constexpr (kBefore) {
        GateLoop(GatedGradient<float, T, T, Function>{buffer_ + i, dy + i, weight_ + i, r, f, roundings_, sums, to, x + i,
                                                      gate + i, dgate_ + i},
                 n, next.From(i));
      } else {
        GateLoop(GatedGradient<T, float, T, None>{x + i, buffer_ + i, weight_ + i, r, f, roundings_, sums, to}, n, Next());
      }
    });
    if (run_.data[kDgate] != nullptr) CopyOut(dgate_, cols_, At<T>(run_, kDgate, row), flow_);
  }
  HWY_NOINLINE void General(int64_t row) const {
    char* data[kRowTensors];
    GeneralBackward(call_, OneRow(run_, row, data), sums_);
  }

 private:
  // An output, and the input that it lies over, if there is one.
  const char* Written() const { return run_.data[kDx] != nullptr ? run_.data[kDx] : run_.data[kDgate]; }
  const char* WrittenOver() const {
    for (const RowTensor input : {kX, kGate, kDy}) {
      if (run_.data[input] == run_.data[kDx] || run_.data[input] == run_.data[kDgate]) return Written();
    }
    return nullptr;
  }

  Next NextOf(int64_t row) const { return Next::Of(run_, {kX, kGate, kDy}, row + 1, call_.cols, flow_); }
  float* Sums() const { return static_cast<float*>(sums_.dweight); }

  template <class Source>
  HWY_NOINLINE void FindR(int64_t row, const Source& source, bool* tame) {
    statistic_.FindR(row, 1, source, tame);
  }
  // Calls loop(dx of a piece, its first column, columns) for all pieces of the row, or for all of it if dx is not wanted.
  template <class Loop>
  HWY_INLINE void WriteDx(int64_t row, const Loop& loop) const {
    if (run_.data[kDx] == nullptr) return loop(nullptr, size_t{0}, cols_);
    WriteInPieces(At<T>(run_, kDx, row), cols_, flow_, [&](size_t i, size_t n, T* to) HWY_ATTR { loop(to, i, n); });
  }

  const Call& call_;
  const isonorm::Run& run_;
  const ColumnSums& sums_;
  const size_t cols_;
  const PlainRows<T> rows_;
  const GateSource<T, Function> gated_;  // without fetching: the last loop does that
  const Roundings roundings_;
  const Flow flow_;
  GradientStatistic<1> statistic_;
  HWY_ALIGN float weight_[kMostColumns];
  HWY_ALIGN float buffer_[kMostColumns];
  HWY_ALIGN T dgate_[kMostColumns];
};

template <class T, bool kBefore>
void GatedBackward(const Call& call, const Run& run, const ColumnSums& sums) {
  if (call.gate_function == GateFunction::kSilu) {
    GatedGradientRows<T, SiluFunction, kBefore>(call, run, sums).Run();
  } else {
    GatedGradientRows<T, SigmoidFunction, kBefore>(call, run, sums).Run();
  }
}

// The loops find the weight in f32, and take dy's and dx's type for x's.
template <class T>
struct RowOf<Operation::k_backward, Source::k_gate, Sink::k_cast, T, AnyWeight, T> {
  static constexpr Kernel kRun = GatedBackward<T, true>;
};
template <class T>
struct RowOf<Operation::k_backward, Source::k_plain, Sink::k_gate, T, AnyWeight, T> {
  static constexpr Kernel kRun = GatedBackward<T, false>;
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_GATED_BACKWARD_INL_H_
