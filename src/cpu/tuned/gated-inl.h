// The tuned forward with a gate. Before the norm: x * f(gate) goes to a buffer of f32, which then is a row like any other.
// After the norm: one loop from x to y.
#if defined(ISONORM_CPU_TUNED_GATED_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_GATED_INL_H_
#undef ISONORM_CPU_TUNED_GATED_INL_H_
#else
#define ISONORM_CPU_TUNED_GATED_INL_H_
#endif

#include "cpu/choose.h"
#include "cpu/tuned/pieces-inl.h"
#include "cpu/tuned/forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// f of two vectors of gates, and its slope where that is wanted, by one look at how far they reach.
template <class D>
struct GateDuos {
  HWY_INLINE GateDuos() {}
  Duo<D> f, slope;
};
template <Reach kReach, class D>
HWY_INLINE bool AreWithin(D d, const Duo<D>& z) {
  return hn::AllTrue(d, hn::And(AreWithin<kReach>(d, z.a), AreWithin<kReach>(d, z.b)));
}
template <class Function, bool kSlope, Reach kReach, class D>
HWY_INLINE GateDuos<D> GatesWithin(D d, const Duo<D>& z) {
  GateDuos<D> of;
  if constexpr (kSlope) {
    Function::template Both<kReach>(d, z.a, of.f.a, of.slope.a);
    Function::template Both<kReach>(d, z.b, of.f.b, of.slope.b);
  } else {
    of.f = {Function::template Of<kReach>(d, z.a), Function::template Of<kReach>(d, z.b)};
  }
  return of;
}
template <class Function, bool kSlope, class D>
HWY_NOINLINE GateDuos<D> FarGatesOf(D d, const Duo<D>& z) {
  if (AreWithin<Reach::kMiddle>(d, z)) return GatesWithin<Function, kSlope, Reach::kMiddle>(d, z);
  return GatesWithin<Function, kSlope, Reach::kAny>(d, z);
}
// near(): those of near gates.
template <class Function, bool kSlope, class D, class Near>
HWY_INLINE GateDuos<D> GatesOf(D d, const Duo<D>& z, Near near) {
  GateDuos<D> of;
  if (HWY_LIKELY(AreWithin<Reach::kNear>(d, z))) {
    of = near();
  } else {  // by copies, so that near ones stay in registers
    const Duo<D> copy = {z.a, z.b};
    const auto far = FarGatesOf<Function, kSlope>(d, copy);
    of.f.a = far.f.a, of.f.b = far.f.b;
    if constexpr (kSlope) of.slope.a = far.slope.a, of.slope.b = far.slope.b;
  }
  return of;
}
template <class Function, class D>
HWY_INLINE Duo<D> GatesOf(D d, const Duo<D>& z) {
  const auto near = [&]() HWY_ATTR { return GatesWithin<Function, false, Reach::kNear>(d, z); };
  return GatesOf<Function, false>(d, z, near).f;
}
// With slopes, from e = exp(-z), which need not be right where z is not near.
template <class Function, class D>
HWY_INLINE GateDuos<D> GatesAndSlopesOf(D d, const Duo<D>& z, const Duo<D>& e) {
  return GatesOf<Function, true>(d, z, [&]() HWY_ATTR {
    GateDuos<D> of;
    Function::template Near<Reach::kNear>(d, z.a, z.a, e.a, of.f.a, of.slope.a);
    Function::template Near<Reach::kNear>(d, z.b, z.b, e.b, of.f.b, of.slope.b);
    return of;
  });
}

// h = x * f(gate). What is not finite shows in the sum of squares.
template <class T, class Function>
struct GateColumns {
  const T* x;
  const T* gate;
  float* h;
  template <bool kPart>
  HWY_INLINE void Step(size_t i, size_t n) const {
    const auto f = GatesOf<Function>(Tag<float>(), TakeDuo<kPart, Layout::kRuns>(gate + i, n));
    PutDuo<kPart, Layout::kRuns, Nans::kNone>(Product(TakeDuo<kPart, Layout::kRuns>(x + i, n), f), h + i, n);
  }
};

// What a call rounds to T, if that has 16 bits: looked at in the loops, which are long enough.
struct Roundings {
  explicit Roundings(const Call& call) : scaled(call.scaled_type != Type::kNone), gated(call.gated_type != Type::kNone) {}
  bool scaled, gated;  // x * rstd, and what reaches a gate after the norm
};
template <class T, Nans kNans>
HWY_INLINE Duo<Tag<float>> RoundIf(bool rounds, const Duo<Tag<float>>& v) {
  if constexpr (sizeof(T) == 2) {
    if (rounds) return Map(v, [](V<Tag<float>> of) HWY_ATTR { return RoundThrough<T, kNans>(Tag<float>(), of); });
  }
  return v;
}

// round(v * r) * weight, times f(gate) where there is one, for columns of a row. v is x, or the buffer; T is the type of x.
template <class Tv, class T, class Function>
struct ScaledColumns {
  static constexpr Layout kLayout = kLayoutOf<Tv, T>;
  const Tv* from;
  const float* weight;
  const T* gate;
  float r;
  Roundings roundings;
  T* y;

