// The tuned backward with a gate, row by row. After the norm: one loop makes dy * f(gate), which goes to a buffer and from there
// the way of any dy, and dgate. Before the norm: x * f(gate) goes to a buffer and from there the way of any x, and the last loop
// makes dgate. Nothing is written before it is known that the row is plain, for others start again on the general path.
#if defined(ISONORM_CPU_TUNED_GATED_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_GATED_BACKWARD_INL_H_
#undef ISONORM_CPU_TUNED_GATED_BACKWARD_INL_H_
#else
#define ISONORM_CPU_TUNED_GATED_BACKWARD_INL_H_
#endif

#include "cpu/choose.h"
#include "cpu/tuned/gated-inl.h"
#include "cpu/tuned/gradient_dot-inl.h"

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
    Duo<Tag<float>> f, slope;
    GateAndSlopeOfDuo<Function>(d, TakeDuo<kPart, kRuns>(gate + i, n), f, slope);
    PutDuo<kPart, kRuns, Nans::kNone>(Product(from, f), upstream + i, n);
    auto t = Map(TakeDuo<kPart, kRuns>(x + i, n), [&](V<Tag<float>> v) HWY_ATTR { return hn::Mul(v, r_of); });
    t = Product(RoundIf<T, Nans::kPossible>(roundings.scaled, t), TakeDuo<kPart, kRuns>(weight + i, n));
    t = RoundIf<T, Nans::kPossible>(roundings.gated, t);
    PutDuo<kPart, kRuns, Nans::kPossible>(Product(Product(from, t), slope), dgate + i, n);
  }
};

// dx = r * (dy * weight - c * f) and dweight += dy * round(c), where c = x * r. A gate before the norm has that for what it made of
// x, and takes it through the gate: dgate = dx * x * f'(gate), dx = dx * f(gate). dx, dgate and sums may be null.
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
      Duo<Tag<float>> by, slope;
      GateAndSlopeOfDuo<Function>(d, TakeDuo<kPart, kRuns>(gate + i, n), by, slope);
      if (dgate != nullptr) {
        const auto t = Product(g, TakeDuo<kPart, kRuns>(source + i, n));
        PutDuo<kPart, kRuns, Nans::kPossible>(Product(t, slope), dgate + i, n);
      }
      g = Product(g, by);
    }
    if (dx != nullptr) PutDuo<kPart, kRuns, Nans::kPossible>(g, dx + i, n);
  }
};

// What does not depend on the gate: the rows' statistics.
class GradientStatistic {
 public:
  GradientStatistic(const Call& call, const Run& run)
      : call_(call), run_(run), leaves_(call.cols), range_(call.eps, call.eps_outside) {
    WidenWeight(call, weight_);
  }

 protected:
  template <class T>
  T* At(RowTensor tensor, int64_t row) const {
    return run_.data[tensor] == nullptr ? nullptr : reinterpret_cast<T*>(run_.data[tensor] + row * run_.stride[tensor]);
  }

  // The row's r, and its q where eps is outside the root; false: its sum says that it is not plain.
  template <class Tv>
  HWY_NOINLINE bool FindR(const Tv* v, int64_t row, float* r, float* q) const {
    const float* saved = At<const float>(kRstd, row);
    *q = 0;
    if (call_.shard == nullptr && saved != nullptr && !call_.eps_outside && *saved >= 0x1p-48f && *saved <= 0x1p47f) {
      *r = *saved;
      return true;
    }
    HWY_ALIGN float sums[kBlockRows] = {};
    const float sum = call_.shard != nullptr ? SharedSum(call_, run_.first + row) : RowSums(v, 0, 1, leaves_, sums);
    RstdOfSums(&sum, 1, call_.counted(), static_cast<float>(call_.eps), call_.eps_outside, r);
    *q = std::sqrt(Mean(sum, call_.counted()));
    return range_.Holds(sum);
  }

  // f of the row; false: something in it is not finite. A finite sum has finite terms, so every dy, weight and x is.
  template <class Tv, class Ty>
  HWY_NOINLINE bool FindF(const Tv* v, const Ty* dy, int64_t row, float r, float q, float* f) const {
    const GradientProducts<kLayoutOf<Tv, Ty>, Tv, float, Ty> products = {v, weight_, dy, r, -0.0f};
    const float dot = call_.shard != nullptr ? call_.shard->Total<float>(call_, run_.first + row, 0) + 0.0f
                                             : GradientDot<Tv, float, Ty>(products, leaves_, Nothing());
    *f = Mean(dot, call_.counted());
    if (call_.eps_outside) *f = q * r == 0 ? 0.0f : *f / (q * r);
    return std::fabs(dot) <= std::numeric_limits<float>::max();
  }

