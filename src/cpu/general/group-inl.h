// One group of one row on its way through the general path: source, statistic, and what the sinks share. The same steps under
// the same names as in reference_row.h, on chunks.
#if defined(ISONORM_CPU_GENERAL_GROUP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_GENERAL_GROUP_INL_H_
#undef ISONORM_CPU_GENERAL_GROUP_INL_H_
#else
#define ISONORM_CPU_GENERAL_GROUP_INL_H_
#endif

#include <algorithm>

#include "cpu/general/rope-inl.h"
#include "table/kernels.h"
#include "call/shard.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

template <class F>
class Group {
  using D = Tag<F>;

 public:
  Group(const Call& call, const Run& run, int64_t row, int64_t group)
      : call_(call), row_(run.first + row), group_(group), first_(group * call.group_cols) {
    for (int t = 0; t < kRowTensors; ++t) data_[t] = run.data[t] == nullptr ? nullptr : run.data[t] + row * run.stride[t];
  }

  // ------------------------------------------------------------------------------------------------------------- tensors

  bool has(RowTensor tensor) const { return data_[tensor] != nullptr; }
  const void* data(RowTensor tensor) const { return data_[tensor]; }  // of the row
  HWY_INLINE void Load(RowTensor tensor, int64_t j, size_t n, Chunk<F>& out) const {
    LoadChunk(data_[tensor], call_.type[tensor], first_ + j, n, out);
  }
  HWY_INLINE void Store(RowTensor tensor, int64_t j, size_t n, const Chunk<F>& chunk) const {
    StoreChunk(chunk, call_.type[tensor], n, data_[tensor], first_ + j);
  }
  F& per_group() const { return reinterpret_cast<F*>(data_[kRstd])[group_]; }
  int64_t column(int64_t j) const { return first_ + j; }
  int64_t row() const { return row_; }  // its index in the call

  // The weight with its offset; not to be called without one.
  HWY_INLINE void LoadWeight(int64_t j, size_t n, Chunk<F>& w) const {
    LoadChunk(call_.weight, call_.weight_type, first_ + j, n, w);
    if (call_.weight_offset == 0) return;
    const auto offset = hn::Set(D(), static_cast<F>(call_.weight_offset));
    Apply(w, n, [&](V<D> v) HWY_ATTR { return hn::Add(v, offset); });
  }

  // -------------------------------------------------------------------------------------------------------------- source

  // x, x + residual (rounded as stored, or kept), x * f(gate).
  HWY_INLINE void LoadSource(int64_t j, size_t n, Chunk<F>& h) const {
    Load(kX, j, n, h);
    if (has(kResidual)) {
      AddStored(data_[kResidual], call_.type[kResidual], first_ + j, n, h);
      RoundChunk(call_.sum_type, n, h);
    }
    if (call_.gate == Gate::kBefore) {
      Chunk<F> z;
      Load(kGate, j, n, z);
      TimesGate(call_.gate_function, z, n, h);
    }
  }

  // ----------------------------------------------------------------------------------------------------------- statistic

  // From the values, or from what all ranks found out together.
  void ComputeStatistic() {
    if (call_.shard != nullptr) return TakeStatistic(call_.shard->StatisticOf<F>(row_));
    F squares = ComputeSums();
    bool scaled = false;
    if (AskForScaling(squares, mean_, static_cast<F>(call_.eps), call_.eps_outside)) {
      const Extent<F> extent = WindowExtent();
      scaled = extent.finite && extent.largest > 0;
      if (scaled) {
        ScaleBy(extent.largest);
        squares = ComputeSums();
      }
    }
    FinishStatistic(squares, scaled);
  }

  // A saved rstd in this range belongs to a row that was not scaled, and says all that an RMS norm with eps inside needs.
  void UseSavedRstdOrCompute() {
    if (has(kRstd) && !call_.layer && !call_.eps_outside && per_group() >= F(0x1p-48) && per_group() <= F(0x1p47)) {
      r_ = per_group();
    } else {
      ComputeStatistic();
    }
  }

