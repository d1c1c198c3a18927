// The parts of the general path: a row passes in chunks of the compute type through small loops, one for each thing that can
// happen to it. Loops are compiled for each storage type, not for combinations of them: a new part adds, it does not multiply.
#if defined(ISONORM_CPU_GENERAL_CHUNK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_GENERAL_CHUNK_INL_H_
#undef ISONORM_CPU_GENERAL_CHUNK_INL_H_
#else
#define ISONORM_CPU_GENERAL_CHUNK_INL_H_
#endif

#include <algorithm>

#include "call/call.h"
#include "cpu/vector/gate-inl.h"
#include "cpu/vector/sum-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

// A leaf fits a chunk. Loops over a chunk always take whole vectors: what lies behind its values is computed and not used.
constexpr size_t kChunk = kMaxLeaf;

template <class F>
struct Chunk {
  HWY_ALIGN F v[kChunk];
};

// v[i] = op(v[i]) for the first n values.
template <class F, class Op>
HWY_INLINE void Apply(Chunk<F>& chunk, size_t n, Op op) {
  const Tag<F> d;
  for (size_t i = 0; i < n; i += hn::Lanes(d)) hn::Store(op(hn::Load(d, chunk.v + i)), d, chunk.v + i);
}

template <class F, class Op>
HWY_INLINE void Apply(Chunk<F>& chunk, const Chunk<F>& other, size_t n, Op op) {
  const Tag<F> d;
  for (size_t i = 0; i < n; i += hn::Lanes(d)) {
    hn::Store(op(hn::Load(d, chunk.v + i), hn::Load(d, other.v + i)), d, chunk.v + i);
  }
}

// Calls body with a null pointer of the storage type that F has here: f64 data may have f32 as well.
template <class F, class Body>
HWY_INLINE void WithStorage(Type type, Body body) {
  if constexpr (sizeof(F) == 8) {
    if (type == Type::kF64) return body(static_cast<double*>(nullptr));
    return body(static_cast<float*>(nullptr));
  } else {
#define ISONORM_CASE(name, kind, storage) \
  if (type == Type::kind) return body(static_cast<storage*>(nullptr));
    ISONORM_NARROW_TYPES(ISONORM_CASE)
#undef ISONORM_CASE
    __builtin_unreachable();
  }
}

// Calls op(vector, i) with n elements from `at` on in storage, vector by vector; repeated: with n times the one at `at`.
template <class F, class Op>
HWY_INLINE void ForStored(const void* data, Type type, int64_t at, size_t n, bool repeated, Op op) {
  if (repeated) {
    const auto v = hn::Set(Tag<F>(), LoadScalar<F>(data, type, at));
    for (size_t i = 0; i < n; i += hn::Lanes(Tag<F>())) {
      op(hn::IfThenElseZero(hn::FirstN(Tag<F>(), std::min(n - i, hn::Lanes(Tag<F>()))), v), i);
    }
    return;
  }
  WithStorage<F>(type, [&](auto* storage) HWY_ATTR {
    using T = std::remove_pointer_t<decltype(storage)>;
    const Tag<F> d;
    const T* p = static_cast<const T*>(data) + at;
    size_t i = 0;
    for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) op(LoadAs(d, p + i), i);
    if (i < n) op(LoadAsPart(d, p + i, n - i), i);
  });
}

template <class F>
HWY_INLINE void LoadChunk(const void* data, Type type, int64_t at, size_t n, bool repeated, Chunk<F>& out) {
  const Tag<F> d;
  ForStored<F>(data, type, at, n, repeated, [&](V<Tag<F>> v, size_t i) HWY_ATTR { hn::Store(v, d, out.v + i); });
}

// out += data
template <class F>
HWY_INLINE void AddStored(const void* data, Type type, int64_t at, size_t n, bool repeated, Chunk<F>& out) {
  const Tag<F> d;
  ForStored<F>(data, type, at, n, repeated,
               [&](V<Tag<F>> v, size_t i) HWY_ATTR { hn::Store(hn::Add(hn::Load(d, out.v + i), v), d, out.v + i); });
}

