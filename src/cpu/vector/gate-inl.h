// silu(z) = z / (1 + exp(-z)), sigmoid(z) = 1 / (1 + exp(-z)) and their derivatives as the fixed sequence of docs/numerics.md
// §2.
#if defined(ISONORM_CPU_VECTOR_GATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_VECTOR_GATE_INL_H_
#undef ISONORM_CPU_VECTOR_GATE_INL_H_
#else
#define ISONORM_CPU_VECTOR_GATE_INL_H_
#endif

#include "cpu/vector/vector-inl.h"
#include "numbers/gate.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

// Most gates are kNear, from -20 to 87, where one formula gives the bits. kMiddle is within +-87: values below -20 have a
// formula of their own, but nothing is cut, and no power of two is subnormal.
enum class Reach { kNear, kMiddle, kAny };
constexpr float kMiddleGate = 87.0f, kFarthest = 150.0f;

template <Reach kReach, class D>
HWY_INLINE hn::Mask<D> AreWithin(D d, V<D> z) {
  const auto middle = hn::Set(d, kMiddleGate);
  if constexpr (kReach == Reach::kMiddle) return hn::Le(hn::Abs(z), middle);
  return hn::And(hn::Ge(z, hn::Set(d, -kNearGate)), hn::Le(z, middle));
}

// b, of which exp(-b) is taken: z, but -z below -20; and not above 150. A NaN stays one, here and in all that follows.
template <Reach kReach, class D>
HWY_INLINE V<D> Argument([[maybe_unused]] D d, V<D> z) {
  if constexpr (kReach == Reach::kNear) return z;
  const auto sign = hn::And(hn::VecFromMask(d, hn::Lt(z, hn::Set(d, -kNearGate))), hn::Set(d, -0.0f));
  const auto b = hn::Xor(z, sign);
  if constexpr (kReach == Reach::kMiddle) return b;
  const auto farthest = hn::Set(d, kFarthest);
  return hn::IfThenElse(hn::Gt(b, farthest), farthest, b);
}

// exp(-b) is about p * 2^n, and n is in the lowest bits of `shifted`: the sign is folded into the constants. Results by
// reference, for vectors of unknown length cannot be members.
template <class D>
HWY_INLINE void ExpSplit(D d, V<D> b, V<D>& p, V<D>& shifted) {
  const auto magic = hn::Set(d, 0x1.8p23f);
  shifted = Fma(b, hn::Set(d, -0x1.715476p+0f), magic);
  const auto n = hn::Sub(shifted, magic);
  auto r = Fma(n, hn::Set(d, 0x1.62e43p-1f), b);
  r = Fma(n, hn::Set(d, -0x1.05c61p-29f), r);
  auto q = Fma(hn::Set(d, 0x1.6a50aep-10f), r, hn::Set(d, -0x1.123978p-7f));
  q = Fma(q, r, hn::Set(d, 0x1.5558acp-5f));
  q = Fma(q, r, hn::Set(d, -0x1.555492p-3f));
  q = Fma(q, r, hn::Set(d, 0x1.fffffcp-2f));
  p = hn::Sub(hn::Set(d, 1.0f), NegFma(q, hn::Mul(r, r), r));
}

// v * 2^n with one rounding, for -216 <= n <= 29 and any |v| that is 0 or from 2^-36 on: the first product is exact.
template <class D>
HWY_INLINE V<D> TimesPower(D d, V<D> v, V<D> shifted) {
  const hn::RebindToSigned<D> di;
  const auto power = hn::ShiftLeft<23>(hn::Add(hn::BitCast(di, shifted), hn::Set(di, 127 + 90)));
  return hn::Mul(hn::Mul(v, hn::Set(d, 0x1p-90f)), hn::BitCast(d, power));
}

// e = exp(-b), with p and n.
template <Reach kReach, class D>
HWY_INLINE V<D> Exponential(D d, V<D> b, V<D>& p, V<D>& shifted) {
  const hn::RebindToSigned<D> di;
  ExpSplit(d, b, p, shifted);
  if constexpr (kReach == Reach::kAny) return TimesPower(d, p, shifted);
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
}

// v * exp(-b) where z is below -20, else `near`.
template <Reach kReach, class D>
HWY_INLINE V<D> FarBelow(D d, V<D> z, V<D> v, V<D> e, V<D> p, V<D> shifted, V<D> near) {
  if constexpr (kReach == Reach::kNear) return near;
  const auto far = kReach == Reach::kMiddle ? hn::Mul(v, e) : TimesPower(d, hn::Mul(v, p), shifted);
  return hn::IfThenElse(hn::Lt(z, hn::Set(d, -kNearGate)), far, near);
}

// z / d, where s = 1 / d and d = 1 + exp(-z): division takes longer than three operations. The quotient's remainder, which is
// exact, repairs it: tried for every f32 from -20 to 87. In this order zeros keep their sign.
template <Reach kReach, class W>
HWY_INLINE W Quotient(W z, W d, W s) {
  if constexpr (kReach == Reach::kAny) return hn::Div(z, d);
  const W q = hn::Mul(z, s);
  return NegFma(FmaLess(q, d, z), s, q);
}

