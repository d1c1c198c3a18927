// The tuned forward with a gate. Before the norm: x * f(gate) goes to a buffer of f32, which then is a row like any other. After
// the norm: one loop from x to y.
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

// Both vectors of gates, by one look at how far they reach: f, and its slope if that is wanted.
template <class D>
HWY_INLINE bool AreNear(D d, const Duo<D>& z) {
  const auto nearest = hn::Set(d, kNearest);
  return HWY_LIKELY(hn::AllTrue(d, hn::And(hn::Le(hn::Abs(z.a), nearest), hn::Le(hn::Abs(z.b), nearest))));
}
template <class Function, class D>
HWY_INLINE Duo<D> GateOfDuo(D d, const Duo<D>& z) {
  if (AreNear(d, z)) {
    return {Function::template Of<Reach::kNear>(d, z.a), Function::template Of<Reach::kNear>(d, z.b)};
  }
  return {FarGate<Function>(d, z.a), FarGate<Function>(d, z.b)};
}
template <class Function, class D>
HWY_INLINE void GateAndSlopeOfDuo(D d, const Duo<D>& z, Duo<D>& f, Duo<D>& slope) {
  if (AreNear(d, z)) {
    f = {Function::template Of<Reach::kNear>(d, z.a), Function::template Of<Reach::kNear>(d, z.b)};
    slope = {Function::template Slope<Reach::kNear>(d, z.a), Function::template Slope<Reach::kNear>(d, z.b)};
  } else {
    f = {FarGate<Function>(d, z.a), FarGate<Function>(d, z.b)};
    slope = {FarGateSlope<Function>(d, z.a), FarGateSlope<Function>(d, z.b)};
  }
}

// loop.template Step<kPart>(i, count) for all columns, while other rows are fetched.
template <class Loop, class Next>
HWY_NOINLINE void GateLoop(Loop loop, size_t cols, Next next) {
  constexpr size_t kWidth = 2 * hn::MaxLanes(Tag<float>());
  size_t i = 0;
  for (; i + kWidth <= cols; i += kWidth) {
    loop.template Step<false>(i, kWidth);
    next.template Fetch<kWidth>(i);
  }
  if (i < cols) loop.template Step<true>(i, cols - i);
}

// The source of a gate before the norm: h = x * f(gate). What is not finite shows in the sum of squares.
template <class T, class Function>
struct GatedSource {
  const T* x;
  const T* gate;
  float* h;
  template <bool kPart>
  HWY_INLINE void Step(size_t i, size_t n) const {
    const auto f = GateOfDuo<Function>(Tag<float>(), TakeDuo<kPart, Layout::kRuns>(gate + i, n));
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
struct GatedSink {
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
      v = Product(v, GateOfDuo<Function>(d, TakeDuo<kPart, kLayout>(gate + i, n)));
    }
    PutDuo<kPart, kLayout, Nans::kPossible>(v, y + i, n);
  }
};

template <class T, class Function>
HWY_NOINLINE void GatedRows(const Call& call, const Run& run) {
  const auto cols = static_cast<size_t>(call.cols);
  const bool before = call.gate == Gate::kBefore;
  const Roundings roundings(call);
  const RowLeaves leaves(call.cols);
  const PlainRange range(call.eps, call.eps_outside);
  const auto eps = static_cast<float>(call.eps);
  const bool over_gate = run.data[kY] == run.data[kGate];
  const Flow flow = FlowOf(call, over_gate ? run.data[kY] : run.data[kX], run.data[kY]);
  HWY_ALIGN float weight[kMostColumns];
  HWY_ALIGN float h[kMostColumns];
  HWY_ALIGN float sums[kBlockRows] = {};
  WidenWeight(call, weight);
  for (int64_t row = 0; row < run.count; ++row) {
    const auto* x = reinterpret_cast<const T*>(run.data[kX] + row * run.stride[kX]);
    const auto* gate = reinterpret_cast<const T*>(run.data[kGate] + row * run.stride[kGate]);
    const auto next = NextRows<T, 2>::Of(run, {kX, kGate}, row + 1, call.cols, flow);
    if (before) GateLoop(GatedSource<T, Function>{x, gate, h}, cols, next);
    const float sum = call.shard != nullptr ? SharedSum(call, run.first + row)
                      : before              ? RowSums(static_cast<const float*>(h), 0, 1, leaves, sums)
                                            : RowSums(x, 0, 1, leaves, sums);
    if (HWY_UNLIKELY(!range.Holds(sum))) {
      RunGeneralRow(call, run, row);
      continue;
    }
    float r;
    RstdOfSums(&sum, 1, call.counted(), eps, call.eps_outside, &r);
    WriteInPieces(reinterpret_cast<T*>(run.data[kY] + row * run.stride[kY]), cols, flow,
                  [&](size_t i, size_t n, T* to) HWY_ATTR {
                    if (before) {
                      GateLoop(GatedSink<float, T, None>{h + i, weight + i, nullptr, r, roundings, to}, n, NextRows<T, 2>());
                    } else {
                      GateLoop(GatedSink<T, T, Function>{x + i, weight + i, gate + i, r, roundings, to}, n, next.From(i));
                    }
                  });
    if (run.data[kRstd] != nullptr) *reinterpret_cast<float*>(run.data[kRstd] + row * run.stride[kRstd]) = r;
  }
  if (flow == Flow::kStreamed) hwy::FlushStream();
}

template <class T>
void GatedForward(const Call& call, const Run& run, const ColumnSums&) {
  call.gate_function == GateFunction::kSilu ? GatedRows<T, SiluFunction>(call, run) : GatedRows<T, SigmoidFunction>(call, run);
}

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_GATED_INL_H_
