// The tuned backward with a gate, row by row. First f(gate) and its slope go to buffers, by two loops: one chain of operations
// from the gate to dgate is longer than what a CPU looks ahead, so that steps would wait for each other, and a gate before the
// norm needs f twice. After the norm, dy * f(gate) then goes the way of any dy; before it, x * f(gate) that of any x, and the
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

// exp(-gate), of gates that are not far.
template <class T>
struct GateExponential {
  const T* gate;
  float* e;

  template <bool kPart>
  HWY_INLINE void Step(size_t i, size_t n) const {
    const Tag<float> d;
    PutDuo<kPart, Layout::kRuns, Nans::kNone>(Map(TakeDuo<kPart, Layout::kRuns>(gate + i, n),
                                                  [&](V<Tag<float>> z) HWY_ATTR {
                                                    V<Tag<float>> p, shifted;
                                                    return Exponential<Reach::kNear>(d, z, p, shifted);
                                                  }),
                                              e + i, n);
  }
};

// f(gate), and its slope in the place of exp(-gate), and h = x * f(gate) unless that is null.
template <class T, class Function>
struct GateAndSlope {
  const T *gate, *x;
  float *f, *slope, *h;

  template <bool kPart>
  HWY_INLINE void Step(size_t i, size_t n) const {
    constexpr Layout kRuns = Layout::kRuns;
    const auto of =
        GatesAndSlopesOf<Function>(Tag<float>(), TakeDuo<kPart, kRuns>(gate + i, n), TakeDuo<kPart, kRuns>(slope + i, n));
    PutDuo<kPart, kRuns, Nans::kNone>(of.f, f + i, n);
    PutDuo<kPart, kRuns, Nans::kNone>(of.slope, slope + i, n);
    if (h != nullptr) PutDuo<kPart, kRuns, Nans::kNone>(Product(TakeDuo<kPart, kRuns>(x + i, n), of.f), h + i, n);
  }
};

// A gate after the norm: dy * f(gate) in the place of f, and dgate = dy * t * f'(gate), where t is what leaves the norm.
template <class T>
struct GateAfterUpstream {
  const T *x, *dy;
  const float *weight, *slope;
  float r;
  Roundings roundings;
  float* f;
  T* dgate;

  template <bool kPart>
  HWY_INLINE void Step(size_t i, size_t n) const {
    constexpr Layout kRuns = Layout::kRuns;
    const auto r_of = hn::Set(Tag<float>(), r);
    const auto from = TakeDuo<kPart, kRuns>(dy + i, n);
    PutDuo<kPart, kRuns, Nans::kNone>(Product(from, TakeDuo<kPart, kRuns>(f + i, n)), f + i, n);
    auto t = Map(TakeDuo<kPart, kRuns>(x + i, n), [&](V<Tag<float>> v) HWY_ATTR { return hn::Mul(v, r_of); });
    t = Product(RoundIf<T, Nans::kPossible>(roundings.scaled, t), TakeDuo<kPart, kRuns>(weight + i, n));
    t = RoundIf<T, Nans::kPossible>(roundings.gated, t);
    PutDuo<kPart, kRuns, Nans::kPossible>(Product(Product(from, t), TakeDuo<kPart, kRuns>(slope + i, n)), dgate + i, n);
  }
};

// dx = r * (dy * weight - c * f) and dweight += dy * round(c), where c = x * r. A gate before the norm has that for x *
// f(gate), and takes it through the gate: dgate = dx * x * f'(gate), dx = dx * f(gate). dx and sums may be null.
template <class T, class Ty, bool kBefore>
struct GatedGradient {
  const T* x;
  const Ty* dy;
  const float* weight;
  float r, f;
  Roundings roundings;
  float* sums;
  T* dx;
  const float *gate, *slope;  // f(gate), and f'(gate), of a gate before the norm
  T* dgate;

