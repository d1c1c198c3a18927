// Rotation of a chunk that holds a head, for the general path.
#if defined(ISONORM_CPU_GENERAL_ROPE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_GENERAL_ROPE_INL_H_
#undef ISONORM_CPU_GENERAL_ROPE_INL_H_
#else
#define ISONORM_CPU_GENERAL_ROPE_INL_H_
#endif

#include "cpu/general/chunk-inl.h"
#include "numbers/rope.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

static_assert(kMaxHead <= static_cast<int64_t>(kChunk));

// A pair (a, b) turned by the angle whose cosine and sine are c and s; kBack: the other way.
template <bool kBack, class W>
HWY_INLINE void Rotate(W a, W b, W c, W s, W& y_a, W& y_b) {
  const auto product_a = hn::Mul(a, c), product_b = hn::Mul(b, c);
  y_a = kBack ? Fma(b, s, product_a) : NegFma(b, s, product_a);
  y_b = kBack ? NegFma(a, s, product_b) : Fma(a, s, product_b);
}

// The head in the chunk, a whole one, of a row of the call. What lies behind its pairs passes through, so the last of them go
// one by one.
template <bool kBack, class F>
HWY_NOINLINE void RotateChunk(const Rope& rope, int64_t row, Chunk<F>& chunk) {
  const Tag<F> d;
  const Rope::Angles angles = rope.AnglesOf(row);
  const auto half = static_cast<size_t>(rope.half), width = hn::Lanes(d);
  Chunk<F> cos, sin;
  LoadChunk(angles.cos, rope.table, 0, half, false, cos);
  LoadChunk(angles.sin, rope.table, 0, half, false, sin);
  size_t i = 0;
  V<Tag<F>> y_a, y_b;
  if (!rope.interleaved) {
    for (; i + width <= half; i += width) {
      F *a = chunk.v + i, *b = a + half;
      Rotate<kBack>(hn::Load(d, a), hn::LoadU(d, b), hn::Load(d, cos.v + i), hn::Load(d, sin.v + i), y_a, y_b);
      hn::Store(y_a, d, a);
      hn::StoreU(y_b, d, b);
    }
  }
#if ISONORM_PAIRS
  if (rope.interleaved) {
    for (; i + width <= half; i += width) {
      V<Tag<F>> a, b;
      hn::LoadInterleaved2(d, chunk.v + 2 * i, a, b);
      Rotate<kBack>(a, b, hn::Load(d, cos.v + i), hn::Load(d, sin.v + i), y_a, y_b);
      hn::StoreInterleaved2(y_a, y_b, d, chunk.v + 2 * i);
    }
  }
#endif
  for (; i < half; ++i) {
    F& a = chunk.v[rope.interleaved ? 2 * i : i];
    F& b = chunk.v[rope.interleaved ? 2 * i + 1 : half + i];
    const F first = a * cos.v[i], second = b * cos.v[i], old = a;
    a = std::fma(kBack ? b : -b, sin.v[i], first);
    b = std::fma(kBack ? -old : old, sin.v[i], second);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_GENERAL_ROPE_INL_H_
