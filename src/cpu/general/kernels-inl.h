// The general backward kernels, and those of vectors: every variant, every combination of types, part by part. What nobody
// tuned runs here, with the same roundings as everywhere.
#if defined(ISONORM_CPU_GENERAL_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_GENERAL_KERNELS_INL_H_
#undef ISONORM_CPU_GENERAL_KERNELS_INL_H_
#else
#define ISONORM_CPU_GENERAL_KERNELS_INL_H_
#endif

#include "cpu/general/group-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

// dy as it reaches the norm's output, and g = dy * weight. head: where heads are rotated, all of dy, turned back.
template <class F>
HWY_INLINE void LoadUpstream(const Call& call, const Group<F>& group, const Chunk<F>& head, int64_t j, size_t n, Chunk<F>& dy,
                             Chunk<F>& g) {
  if (call.rope.on) {
    std::memcpy(dy.v, head.v + j, n * sizeof(F));
  } else {
    group.Load(kDy, j, n, dy);
  }
  if (call.gate == Gate::kAfter) {
    Chunk<F> z;
    group.Load(kGate, j, n, z);
    TimesGate(call.gate_function, z, n, dy);
  }
  g = dy;
  if (call.weight_type != Type::kNone) {
    Chunk<F> w;
    group.LoadWeight(j, n, w);
    Apply(g, w, n, [](V<Tag<F>> v, V<Tag<F>> by) HWY_ATTR { return hn::Mul(v, by); });
  }
}

// sums += chunk, column by column; with a factor: sums = chunk * factor + sums.
template <class F>
HWY_INLINE void AddToSums(const Chunk<F>& chunk, const Chunk<F>* factor, size_t n, F* sums) {
  const Tag<F> d;
  const auto add = [&](V<Tag<F>> sum, size_t i) HWY_ATTR {
    const auto v = hn::Load(d, chunk.v + i);
    return factor != nullptr ? Fma(v, hn::Load(d, factor->v + i), sum) : hn::Add(sum, v);
  };
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) hn::StoreU(add(hn::LoadU(d, sums + i), i), d, sums + i);
  if (i < n) StorePart(add(LoadPart(d, sums + i, n - i), i), d, sums + i, n - i);
}

// v = r * (g - c * f) in the window, r * g behind it, after the mean of g is taken away, which of RMS is 0.
template <class F>
HWY_INLINE void GradientOfRow(const Call& call, const Group<F>& group, F f, F mean_g, int64_t j, size_t n, const Chunk<F>& c,
                              Chunk<F>& g) {
  const Tag<F> d;
  const auto factor = hn::Set(d, f), r = hn::Set(d, group.norm().r), mean = hn::Set(d, mean_g);
  if (call.norm.centres()) Apply(g, n, [&](V<Tag<F>> v) HWY_ATTR { return hn::Sub(v, mean); });
  const auto inside = static_cast<size_t>(std::clamp<int64_t>(call.window - j, 0, static_cast<int64_t>(n)));
  Chunk<F> behind;
  if (inside < n) behind = g;
  Apply(g, c, n, [&](V<Tag<F>> v, V<Tag<F>> of) HWY_ATTR { return hn::Mul(r, Fma(hn::Neg(of), factor, v)); });
  for (size_t i = inside; i < n; ++i) g.v[i] = group.norm().r * behind.v[i];
  ScaleChunk(-group.norm().exponent, n, g);
}

// The dot product of g and c over the columns of the group; LayerNorm: also the plain sum of g.
template <class F>
HWY_NOINLINE F DotOfGroup(const Call& call, const Group<F>& group, const Chunk<F>& head, F* sum_of_g) {
  Chunk<F> dy, g;
  LeafTree<F> sum_g;
  const F dot = group.Sum(
      call.group_cols,
      [&](int64_t j, size_t n, Chunk<F>& chunk) HWY_ATTR {
        LoadUpstream(call, group, head, j, n, dy, g);
        if (call.norm.centres()) sum_g.Push(LeafValue(Tag<F>(), Values<F>{g.v}, n));
        group.LoadSource(j, n, chunk);
        group.SourceToC(n, chunk);
      },
      [&](const F* v) HWY_ATTR {
        return Products<F>{g.v, v};
      });
  *sum_of_g = sum_g.Total();
  return dot;
}

