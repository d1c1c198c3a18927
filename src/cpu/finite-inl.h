// Whether numbers are finite, asked of their bits, so that no floating-point flag is disturbed.
#if defined(ISONORM_CPU_FINITE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_FINITE_INL_H_
#undef ISONORM_CPU_FINITE_INL_H_
#else
#define ISONORM_CPU_FINITE_INL_H_
#endif

#include <limits>

#include "cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

// The bits of infinity.
template <class T>
constexpr auto InfinityBits() {
  if constexpr (std::is_same_v<T, float>) {
    return int32_t{0x7F800000};
  } else {
    return static_cast<int16_t>(std::is_same_v<T, Bf16> ? 0x7F80 : 0x7C00);
  }
}

// Four maxima, so that none waits for the one before it: a call of one row waits for all of this.
template <class T>
HWY_INLINE bool AllFinite(const T* data, int64_t count) {
  using Bits = decltype(InfinityBits<T>());
  const Tag<Bits> d;
  const size_t width = hn::Lanes(d), size = static_cast<size_t>(count);
  const auto* p = reinterpret_cast<const Bits*>(data);
  const auto magnitude = hn::Set(d, std::numeric_limits<Bits>::max());
  auto m0 = hn::Zero(d), m1 = m0, m2 = m0, m3 = m0;
  size_t i = 0;
  for (; i + 4 * width <= size; i += 4 * width) {
    m0 = hn::Max(m0, hn::And(hn::LoadU(d, p + i), magnitude));
    m1 = hn::Max(m1, hn::And(hn::LoadU(d, p + i + width), magnitude));
    m2 = hn::Max(m2, hn::And(hn::LoadU(d, p + i + 2 * width), magnitude));
    m3 = hn::Max(m3, hn::And(hn::LoadU(d, p + i + 3 * width), magnitude));
  }
  for (; i < size; i += width) {
    const size_t rest = size - i;
    m0 = hn::Max(m0, hn::And(rest >= width ? hn::LoadU(d, p + i) : LoadPart(d, p + i, rest), magnitude));
  }
  return hn::AllTrue(d, hn::Lt(hn::Max(hn::Max(m0, m1), hn::Max(m2, m3)), hn::Set(d, InfinityBits<T>())));
}

#if ISONORM_FIXED_VECTORS
// The same, 64 elements at a time, beside something else.
template <class T>
struct FiniteBeside {
  using D = Tag<decltype(InfinityBits<T>())>;

  explicit FiniteBeside(const T* data)
      : p(reinterpret_cast<const hn::TFromD<D>*>(data)), even(hn::Zero(D())), odd(hn::Zero(D())) {}

  HWY_INLINE void operator()() {
    const D d;
    constexpr size_t kWidth = hn::MaxLanes(D());
    const auto magnitude = hn::Set(d, std::numeric_limits<hn::TFromD<D>>::max());
    HWY_UNROLL(8)
    for (size_t i = 0; i < 64; i += 2 * kWidth) {
      even = hn::Max(even, hn::And(hn::LoadU(d, p + i), magnitude));
      odd = hn::Max(odd, hn::And(hn::LoadU(d, p + i + kWidth), magnitude));
    }
    p += 64;
  }
  HWY_INLINE bool All() const { return hn::AllTrue(D(), hn::Lt(hn::Max(even, odd), hn::Set(D(), InfinityBits<T>()))); }

  const hn::TFromD<D>* p;
  V<D> even, odd;
};
#endif

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_FINITE_INL_H_