  // The steps of the statistic, for ranks that share a row (WritePartial in parallel_shard.h).
  void ScaleBy(F largest) { exponent_ = std::ilogb(largest); }
  void SetMean(F mean) { mean_ = mean; }
  HWY_NOINLINE F LargestOrInfinity() const {
    const Extent<F> extent = WindowExtent();
    return extent.finite ? extent.largest : std::numeric_limits<F>::infinity();
  }
  HWY_NOINLINE F SumOfValues() const {
    return Sum(
        call_.group_cols, [&](int64_t j, size_t n, Chunk<F>& h) HWY_ATTR { LoadScaled(j, n, h); },
        [](const F* v) HWY_ATTR { return Values<F>{v}; });
  }
  // LayerNorm: of the values less the mean, whose plain sum goes to `shift`.
  HWY_NOINLINE F SumOfSquares(F* shift) const {
    const auto squares = [](const F* v) HWY_ATTR { return Squares<F>{v}; };
    if (!call_.layer) {
      return Sum(
          call_.window, [&](int64_t j, size_t n, Chunk<F>& h) HWY_ATTR { LoadScaled(j, n, h); }, squares);
    }
    // Both sums in one sweep: the second looks at the chunk that the first has filled.
    LeafTree<F> tree;
    const F sum = Sum(
        call_.group_cols,
        [&](int64_t j, size_t n, Chunk<F>& h) HWY_ATTR {
          LoadCentred(j, n, h);
          tree.Push(LeafValue(D(), Values<F>{h.v}, n));
        },
        squares);
    *shift = tree.Total();
    return sum;
  }

  F r() const { return r_; }
  F q() const { return q_; }
  F mean_square() const { return m_; }  // of the scaled values, where the group is scaled
  int exponent() const { return exponent_; }
  F Unscaled(F v) const { return PowerOfTwo<F>(exponent_) * v; }
  F rstd() const { return PowerOfTwo<F>(-exponent_) * r_; }

  // ------------------------------------------------------------------------------------------------------------ to the sink

  // c = v * r from the source's values, in place.
  HWY_INLINE void SourceToC(size_t n, Chunk<F>& h) const {
    ScaleChunk(-exponent_, n, h);
    const D d;
    const auto r = hn::Set(d, r_);
    if (!call_.layer) {
      Apply(h, n, [&](V<D> v) HWY_ATTR { return hn::Mul(v, r); });
    } else if (constant_) {
      Apply(h, n, [&](V<D>) HWY_ATTR { return hn::Mul(hn::Zero(d), r); });
    } else {
      const auto mean = hn::Set(d, mean_), shift = hn::Set(d, shift_);
      Apply(h, n, [&](V<D> v) HWY_ATTR { return hn::Mul(hn::Sub(hn::Sub(v, mean), shift), r); });
    }
  }

  // (round(c) * weight + bias), then the rounding before a gate after the norm.
  HWY_INLINE void CToAffine(int64_t j, size_t n, Chunk<F>& c) const {
    RoundChunk(call_.scaled_type, n, c);
    const bool weighted = call_.weight_type != Type::kNone;
    Chunk<F> w;
    if (weighted) LoadWeight(j, n, w);
    if (call_.bias_type == Type::kNone) {
      if (weighted) Apply(c, w, n, [](V<D> v, V<D> by) HWY_ATTR { return hn::Mul(v, by); });
    } else if (weighted) {
      const D d;
      ForStored<F>(call_.bias, call_.bias_type, first_ + j, n, [&](V<D> b, size_t i) HWY_ATTR {
        hn::Store(Fma(hn::Load(d, c.v + i), hn::Load(d, w.v + i), b), d, c.v + i);
      });
    } else {
      AddStored(call_.bias, call_.bias_type, first_ + j, n, c);
    }
    RoundChunk(call_.gated_type, n, c);
  }

  // The sum, in canonical order, of what `term(chunk)` makes of `count` values that fill(j, n, chunk) provides.
  template <class Fill, class MakeTerm>
  HWY_INLINE F Sum(int64_t count, Fill fill, MakeTerm make_term) const {
    const Leaves leaves = LeavesOfShard(count, call_.ranks);
    LeafTree<F> tree;
    Chunk<F> chunk;
    for (int64_t i = 0; i < leaves.count(); ++i) {
      const int64_t begin = leaves.begin(i);
      const auto n = static_cast<size_t>(leaves.begin(i + 1) - begin);
      fill(begin, n, chunk);
      tree.Push(LeafValue(D(), make_term(chunk.v), n));
    }
    return tree.Total();
  }