template <class F>
HWY_INLINE void StoreChunk(const Chunk<F>& chunk, Type type, size_t n, void* data, int64_t at) {
  WithStorage<F>(type, [&](auto* storage) HWY_ATTR {
    using T = std::remove_pointer_t<decltype(storage)>;
    const Tag<F> d;
    T* p = static_cast<T*>(data) + at;
    size_t i = 0;
    for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) StoreAs<Nans::kPossible>(hn::Load(d, chunk.v + i), d, p + i);
    if (i < n) StoreAsPart<Nans::kPossible>(hn::Load(d, chunk.v + i), d, p + i, n - i);
  });
}

// As if stored and loaded again; kNone: not at all. Only 16-bit types round.
template <class F>
HWY_INLINE void RoundChunk(Type type, size_t n, Chunk<F>& chunk) {
  if constexpr (sizeof(F) == 4) {
    const Tag<F> d;
#define ISONORM_CASE(name, kind, storage)                                                                \
  if (sizeof(storage) == 2 && type == Type::kind) {                                                      \
    Apply(chunk, n, [d](V<Tag<F>> v) HWY_ATTR { return RoundThrough<storage, Nans::kPossible>(d, v); }); \
  }
    ISONORM_NARROW_TYPES(ISONORM_CASE)
#undef ISONORM_CASE
  }
}

// v * 2^exponent with one rounding. Scaling up takes two exact factors, scaling down a single one that may be subnormal.
template <class F>
struct PowerOfTwo {
  explicit PowerOfTwo(int exponent) {
    constexpr int kMost = std::numeric_limits<F>::max_exponent - 1;
    first = std::ldexp(F(1), exponent < kMost ? exponent : kMost);
    second = exponent < kMost ? F(1) : std::ldexp(F(1), exponent - kMost);
  }
  F operator*(F v) const { return v * first * second; }
  F first, second;
};

template <class F>
HWY_INLINE void ScaleChunk(int exponent, size_t n, Chunk<F>& chunk) {
  if (exponent == 0) return;
  const PowerOfTwo<F> power(exponent);
  const Tag<F> d;
  const auto first = hn::Set(d, power.first), second = hn::Set(d, power.second);
  Apply(chunk, n, [&](V<Tag<F>> v) HWY_ATTR { return hn::Mul(hn::Mul(v, first), second); });
}

// chunk *= f(gate), chunk *= f'(gate): f32 only. Loops, not lambdas, for which each vector would be a call.
template <class Function, class F>
HWY_NOINLINE void TimesGateOf(const Chunk<F>& gate, size_t n, Chunk<F>& chunk) {
  const Tag<F> d;
  for (size_t i = 0; i < n; i += hn::Lanes(d)) {
    hn::Store(hn::Mul(hn::Load(d, chunk.v + i), GateOf<Function>(d, hn::Load(d, gate.v + i))), d, chunk.v + i);
  }
}
template <class Function, class F>
HWY_NOINLINE void TimesGateSlopeOf(const Chunk<F>& gate, size_t n, Chunk<F>& chunk) {
  const Tag<F> d;
  for (size_t i = 0; i < n; i += hn::Lanes(d)) {
    hn::Store(hn::Mul(hn::Load(d, chunk.v + i), GateSlopeOf<Function>(d, hn::Load(d, gate.v + i))), d, chunk.v + i);
  }
}
template <class F>
HWY_INLINE void TimesGate(GateFunction function, const Chunk<F>& gate, size_t n, Chunk<F>& chunk) {
  if constexpr (sizeof(F) == 4) {
    function == GateFunction::kSilu ? TimesGateOf<SiluFunction>(gate, n, chunk) : TimesGateOf<SigmoidFunction>(gate, n, chunk);
  }
}
template <class F>
HWY_INLINE void TimesGateSlope(GateFunction function, const Chunk<F>& gate, size_t n, Chunk<F>& chunk) {
  if constexpr (sizeof(F) == 4) {
    function == GateFunction::kSilu ? TimesGateSlopeOf<SiluFunction>(gate, n, chunk)
                                    : TimesGateSlopeOf<SigmoidFunction>(gate, n, chunk);
  }
}

// The largest finite magnitude, and whether all of them are finite.
template <class F>
struct Extent {
  F largest = 0;
  bool finite = true;

  HWY_INLINE void Add(const Chunk<F>& chunk, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      const F v = std::fabs(chunk.v[i]);
      if (!(v <= std::numeric_limits<F>::max())) {
        finite = false;
      } else if (v > largest) {
        largest = v;
      }
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_GENERAL_CHUNK_INL_H_
