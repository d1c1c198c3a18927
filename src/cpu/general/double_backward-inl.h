// Double backward (docs/numerics.md): the same steps under the same names as in reference/double_backward.cc, on chunks.
#if defined(ISONORM_CPU_GENERAL_DOUBLE_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_GENERAL_DOUBLE_BACKWARD_INL_H_
#undef ISONORM_CPU_GENERAL_DOUBLE_BACKWARD_INL_H_
#else
#define ISONORM_CPU_GENERAL_DOUBLE_BACKWARD_INL_H_
#endif

#include "cpu/general/group-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

// One group after the other in two sweeps: the four dot products, then the outputs. What a sweep needs of a chunk lies in
// memory as it is or in a buffer, and all products are formed from it in registers.
template <class F>
class DoubleBackward {
  using D = Tag<F>;

 public:
  DoubleBackward(const Call& call, const ColumnSums& sums)
      : call_(call), sums_(static_cast<F*>(sums.dweight)), rounds_(call.scaled_type != Type::kNone) {
    const D d;
    for (size_t i = 0; i < kChunk; i += hn::Lanes(d)) {  // what an absent cotangent and an absent weight count as
      for (Chunk<F>* chunk : {&u_room_, &dd_room_}) hn::Store(hn::Zero(d), d, chunk->v + i);
      hn::Store(hn::Set(d, F(1)), d, w_room_.v + i);
    }
  }

  HWY_INLINE void Run(Group<F>& group) {
    group.UseSavedOrCompute();
    r_ = group.norm().r;
    times_ = group.norm().exponent == 0 ? r_ : F(1);
    const Leaves leaves = LeavesOf(call_.group_cols);
    LeafTree<F> a, b, q, tau;
    for (int64_t i = 0; i < leaves.count(); ++i) {
      const int64_t begin = leaves.begin(i);
      const auto n = static_cast<size_t>(leaves.begin(i + 1) - begin);
      Load(group, begin, n);
      F dots[4];
      Dots(n, dots);
      a.Push(dots[0]);
      b.Push(dots[1]);
      q.Push(dots[2]);
      tau.Push(dots[3]);
    }
    a_ = MeanOf(a);
    b_ = MeanOf(b);
    s_ = MeanOf(tau) + std::fma(F(-3), a_ * b_, MeanOf(q));
    for (int64_t j = 0; j < call_.group_cols; j += kChunk) {
      const auto n = static_cast<size_t>(std::min<int64_t>(kChunk, call_.group_cols - j));
      if (leaves.count() > 1) Load(group, j, n);  // a single leaf is still there
      Write(group, j, n);
    }
  }

 private:
  // n values as F, in whole vectors with zeros behind: in place if they are that already, else in `room`.
  HWY_INLINE const F* Values(const void* data, Type type, int64_t at, size_t n, bool repeated, Chunk<F>& room) const {
    if (SizeOf(type) == sizeof(F) && n % hn::Lanes(D()) == 0 && !repeated) return static_cast<const F*>(data) + at;
    LoadChunk(data, type, at, n, repeated, room);
    return room.v;
  }
  HWY_INLINE const F* Values(const Group<F>& group, RowTensor tensor, int64_t j, size_t n, Chunk<F>& room) const {
    return Values(group.data(tensor), call_.type[tensor], group.At(tensor, j), n, call_.repeats(tensor), room);
  }

  // The inputs of n columns from j on. Of a scaled group x is scaled, and u is p already.
  HWY_INLINE void Load(const Group<F>& group, int64_t j, size_t n) {
    x_ = Values(group, kX, j, n, x_room_);
    dy_ = Values(group, kDy, j, n, dy_room_);
    u_ = group.has(kDdx) ? Values(group, kDdx, j, n, u_room_) : u_room_.v;
    dd_ = call_.ddweight == nullptr
              ? dd_room_.v
              : Values(call_.ddweight, call_.ddweight_type, group.At(kDdweight, j), n, call_.repeats(kDdweight), dd_room_);
    if (call_.weight_type == Type::kNone) {
      w_ = w_room_.v;
    } else if (call_.weight_offset == 0) {
      w_ = Values(call_.weight, call_.weight_type, group.At(kWeight, j), n, call_.repeats(kWeight), w_room_);
    } else {
      group.LoadWeight(j, n, w_room_);
      w_ = w_room_.v;
    }
    if (group.norm().exponent == 0) return;
    group.Load(kX, j, n, x_room_);
    ScaleChunk(-group.norm().exponent, n, x_room_);
    x_ = x_room_.v;
    if (!group.has(kDdx)) return;
    group.Load(kDdx, j, n, u_room_);
    ScaledTimesR(group.norm().exponent, n, u_room_);
    u_ = u_room_.v;
  }

  // chunk *= r * 2^-exponent, with the power of two in two halves around r, or nothing where the group is not scaled.
  HWY_INLINE void ScaledTimesR(int exponent, size_t n, Chunk<F>& chunk) const {
    if (exponent == 0) return;
    const int half = -exponent / 2;
    const auto r = hn::Set(D(), r_);
    ScaleChunk(half, n, chunk);
    Apply(chunk, n, [&](V<D> v) HWY_ATTR { return hn::Mul(v, r); });
    ScaleChunk(-exponent - half, n, chunk);
  }