// m - m^2: sigmoid'(z), where m is the smaller of sigmoid(z) and sigmoid(-z).
template <class W>
HWY_INLINE W LessSquare(W m) {
  return NegFma(m, m, m);
}

struct SiluFunction {
  template <Reach kReach, class D>
  static HWY_INLINE V<D> Of(D d, V<D> z) {
    V<D> p, shifted;
    const auto b = Argument<kReach>(d, z);
    const auto e = Exponential<kReach>(d, b, p, shifted);
    const auto near = hn::Div(z, hn::Add(hn::Set(d, 1.0f), e));
    return FarBelow<kReach>(d, z, kReach == Reach::kMiddle ? z : hn::Neg(b), e, p, shifted, near);
  }

  // And its slope, from e = exp(-b), where b is Argument(z).
  template <Reach kReach, class D>
  static HWY_INLINE void Near(D d, V<D> z, V<D> b, V<D> e, V<D>& f, V<D>& slope) {
    const auto one = hn::Set(d, 1.0f);
    const auto denominator = hn::Add(one, e), s = hn::Div(one, denominator);
    const auto c = hn::Sub(hn::Sub(denominator, e), one);  // what rounding added to the denominator
    const auto u = Fma(hn::Mul(s, c), s, s);
    f = Quotient<kReach>(z, denominator, s);
    slope = Fma(b, LessSquare(hn::Min(u, hn::Mul(e, s))), u);
  }
  template <Reach kReach, class D>
  static HWY_INLINE void Both(D d, V<D> z, V<D>& f, V<D>& slope) {
    V<D> p, shifted;
    const auto b = Argument<kReach>(d, z);
    const auto e = Exponential<kReach>(d, b, p, shifted);
    Near<kReach>(d, z, b, e, f, slope);
    const auto v = kReach == Reach::kMiddle ? z : hn::Neg(b);
    f = FarBelow<kReach>(d, z, v, e, p, shifted, f);
    slope = FarBelow<kReach>(d, z, hn::Add(hn::Set(d, 1.0f), v), e, p, shifted, slope);
  }
};

struct SigmoidFunction {
  template <Reach kReach, class D>
  static HWY_INLINE V<D> Of(D d, V<D> z) {
    V<D> f, slope;
    Both<kReach>(d, z, f, slope);
    return f;
  }

  template <Reach kReach, class D>
  static HWY_INLINE void Near(D d, V<D>, V<D>, V<D> e, V<D>& f, V<D>& slope) {
    const auto one = hn::Set(d, 1.0f);
    f = hn::Div(one, hn::Add(one, e));
    slope = LessSquare(hn::Min(f, hn::Mul(e, f)));
  }
  template <Reach kReach, class D>
  static HWY_INLINE void Both(D d, V<D> z, V<D>& f, V<D>& slope) {
    V<D> p, shifted;
    const auto b = Argument<kReach>(d, z);
    const auto e = Exponential<kReach>(d, b, p, shifted);
    Near<kReach>(d, z, b, e, f, slope);
    if constexpr (kReach == Reach::kNear) return;
    const auto below = hn::Lt(z, hn::Set(d, -kNearGate));
    f = hn::IfThenElse(below, e, f);
    slope = hn::IfThenElse(below, e, slope);
  }
};

template <class Function, Reach kReach, class D>
HWY_INLINE V<D> Slope(D d, V<D> z) {
  V<D> f, slope;
  Function::template Both<kReach>(d, z, f, slope);
  return slope;
}

// Vectors that reach far are rare, and their code is long.
template <class Function, class D>
HWY_NOINLINE V<D> FarGate(D d, V<D> z) {
  if (hn::AllTrue(d, AreWithin<Reach::kMiddle>(d, z))) return Function::template Of<Reach::kMiddle>(d, z);
  return Function::template Of<Reach::kAny>(d, z);
}
template <class Function, class D>
HWY_NOINLINE V<D> FarGateSlope(D d, V<D> z) {
  if (hn::AllTrue(d, AreWithin<Reach::kMiddle>(d, z))) return Slope<Function, Reach::kMiddle>(d, z);
  return Slope<Function, Reach::kAny>(d, z);
}

// f(z) and f'(z), where f is SiluFunction or SigmoidFunction.
template <class Function, class D>
HWY_INLINE V<D> GateOf(D d, V<D> z) {
  return HWY_LIKELY(hn::AllTrue(d, AreWithin<Reach::kNear>(d, z))) ? Function::template Of<Reach::kNear>(d, z)
                                                                   : FarGate<Function>(d, z);
}
template <class Function, class D>
HWY_INLINE V<D> GateSlopeOf(D d, V<D> z) {
  return HWY_LIKELY(hn::AllTrue(d, AreWithin<Reach::kNear>(d, z))) ? Slope<Function, Reach::kNear>(d, z)
                                                                   : FarGateSlope<Function>(d, z);
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_VECTOR_GATE_INL_H_