  template <bool kPart>
  HWY_INLINE void Step(size_t i, size_t n) const {
    const Tag<float> d;
    const auto r_of = hn::Set(d, r);
    auto v = Map(TakeDuo<kPart, kLayout>(from + i, n), [&](V<Tag<float>> x) HWY_ATTR { return hn::Mul(x, r_of); });
    v = RoundIf<T, Nans::kNone>(roundings.scaled, v);
    v = Product(v, TakeDuo<kPart, kLayout>(weight + i, n));
    if constexpr (!std::is_same_v<Function, None>) {
      v = RoundIf<T, Nans::kPossible>(roundings.gated, v);
      v = Product(v, GatesOf<Function>(d, TakeDuo<kPart, kLayout>(gate + i, n)));
    }
    PutDuo<kPart, kLayout, Nans::kPossible>(v, y + i, n);
  }
};

// The source of a gate before the norm: each row goes to a buffer of f32.
template <class T, class Function>
class GateSource {
 public:
  GateSource(const Call& call, const Run& run, Flow flow, float* buffer)
      : run_(run), leaves_(call.cols), cols_(call.cols), flow_(flow), buffer_(buffer) {}
  HWY_INLINE void Make(int64_t row) const {
    const auto next = NextRows<T, 2>::Of(run_, {kX, kGate}, row + 1, cols_, flow_);
    ColumnLoop(GateColumns<T, Function>{At<const T>(run_, kX, row), At<const T>(run_, kGate, row), buffer_},
               static_cast<size_t>(cols_), next);
  }
  HWY_INLINE float Sum(int64_t) const { return RowSum<float>(buffer_, leaves_); }
  HWY_INLINE const float* row() const { return buffer_; }

 private:
  const Run& run_;
  const RowLeaves leaves_;
  const int64_t cols_;
  const Flow flow_;
  float* const buffer_;
};

// The sinks: kBefore: of the rows that a GateSource made in `buffer`; otherwise of x, with the gate.
template <class T, class Function, bool kBefore>
class GateSink : public TakesAll {
 public:
  GateSink(const Call& call, const Run& run, Flow flow, const float* weight, const float* buffer)
      : run_(run), cols_(call.cols), flow_(flow), roundings_(call), weight_(weight), buffer_(buffer) {}
  HWY_INLINE void Write(int64_t row, int64_t, const float* r) const {
    const auto *x = At<const T>(run_, kX, row), *gate = At<const T>(run_, kGate, row);
    const auto next = NextRows<T, 2>::Of(run_, {kX, kGate}, row + 1, cols_, flow_);
    WriteInPieces(At<T>(run_, kY, row), static_cast<size_t>(cols_), flow_, [&](size_t i, size_t n, T* to) HWY_ATTR {
      if constexpr (kBefore) {
        const ScaledColumns<float, T, None> columns = {buffer_ + i, weight_ + i, nullptr, *r, roundings_, to};
        ColumnLoop(columns, n, NoRows());
      } else {
        const ScaledColumns<T, T, Function> columns = {x + i, weight_ + i, gate + i, *r, roundings_, to};
        ColumnLoop(columns, n, next.From(i));
      }
    });
  }
  HWY_INLINE void Finish() const {
    if (flow_ == Flow::kStreamed) hwy::FlushStream();
  }

 private:
  const Run& run_;
  const int64_t cols_;
  const Flow flow_;
  const Roundings roundings_;
  const float *const weight_, *const buffer_;
};

HWY_INLINE Flow GateFlow(const Call& call, const Run& run) {
  const bool over_gate = run.data[kY] == run.data[kGate];
  return FlowOf(call, over_gate ? run.data[kY] : run.data[kX], run.data[kY]);
}

template <class T, class Function>
HWY_NOINLINE void GateBeforeRows(const Call& call, const Run& run) {
  const Flow flow = GateFlow(call, run);
  HWY_ALIGN float weight[kMostColumns];
  HWY_ALIGN float buffer[kMostColumns];
  WidenWeight(call, weight);
  const GateSource<T, Function> source(call, run, flow, buffer);
  const GateSink<T, Function, true> sink(call, run, flow, weight, buffer);
  RowLoop(call, run, One(), source, sink);
}

template <class T, class Function>
HWY_NOINLINE void GateAfterRows(const Call& call, const Run& run) {
  const Flow flow = GateFlow(call, run);
  HWY_ALIGN float weight[kMostColumns];
  WidenWeight(call, weight);
  const PlainRows<T> source(call, run);
  const GateSink<T, Function, false> sink(call, run, flow, weight, nullptr);
  RowLoop(call, run, One(), source, sink);
}

template <class T>
void GateBeforeForward(const Call& call, const Run& run, const ColumnSums&) {
  const bool silu = call.gate_function == GateFunction::kSilu;
  silu ? GateBeforeRows<T, SiluFunction>(call, run) : GateBeforeRows<T, SigmoidFunction>(call, run);
}
template <class T>
void GateAfterForward(const Call& call, const Run& run, const ColumnSums&) {
  const bool silu = call.gate_function == GateFunction::kSilu;
  silu ? GateAfterRows<T, SiluFunction>(call, run) : GateAfterRows<T, SigmoidFunction>(call, run);
}

// The loops find the weight in f32, and take y's type for x's.
template <class T>
struct RowOf<Operation::k_forward, Source::k_gate, Sink::k_cast, T, AnyWeight, T> {
  static constexpr Kernel kRun = GateBeforeForward<T>;
};
template <class T>
struct RowOf<Operation::k_forward, Source::k_plain, Sink::k_gate, T, AnyWeight, T> {
  static constexpr Kernel kRun = GateAfterForward<T>;
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_GATED_INL_H_
