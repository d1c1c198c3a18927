// Double backward (docs/numerics.md): the same steps under the same names as in reference_double_backward.cc, on chunks.
#if defined(ISONORM_CPU_DOUBLE_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_DOUBLE_BACKWARD_INL_H_
#undef ISONORM_CPU_DOUBLE_BACKWARD_INL_H_
#else
#define ISONORM_CPU_DOUBLE_BACKWARD_INL_H_
#endif

#include "cpu/group-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

// One group on its way through two sweeps: the four dot products, then the outputs.
template <class F>
class DoubleBackwardGroup {
  using D = Tag<F>;

 public:
  DoubleBackwardGroup(const Call& call, const ColumnSums& sums)
      : call_(call), sums_(static_cast<F*>(sums.dweight)), weighted_(call.weight_type != Type::kNone) {
    const D d;
    for (size_t i = 0; i < kChunk; i += hn::Lanes(d)) {  // what a cotangent that is not given counts as
      for (Chunk<F>* chunk : {&p_, &t_, &dd_}) hn::Store(hn::Zero(d), d, chunk->v + i);
    }
  }

  HWY_INLINE void Run(Group<F>& group) {
    group.UseSavedRstdOrCompute();
    const bool whole = group.has(kDx);  // without dx only b is asked for
    const Leaves leaves = LeavesOf(call_.group_cols);
    LeafTree<F> a, b, q, tau;
    for (int64_t i = 0; i < leaves.count(); ++i) {
      const int64_t begin = leaves.begin(i);
      const auto n = static_cast<size_t>(leaves.begin(i + 1) - begin);
      Load(group, begin, n);
      b.Push(Dot(p_, c_, n));
      if (!whole) continue;
      a.Push(Dot(g_, c_, n));
      q.Push(Dot(p_, g_, n));
      tau.Push(Dot(t_, c_, n));
    }
    b_ = MeanOf(b);
    if (whole) {
      a_ = MeanOf(a);
      s_ = MeanOf(tau) + std::fma(F(-3), a_ * b_, MeanOf(q));
    }
    for (int64_t j = 0; j < call_.group_cols; j += kChunk) {
      const auto n = static_cast<size_t>(std::min<int64_t>(kChunk, call_.group_cols - j));
      if (leaves.count() > 1) Load(group, j, n);  // a single leaf is still there
      Finish(group, j, n);
    }
  }

 private:
  // dy, g, c, p and t of n columns from j on, and the weight and ddweight.
  HWY_INLINE void Load(const Group<F>& group, int64_t j, size_t n) {
    const auto times = [](V<D> v, V<D> by) HWY_ATTR { return hn::Mul(v, by); };
    group.Load(kDy, j, n, dy_);
    g_ = dy_;
    if (weighted_) {
      group.LoadWeight(j, n, w_);
      Apply(g_, w_, n, times);
    }
    group.Load(kX, j, n, c_);
    group.SourceToC(n, c_);
    if (group.has(kDdx)) {
      const auto r = hn::Set(D(), group.r());
      group.Load(kDdx, j, n, p_);
      Apply(p_, n, [&](V<D> u) HWY_ATTR { return hn::Mul(u, r); });
      ScaleChunk(-group.exponent(), n, p_);
    }
    if (call_.ddweight != nullptr) {
      LoadChunk(call_.ddweight, call_.ddweight_type, group.column(j), n, dd_);
      t_ = dd_;
      Apply(t_, dy_, n, times);
    }
  }

  static HWY_INLINE F Dot(const Chunk<F>& left, const Chunk<F>& right, size_t n) {
    return LeafValue(D(), Products<F>{left.v, right.v}, n);
  }
  F MeanOf(const LeafTree<F>& sum) const { return Mean(sum.Total() + F(0), call_.group_cols); }

  // The outputs, from what Load has left. They may lie over inputs: everything has been read.
  HWY_INLINE void Finish(const Group<F>& group, int64_t j, size_t n) {
    const D d;
    if (group.has(kDx)) {
      const auto a = hn::Set(d, -a_), b = hn::Set(d, -b_), s = hn::Set(d, s_), r = hn::Set(d, group.r());
      for (size_t i = 0; i < n; i += hn::Lanes(d)) {
        auto v = Fma(a, hn::Load(d, p_.v + i), hn::Load(d, t_.v + i));
        v = Fma(b, hn::Load(d, g_.v + i), v);
        v = Fma(hn::Neg(hn::Load(d, c_.v + i)), s, v);
        hn::Store(hn::Mul(r, v), d, out_.v + i);
      }
      ScaleChunk(-group.exponent(), n, out_);
    }
    const auto b = hn::Set(d, b_);
    Chunk<F>& k = g_;  // which is no longer needed
    for (size_t i = 0; i < n; i += hn::Lanes(d)) {
      hn::Store(Fma(hn::Neg(hn::Load(d, c_.v + i)), b, hn::Load(d, p_.v + i)), d, k.v + i);
    }
    if (sums_ != nullptr) AddProducts(k, sums_ + group.column(j), n);
    if (group.has(kDdy)) {
      if (weighted_) Apply(k, w_, n, [](V<D> v, V<D> w) HWY_ATTR { return hn::Mul(w, v); });
      RoundChunk(call_.scaled_type, n, c_);
      for (size_t i = 0; i < n; i += hn::Lanes(d)) {
        hn::Store(Fma(hn::Load(d, dd_.v + i), hn::Load(d, c_.v + i), hn::Load(d, k.v + i)), d, k.v + i);
      }
      group.Store(kDdy, j, n, k);
    }
    if (group.has(kDx)) group.Store(kDx, j, n, out_);
  }

  // sums += dy * k
  HWY_INLINE void AddProducts(const Chunk<F>& k, F* sums, size_t n) const {
    const D d;
    const auto add = [&](V<D> sum, size_t i) HWY_ATTR { return Fma(hn::Load(d, dy_.v + i), hn::Load(d, k.v + i), sum); };
    size_t i = 0;
    for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) hn::StoreU(add(hn::LoadU(d, sums + i), i), d, sums + i);
    if (i < n) StorePart(add(LoadPart(d, sums + i, n - i), i), d, sums + i, n - i);
  }

  const Call& call_;
  F* const sums_;
  const bool weighted_;
  F a_ = 0, b_ = 0, s_ = 0;
  Chunk<F> dy_, w_, g_, c_, p_, dd_, t_, out_;
};

template <class F>
HWY_NOINLINE void DoubleBackwardRows(const Call& call, const Run& run, const ColumnSums& sums) {
  DoubleBackwardGroup<F> step(call, sums);
  for (int64_t row = 0; row < run.count; ++row) {
    for (int64_t g = 0; g < call.groups; ++g) {
      Group<F> group(call, run, row, g);
      step.Run(group);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_DOUBLE_BACKWARD_INL_H_
