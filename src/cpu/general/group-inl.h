// One group of one row on its way through the general path: source, statistic, and what the sinks share. The same steps under
// the same names as in reference/row.h, on chunks.
#if defined(ISONORM_CPU_GENERAL_GROUP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_GENERAL_GROUP_INL_H_
#undef ISONORM_CPU_GENERAL_GROUP_INL_H_
#else
#define ISONORM_CPU_GENERAL_GROUP_INL_H_
#endif

#include <algorithm>

#include "cpu/general/rope-inl.h"
#include "numbers/shard.h"
#include "numbers/statistic.h"
#include "table/kernels.h"

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
    LoadChunk(data_[tensor], call_.type[tensor], At(tensor, j), n, call_.repeats(tensor), out);
  }
  HWY_INLINE void Store(RowTensor tensor, int64_t j, size_t n, const Chunk<F>& chunk) const {
    StoreChunk(chunk, call_.type[tensor], n, data_[tensor], first_ + j);
  }
  F PerGroup(RowTensor tensor) const { return LoadScalar<F>(data_[tensor], call_.type[tensor], group_); }
  void StorePerGroup(RowTensor tensor, F value) const { StoreScalar(value, data_[tensor], call_.type[tensor], group_); }
  int64_t column(int64_t j) const { return first_ + j; }
  int64_t At(RowTensor tensor, int64_t j) const { return call_.repeats(tensor) ? 0 : first_ + j; }  // in the tensor's row
  int64_t At(InputVector vector, int64_t j) const { return call_.At(vector, group_, j); }
  int64_t row() const { return row_; }  // its index in the call

  // The weight with its offset; not to be called without one.
  HWY_INLINE void LoadWeight(int64_t j, size_t n, Chunk<F>& w) const {
    LoadChunk(call_.weight, call_.weight_type, At(kWeight, j), n, call_.repeats(kWeight), w);
    if (call_.weight_offset == 0) return;
    const auto offset = hn::Set(D(), static_cast<F>(call_.weight_offset));
    Apply(w, n, [&](V<D> v) HWY_ATTR { return hn::Add(v, offset); });
  }

  // -------------------------------------------------------------------------------------------------------------- source

  // x, x + residual (rounded as stored, or kept), x * f(gate).
  HWY_INLINE void LoadSource(int64_t j, size_t n, Chunk<F>& h) const {
    Load(kX, j, n, h);
    if (has(kResidual)) {
      AddStored(data_[kResidual], call_.type[kResidual], At(kResidual, j), n, call_.repeats(kResidual), h);
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
    norm_ = call_.norm.Finish(call_.shard != nullptr ? call_.shard->SumsOf<F>(row_) : call_.norm.Accumulate<F>(*this));
  }

  void UseSavedOrCompute() {
    const bool saved = has(kRstd) && (!call_.norm.centres() || has(kMean));
    const F mean = has(kMean) ? PerGroup(kMean) : F(0);
    if (!saved || !call_.norm.Restore(PerGroup(kRstd), mean, *this, &norm_)) ComputeStatistic();
  }

  // What the statistic is made of (Norm::Accumulate), also for ranks that share a row (WritePartial).
  HWY_NOINLINE F LargestOrInfinity() const {
    Extent<F> extent;
    Chunk<F> h;
    for (int64_t j = 0; j < call_.window; j += kChunk) {
      const auto n = static_cast<size_t>(std::min<int64_t>(kChunk, call_.window - j));
      LoadSource(j, n, h);
      extent.Add(h, n);
    }
    return extent.finite ? extent.largest : std::numeric_limits<F>::infinity();
  }
  HWY_NOINLINE F SumOfValues(int exponent, F mean) const {
    return Sum(
        call_.group_cols, [&](int64_t j, size_t n, Chunk<F>& h) HWY_ATTR { LoadCentred(j, n, exponent, mean, h); },
        [](const F* v) HWY_ATTR { return Values<F>{v}; });
  }
  HWY_NOINLINE F SumOfSquares(int exponent, F mean, F* shift) const {
    const auto squares = [](const F* v) HWY_ATTR { return Squares<F>{v}; };
    if (shift == nullptr) {
      return Sum(
          call_.window, [&](int64_t j, size_t n, Chunk<F>& h) HWY_ATTR { LoadScaled(j, n, exponent, h); }, squares);
    }
    // Both sums in one sweep: the second looks at the chunk that the first has filled.
    LeafTree<F> tree;
    const F sum = Sum(
        call_.group_cols,
        [&](int64_t j, size_t n, Chunk<F>& h) HWY_ATTR {
          LoadCentred(j, n, exponent, mean, h);
          tree.Push(LeafValue(D(), Values<F>{h.v}, n));
        },
        squares);
    *shift = tree.Total();
    return sum;
  }

  const RowNorm<F>& norm() const { return norm_; }
  F Unscaled(F v) const { return PowerOfTwo<F>(norm_.exponent) * v; }
  F rstd() const { return PowerOfTwo<F>(-norm_.exponent) * norm_.r; }

  // ------------------------------------------------------------------------------------------------------------ to the sink

  // c = v * r from the source's values, in place.
  HWY_INLINE void SourceToC(size_t n, Chunk<F>& h) const {
    ScaleChunk(-norm_.exponent, n, h);
    const D d;
    const auto r = hn::Set(d, norm_.r);
    if (!call_.norm.centres()) {
      Apply(h, n, [&](V<D> v) HWY_ATTR { return hn::Mul(v, r); });
    } else if (norm_.constant) {
      Apply(h, n, [&](V<D>) HWY_ATTR { return hn::Mul(hn::Zero(d), r); });
    } else {
      const auto mean = hn::Set(d, norm_.mean), shift = hn::Set(d, norm_.shift);
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
      ForStored<F>(call_.bias, call_.bias_type, At(kBias, j), n, call_.repeats(kBias), [&](V<D> b, size_t i) HWY_ATTR {
        hn::Store(Fma(hn::Load(d, c.v + i), hn::Load(d, w.v + i), b), d, c.v + i);
      });
    } else {
      AddStored(call_.bias, call_.bias_type, At(kBias, j), n, call_.repeats(kBias), c);
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
  HWY_INLINE void LoadScaled(int64_t j, size_t n, int exponent, Chunk<F>& h) const {
    LoadSource(j, n, h);
    ScaleChunk(-exponent, n, h);
  }
  HWY_INLINE void LoadCentred(int64_t j, size_t n, int exponent, F mean, Chunk<F>& h) const {
    LoadScaled(j, n, exponent, h);
    if (mean == 0) return;
    const auto by = hn::Set(D(), mean);
    Apply(h, n, [&](V<D> v) HWY_ATTR { return hn::Sub(v, by); });
  }

  const Call& call_;
  const int64_t row_, group_, first_;
  char* data_[kRowTensors];
  RowNorm<F> norm_;
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