  // One leaf of the four dot products. Each sweep takes two vectors of lanes of all four, which is what 16 registers hold.
  HWY_INLINE void Dots(size_t n, F* dots) const {
    const D d;
    const size_t width = hn::Lanes(d);
    HWY_ALIGN F lane[4][kLanes];
    const auto r = hn::Set(d, r_), times = hn::Set(d, times_);
    for (size_t first = 0; first < kLanes; first += 2 * width) {
      auto a0 = hn::Zero(d), a1 = a0, b0 = a0, b1 = a0, q0 = a0, q1 = a0, t0 = a0, t1 = a0;
      const auto fold = [&](size_t at, V<D>& a, V<D>& b, V<D>& q, V<D>& t) HWY_ATTR {
        const auto dy = LoadAny(d, dy_ + at), c = hn::Mul(LoadAny(d, x_ + at), r);
        const auto g = hn::Mul(dy, LoadAny(d, w_ + at)), p = hn::Mul(LoadAny(d, u_ + at), times);
        a = Fma(g, c, a);
        b = Fma(p, c, b);
        q = Fma(p, g, q);
        t = Fma(hn::Mul(LoadAny(d, dd_ + at), dy), c, t);
      };
      size_t at = first;
      for (; at + width < n; at += kLanes) {
        fold(at, a0, b0, q0, t0);
        fold(at + width, a1, b1, q1, t1);
      }
      if (at < n) fold(at, a0, b0, q0, t0);
      const auto store = [&](V<D> low, V<D> high, F* to) HWY_ATTR {
        hn::StoreU(low, d, to + first);
        hn::StoreU(high, d, to + first + width);
      };
      store(a0, a1, lane[0]);
      store(b0, b1, lane[1]);
      store(q0, q1, lane[2]);
      store(t0, t1, lane[3]);
    }
    for (size_t k = 0; k < 4; ++k) dots[k] = FoldLanes(d, lane[k]);
  }

  F MeanOf(const LeafTree<F>& sum) const { return Mean(sum.Total() + F(0), call_.group_cols); }

  // The outputs, from what Load has left. They may lie over inputs: of these columns everything is read before anything is
  // stored.
  HWY_INLINE void Write(const Group<F>& group, int64_t j, size_t n) {
    const D d;
    const auto a = hn::Set(d, -a_), b = hn::Set(d, -b_), s = hn::Set(d, -s_), r = hn::Set(d, r_), times = hn::Set(d, times_);
    F* const sums = sums_ == nullptr ? nullptr : sums_ + group.column(j);
    for (size_t i = 0; i < n; i += hn::Lanes(d)) {
      const auto dy = LoadAny(d, dy_ + i), w = LoadAny(d, w_ + i), dd = LoadAny(d, dd_ + i);
      const auto c = hn::Mul(LoadAny(d, x_ + i), r), p = hn::Mul(LoadAny(d, u_ + i), times);
      auto v = Fma(a, p, hn::Mul(dd, dy));
      v = Fma(b, hn::Mul(dy, w), v);
      v = Fma(c, s, v);
      hn::Store(hn::Mul(v, times), d, dx_.v + i);
      const auto k = Fma(c, b, p);
      if (sums != nullptr) {
        if (i + hn::Lanes(d) <= n) {
          hn::StoreU(Fma(dy, k, hn::LoadU(d, sums + i)), d, sums + i);
        } else {
          StorePart(Fma(dy, k, LoadPart(d, sums + i, n - i)), d, sums + i, n - i);
        }
      }
      const auto wk = hn::Mul(w, k);
      if (rounds_) {
        hn::Store(c, d, c_.v + i);
        hn::Store(wk, d, ddy_.v + i);
      } else {
        hn::Store(Fma(dd, c, wk), d, ddy_.v + i);
      }
    }
    if (rounds_ && group.has(kDdy)) {
      RoundChunk(call_.scaled_type, n, c_);
      for (size_t i = 0; i < n; i += hn::Lanes(d)) {
        hn::Store(Fma(LoadAny(d, dd_ + i), hn::Load(d, c_.v + i), hn::Load(d, ddy_.v + i)), d, ddy_.v + i);
      }
    }
    if (group.has(kDdy)) group.Store(kDdy, j, n, ddy_);
    if (!group.has(kDx)) return;
    ScaledTimesR(group.norm().exponent, n, dx_);
    group.Store(kDx, j, n, dx_);
  }

  const Call& call_;
  F* const sums_;
  const bool rounds_;
  F r_ = 0, times_ = 0;  // what ddx and dx are still to be multiplied by: r, or 1 in scaled groups
  F a_ = 0, b_ = 0, s_ = 0;
  const F *x_ = nullptr, *dy_ = nullptr, *u_ = nullptr, *w_ = nullptr, *dd_ = nullptr;
  Chunk<F> x_room_, dy_room_, u_room_, w_room_, dd_room_, c_, dx_, ddy_;
};

template <class F>
HWY_NOINLINE void DoubleBackwardRows(const Call& call, const Run& run, const ColumnSums& sums) {
  DoubleBackward<F> double_backward(call, sums);
  for (int64_t row = 0; row < run.count; ++row) {
    for (int64_t g = 0; g < call.groups; ++g) {
      Group<F> group(call, run, row, g);
      double_backward.Run(group);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_GENERAL_DOUBLE_BACKWARD_INL_H_