template <class F>
HWY_NOINLINE void BackwardGroups(const Call& call, const Run& run, const ColumnSums& sums) {
  ForGroups<F>(call, run, [&](Group<F>& group) HWY_ATTR {
    group.UseSavedOrCompute();
    const int64_t cols = call.group_cols;
    Chunk<F> dy, g, c, t, z, head;
    F f = 0, mean_g = 0;
    if (call.rope.on) {  // a sum takes a head leaf by leaf, and pairs lie apart
      group.Load(kDy, 0, static_cast<size_t>(cols), head);
      RotateChunk<true>(call.rope, group.row(), head);
    }
    if (group.has(kDx) || group.has(kDgate)) {
      F sum_g = 0;
      const F dot = call.shard == nullptr ? DotOfGroup(call, group, head, &sum_g) : call.shard->Total<F>(group.row(), 0);
      if (call.shard != nullptr && call.norm.centres()) sum_g = call.shard->Total<F>(group.row(), 1);
      f = call.norm.Factor(dot, group.norm().q, group.norm().r);
      mean_g = Mean(sum_g + F(0), call.norm.count);
    }
    ForChunks(cols, [&](int64_t j, size_t n) HWY_ATTR {
      LoadUpstream(call, group, head, j, n, dy, g);
      group.LoadSource(j, n, c);
      group.SourceToC(n, c);
      GradientOfRow(call, group, f, mean_g, j, n, c, g);
      if (call.gate == Gate::kAfter && group.has(kDgate)) {
        Chunk<F> upstream;
        t = c;
        group.CToAffine(j, n, t);
        group.Load(kDy, j, n, upstream);
        Apply(t, upstream, n, [](V<Tag<F>> u, V<Tag<F>> v) HWY_ATTR { return hn::Mul(v, u); });
        group.Load(kGate, j, n, z);
        TimesGateSlope(call.gate_function, z, n, t);
      } else if (call.gate == Gate::kBefore) {
        group.Load(kGate, j, n, z);
        group.Load(kX, j, n, t);
        Apply(t, g, n, [](V<Tag<F>> x, V<Tag<F>> v) HWY_ATTR { return hn::Mul(v, x); });
        TimesGateSlope(call.gate_function, z, n, t);
        TimesGate(call.gate_function, z, n, g);
      }
      if (sums.dweight != nullptr) {
        RoundChunk(call.scaled_type, n, c);
        AddToSums(dy, &c, n, static_cast<F*>(sums.dweight) + group.column(j));
      }
      if (sums.dbias != nullptr) AddToSums<F>(dy, nullptr, n, static_cast<F*>(sums.dbias) + group.column(j));
      if (group.has(kDresidual)) {
        group.Load(kDresidual, j, n, z);
        Apply(g, z, n, [](V<Tag<F>> v, V<Tag<F>> more) HWY_ATTR { return hn::Add(v, more); });
      }
      // dx and dgate may lie over inputs: everything has been read.
      if (group.has(kDgate)) group.Store(kDgate, j, n, t);
      if (group.has(kDx)) group.Store(kDx, j, n, g);
    });
  });
}

// ------------------------------------------------------------------------------------------- rows that several ranks share

template <class F>
HWY_NOINLINE void ForwardPartialRows(const Call& call, const Run& run) {
  ForGroups<F>(call, run, [&](Group<F>& group) HWY_ATTR { WritePartial<F>(*call.shard, call.norm, group.row(), group); });
}

template <class F>
HWY_NOINLINE void BackwardPartialRows(const Call& call, const Run& run) {
  ForGroups<F>(call, run, [&](Group<F>& group) HWY_ATTR {
    group.ComputeStatistic();
    F sum_g = 0;
    const Chunk<F> head = {};  // ranks share no rotated rows
    const F dot = DotOfGroup(call, group, head, &sum_g);
    call.shard->StorePartial(group.row(), dot, sum_g);
  });
}

// ------------------------------------------------------------------------------------------------------- RMS of vectors

template <class F>
HWY_NOINLINE void RmsRows(const Call& call, const Run& run) {
  ForGroups<F>(call, run, [](Group<F>& group) HWY_ATTR {
    group.ComputeStatistic();
    group.StorePerGroup(kPerRow, group.Unscaled(group.norm().q));
  });
}

template <class F>
HWY_NOINLINE void RmsBackwardRows(const Call& call, const Run& run) {
  ForGroups<F>(call, run, [&](Group<F>& group) HWY_ATTR {
    group.ComputeStatistic();
    const auto share = hn::Set(Tag<F>(), Mean(group.PerGroup(kPerRow), call.cols));
    const bool zero = group.norm().q == 0;
    Chunk<F> c;
    ForChunks(call.cols, [&](int64_t j, size_t n) HWY_ATTR {
      group.LoadSource(j, n, c);
      group.SourceToC(n, c);
      Apply(c, n, [&](V<Tag<F>> v) HWY_ATTR { return zero ? hn::Zero(Tag<F>()) : hn::Mul(share, v); });
      group.Store(kDx, j, n, c);
    });
  });
}

template <class F>
HWY_NOINLINE void RmsPenaltyRows(const Call& call, const Run& run) {
  const auto slope = hn::Set(Tag<F>(), static_cast<F>(2 * call.lambda / static_cast<double>(call.cols)));
  ForGroups<F>(call, run, [&](Group<F>& group) HWY_ATTR {
    if (group.has(kPerRow)) {
      group.ComputeStatistic();
      const double value = std::ldexp(call.lambda * static_cast<double>(group.norm().mean_square), 2 * group.norm().exponent);
      group.StorePerGroup(kPerRow, static_cast<F>(value));
    }
    if (!group.has(kDx)) return;
    Chunk<F> v, old;
    ForChunks(call.cols, [&](int64_t j, size_t n) HWY_ATTR {
      group.LoadSource(j, n, v);
      Apply(v, n, [&](V<Tag<F>> x) HWY_ATTR { return hn::Mul(slope, x); });
      if (call.accumulates_rows) {
        group.Load(kDx, j, n, old);
        Apply(v, old, n, [](V<Tag<F>> by, V<Tag<F>> before) HWY_ATTR { return hn::Add(before, by); });
      }
      group.Store(kDx, j, n, v);
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_GENERAL_KERNELS_INL_H_