  const Call& call_;
  const isonorm::Run& run_;
  const RowLeaves leaves_;
  const PlainRange range_;
  HWY_ALIGN float weight_[kMostColumns];
};

template <class T, class Function>
class GatedGradientRows : GradientStatistic {
  using Next = NextRows<T, 3>;

 public:
  GatedGradientRows(const Call& call, const isonorm::Run& run, const ColumnSums& sums)
      : GradientStatistic(call, run),
        sums_(sums),
        cols_(static_cast<size_t>(call.cols)),
        before_(call.gate == Gate::kBefore),
        roundings_(call),
        flow_(FlowOf(call, WrittenOver(), Written())) {}

  void Run() {
    for (int64_t row = 0; row < run_.count; ++row) {
      if (!(before_ ? Before(row) : After(row))) RunGeneralGradient(row);
    }
    if (flow_ == Flow::kStreamed) hwy::FlushStream();
  }

 private:
  HWY_NOINLINE void RunGeneralGradient(int64_t row) const {
    char* data[kRowTensors];
    GeneralBackward(call_, OneRow(run_, row, data), sums_);
  }

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

  // Calls loop(dx of a piece, its first column, columns) for all pieces of the row, or for all of it if dx is not wanted.
  template <class Loop>
  void WriteDx(int64_t row, Loop loop) const {
    T* const dx = At<T>(kDx, row);
    if (dx == nullptr) return loop(dx, size_t{0}, cols_);
    WriteInPieces(dx, cols_, flow_, [&](size_t i, size_t n, T* to) HWY_ATTR { loop(to, i, n); });
  }
  void WriteDgate(int64_t row) const {
    T* const out = At<T>(kDgate, row);
    if (out != nullptr) CopyOut(dgate_, cols_, out, flow_);
  }

  bool After(int64_t row) {
    const T *x = At<const T>(kX, row), *gate = At<const T>(kGate, row), *dy = At<const T>(kDy, row);
    float r, q, f;
    if (!FindR(x, row, &r, &q)) return false;
    GateLoop(GateAfterUpstream<T, Function>{x, gate, dy, weight_, r, roundings_, buffer_, dgate_}, cols_, NextOf(row));
    if (!FindF(x, static_cast<const float*>(buffer_), row, r, q, &f)) return false;
    WriteDx(row, [&](T* to, size_t i, size_t n) HWY_ATTR {
      float* const sums = Sums() == nullptr ? nullptr : Sums() + i;
      GateLoop(GatedGradient<T, float, T, None>{x + i, buffer_ + i, weight_ + i, r, f, roundings_, sums, to}, n, Next());
    });
    WriteDgate(row);
    return true;
  }

  bool Before(int64_t row) {
    const T *x = At<const T>(kX, row), *gate = At<const T>(kGate, row), *dy = At<const T>(kDy, row);
    float r, q, f;
    GateLoop(GatedSource<T, Function>{x, gate, buffer_}, cols_, Next());
    if (!FindR(static_cast<const float*>(buffer_), row, &r, &q)) return false;
    if (!FindF(static_cast<const float*>(buffer_), dy, row, r, q, &f)) return false;
    const Next next = NextOf(row);
    WriteDx(row, [&](T* to, size_t i, size_t n) HWY_ATTR {
      float* const sums = Sums() == nullptr ? nullptr : Sums() + i;
      GateLoop(GatedGradient<float, T, T, Function>{buffer_ + i, dy + i, weight_ + i, r, f, roundings_, sums, to, x + i,
                                                    gate + i, dgate_ + i},
               n, next.From(i));
    });
    WriteDgate(row);
    return true;
  }

  const ColumnSums& sums_;
  const size_t cols_;
  const bool before_;
  const Roundings roundings_;
  const Flow flow_;
  HWY_ALIGN float buffer_[kMostColumns];
  HWY_ALIGN T dgate_[kMostColumns];
};

template <class T>
void GatedBackward(const Call& call, const Run& run, const ColumnSums& sums) {
  if (call.gate_function == GateFunction::kSilu) {
    GatedGradientRows<T, SiluFunction>(call, run, sums).Run();
  } else {
    GatedGradientRows<T, SigmoidFunction>(call, run, sums).Run();
  }
}

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_GATED_BACKWARD_INL_H_