  template <bool kPart>
  HWY_INLINE void Step(size_t i, size_t n) const {
    constexpr Layout kRuns = Layout::kRuns;
    const Tag<float> d;
    const auto r_of = hn::Set(d, r), factor = hn::Set(d, f);
    const auto v = TakeDuo<kPart, kRuns>(dy + i, n), source = TakeDuo<kPart, kRuns>(x + i, n);
    auto c = source;
    if constexpr (kBefore) c = Product(c, TakeDuo<kPart, kRuns>(gate + i, n));
    c = Map(c, [&](V<Tag<float>> of) HWY_ATTR { return hn::Mul(of, r_of); });
    if (sums != nullptr) {
      const auto sum = Map(v, RoundIf<T, Nans::kNone>(roundings.scaled, c), TakeDuo<kPart, kRuns>(sums + i, n),
                           [](V<Tag<float>> a, V<Tag<float>> b, V<Tag<float>> of) HWY_ATTR { return Fma(a, b, of); });
      PutDuo<kPart, kRuns, Nans::kNone>(sum, sums + i, n);  // NaNs become canonical where dweight is stored
    }
    auto g = Product(v, TakeDuo<kPart, kRuns>(weight + i, n));
    g = Map(c, g, [&](V<Tag<float>> of, V<Tag<float>> up) HWY_ATTR { return hn::Mul(r_of, NegFma(of, factor, up)); });
    if constexpr (kBefore) {
      PutDuo<kPart, kRuns, Nans::kPossible>(Product(Product(g, source), TakeDuo<kPart, kRuns>(slope + i, n)), dgate + i, n);
      g = Product(g, TakeDuo<kPart, kRuns>(gate + i, n));
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
        gated_(call, run, Flow::kCached, h_),
        roundings_(call),
        flow_(FlowOf(call, WrittenOver(), Written())),
        statistic_(call, run) {
    WidenWeight(call, weight_);
  }

  void Run() {
    GradientLoop<1, 1>(run_.count, *this);
    if (flow_ == Flow::kStreamed) hwy::FlushStream();
  }

  // The parts of the loop.
  HWY_INLINE void Find(int64_t row, int, bool* tame) {
    const auto *x = At<const T>(run_, kX, row), *gate = At<const T>(run_, kGate, row), *dy = At<const T>(run_, kDy, row);
    const Next next = Next::Of(run_, {kX, kGate, kDy}, row + 1, call_.cols, flow_);
    if constexpr (!kBefore) {
      FindR(row, rows_, tame);
      if (!*tame) return;
    }
    constexpr size_t kPiece = 512;  // what one loop makes is in the first-level cache for the next
    for (size_t i = 0; i < cols_; i += kPiece) {
      const size_t n = std::min(kPiece, cols_ - i);
      ColumnLoop(GateExponential<T>{gate + i, slope_ + i}, n, NoRows());
      ColumnLoop(GateAndSlope<T, Function>{gate + i, x + i, f_ + i, slope_ + i, kBefore ? h_ + i : nullptr}, n, next.From(i));
      if constexpr (kBefore) continue;
      ColumnLoop(GateAfterUpstream<T>{x + i, dy + i, weight_ + i, slope_ + i, statistic_.r(0), roundings_, f_ + i, dgate() + i},
                 n, NoRows());
    }
    if constexpr (kBefore) FindR(row, gated_, tame);
    if (*tame) statistic_.FindF(row, 1, tame, *this);
  }
  HWY_NOINLINE float Dot(int64_t row, float r) const {
    if constexpr (kBefore) {
      const GradientProducts<kLayoutOf<float, T>, float, float, T> products = {h_, weight_, At<const T>(run_, kDy, row), r,
                                                                               -0.0f};
      return GradientDot<float, float, T>(products, rows_.leaves(), Nothing());
    } else {
      const GradientProducts<kLayoutOf<T, float>, T, float, float> products = {At<const T>(run_, kX, row), weight_, f_, r,
                                                                               -0.0f};
      return GradientDot<T, float, float>(products, rows_.leaves(), Nothing());
    }
  }
  template <int kRows>
  HWY_INLINE void Write(int64_t row, int) {
    const auto *x = At<const T>(run_, kX, row), *dy = At<const T>(run_, kDy, row);
    const float r = statistic_.r(0), f = statistic_.f(0);
    WriteDx(row, [&](T* to, size_t i, size_t n) HWY_ATTR {
      float* const sums = Sums() == nullptr ? nullptr : Sums() + i;
      if constexpr (kBefore) {
        ColumnLoop(
            GatedGradient<T, T, true>{x + i, dy + i, weight_ + i, r, f, roundings_, sums, to, f_ + i, slope_ + i, dgate() + i},
            n, NoRows());
      } else {
        ColumnLoop(GatedGradient<T, float, false>{x + i, f_ + i, weight_ + i, r, f, roundings_, sums, to}, n, NoRows());
      }
    });
    if (run_.data[kDgate] != nullptr) CopyOut(dgate(), cols_, At<T>(run_, kDgate, row), flow_);
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

  T* dgate() { return reinterpret_cast<T*>(slope_); }  // over the slopes, which each step reads before
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
  const GateSource<T, Function> gated_;  // of what lies in h_
  const Roundings roundings_;
  const Flow flow_;
  GradientStatistic<1> statistic_;
  HWY_ALIGN float weight_[kMostColumns];
  HWY_ALIGN float h_[kMostColumns];
  HWY_ALIGN float f_[kMostColumns];  // f(gate), or dy * f(gate)
  HWY_ALIGN float slope_[kMostColumns];
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