 private:
  // A plain sum ends on +0, so that a lane that adds 0 cannot show.
  F ComputeSums() {
    if (call_.layer) mean_ = Mean(SumOfValues() + F(0), call_.counted());
    F shift = 0;
    const F squares = SumOfSquares(&shift);
    if (call_.layer) shift_ = Mean(shift + F(0), call_.counted());
    return squares;
  }

  void TakeStatistic(const RowStatistic<F>& known) {
    if (known.scaled()) ScaleBy(known.largest);
    if (call_.layer) {
      mean_ = MeanOf(call_, known);
      shift_ = Mean(known.shift, call_.counted());
    }
    FinishStatistic(known.squares, known.scaled());
  }

  void FinishStatistic(F squares, bool scaled) {
    const F eps = static_cast<F>(call_.eps);
    m_ = Mean(squares, call_.counted());
    if (call_.layer) {
      m_ = std::fma(-shift_, shift_, m_);
      if (m_ < 0) m_ = 0;
      if (scaled && m_ == 0 && eps > 0) {  // a constant row: nothing is left to scale
        constant_ = true;
        scaled = false;
        exponent_ = 0;
      }
    }
    if (!scaled) {
      q_ = std::sqrt(m_);
      r_ = call_.eps_outside ? F(1) / (q_ + eps) : InvSqrt(m_ + eps);
    } else {
      const double wide_eps = std::ldexp(static_cast<double>(eps), call_.eps_outside ? -exponent_ : -2 * exponent_);
      q_ = static_cast<F>(std::sqrt(static_cast<double>(m_)));
      r_ = call_.eps_outside ? static_cast<F>(1.0 / (static_cast<double>(q_) + wide_eps))
                             : static_cast<F>(1.0 / std::sqrt(static_cast<double>(m_) + wide_eps));
    }
  }

  HWY_INLINE void LoadScaled(int64_t j, size_t n, Chunk<F>& h) const {
    LoadSource(j, n, h);
    ScaleChunk(-exponent_, n, h);
  }
  HWY_INLINE void LoadCentred(int64_t j, size_t n, Chunk<F>& h) const {
    LoadScaled(j, n, h);
    const auto mean = hn::Set(D(), mean_);
    Apply(h, n, [&](V<D> v) HWY_ATTR { return hn::Sub(v, mean); });
  }

  Extent<F> WindowExtent() const {
    Extent<F> extent;
    Chunk<F> h;
    for (int64_t j = 0; j < call_.window; j += kChunk) {
      const auto n = static_cast<size_t>(std::min<int64_t>(kChunk, call_.window - j));
      LoadSource(j, n, h);
      extent.Add(h, n);
    }
    return extent;
  }

  const Call& call_;
  const int64_t row_, group_, first_;
  char* data_[kRowTensors];
  int exponent_ = 0;        // of the largest value, where the group is scaled
  bool constant_ = false;   // a scaled LayerNorm group of equal values
  F mean_ = 0, shift_ = 0;  // LayerNorm: the rounded mean, and what its rounding left over
  F m_ = 0, q_ = 0, r_ = 0;
};

// Calls body(j, n) for the chunks of `count` columns.
template <class Body>
HWY_INLINE void ForChunks(int64_t count, Body body) {
  for (int64_t j = 0; j < count; j += kChunk) body(j, static_cast<size_t>(std::min<int64_t>(kChunk, count - j)));
}

// Calls body(group) for every group of every row.
template <class F, class Body>
HWY_INLINE void ForGroups(const Call& call, const Run& run, Body body) {
  for (int64_t row = 0; row < run.count; ++row) {
    for (int64_t g = 0; g < call.groups; ++g) {
      Group<F> group(call, run, row, g);
      body(group);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_GENERAL_GROUP_INL_H_
