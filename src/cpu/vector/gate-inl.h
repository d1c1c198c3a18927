// silu(z) = z / (1 + exp(-z)), sigmoid(z) = 1 / (1 + exp(-z)) and their derivatives as the fixed sequence of docs/numerics.md
// §2.
#if defined(ISONORM_CPU_VECTOR_GATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_VECTOR_GATE_INL_H_
#undef ISONORM_CPU_VECTOR_GATE_INL_H_
#else
#define ISONORM_CPU_VECTOR_GATE_INL_H_
#endif

#include "cpu/vector/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

// Most gates are kNear, where nothing is cut, no value is NaN, and one factor holds the power of two; the same bits by half the
// operations.
enum class Reach { kNear, kAny };
constexpr float kNearest = 69.0f;  // exp(-69) > 2^-100

// exp(a) is about p * 2^n, for -150 <= a <= 0; the power of two comes in two factors, of which the second is 1 from n = -100
// on. Results by reference, for vectors of unknown length cannot be members.
template <Reach kReach, class D>
HWY_INLINE void ExpSplit(D d, V<D> a, V<D>& p, V<D>& power, V<D>& rest) {
  const hn::RebindToSigned<D> di;
  // Adding and taking away 1.5 * 2^23 rounds to an integer, half to even, on every target.
  const auto magic = hn::Set(d, 0x1.8p23f);
  const auto shifted = hn::Add(hn::Mul(a, hn::Set(d, 0x1.715476p+0f)), magic);
  const auto n = hn::Sub(shifted, magic);
  auto r = NegFma(n, hn::Set(d, 0x1.62e43p-1f), a);
  r = NegFma(n, hn::Set(d, -0x1.05c61p-29f), r);
  auto q = Fma(hn::Set(d, 0x1.6a50aep-10f), r, hn::Set(d, 0x1.123978p-7f));
  q = Fma(q, r, hn::Set(d, 0x1.5558acp-5f));
  q = Fma(q, r, hn::Set(d, 0x1.555492p-3f));
  q = Fma(q, r, hn::Set(d, 0x1.fffffcp-2f));
  p = hn::Add(hn::Set(d, 1.0f), Fma(q, hn::Mul(r, r), r));
  const auto bias = hn::Set(di, 127);
  if constexpr (kReach == Reach::kNear) {  // the lowest bits of `shifted` are those of n
    power = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::BitCast(di, shifted), bias)));
  } else {
    const auto exponent = hn::ConvertTo(di, n);
    const auto cut = hn::Max(exponent, hn::Set(di, -100));
    power = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(cut, bias)));
    rest = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(exponent, cut), bias)));
  }
}

// v * 2^n with one rounding: for |v| from 2^-26 on the first product is exact.
template <Reach kReach, class W>
HWY_INLINE W TimesPower(W v, W power, W rest) {
  if constexpr (kReach == Reach::kNear) return hn::Mul(v, power);
  return hn::Mul(hn::Mul(v, power), rest);
}

// NaN in, NaN out: such lanes compute on 0 and are put back at the end, for no conversion to an integer is defined on them. No
// lambda: the compiler would call it for every vector.
template <Reach kReach, class D>
HWY_INLINE V<D> NumbersOrZero([[maybe_unused]] D d, V<D> z) {
  if constexpr (kReach == Reach::kNear) return z;
  return hn::IfThenElseZero(hn::Eq(z, z), z);
}
template <Reach kReach, class D>
HWY_INLINE V<D> OrNaN([[maybe_unused]] D d, V<D> z, V<D> result) {
  if constexpr (kReach == Reach::kNear) return result;
  return hn::IfThenElse(hn::Eq(z, z), result, z);
}

template <Reach kReach, class D>
HWY_INLINE V<D> CutBelow(D d, V<D> v, float low) {
  if constexpr (kReach == Reach::kNear) return v;
  return hn::IfThenElse(hn::Lt(v, hn::Set(d, low)), hn::Set(d, low), v);
}

// p, power and rest of exp(-|z|), and 1 + exp(-|z|).
template <Reach kReach, class D>
HWY_INLINE V<D> Denominator(D d, V<D> z, V<D>& p, V<D>& power, V<D>& rest) {
  const auto sign = hn::Set(d, -0.0f);
  ExpSplit<kReach>(d, CutBelow<kReach>(d, hn::Or(z, sign), -150.0f), p, power, rest);
  return hn::Add(hn::Set(d, 1.0f), TimesPower<kReach>(p, power, rest));
}

// v, times the power where z is negative.
template <Reach kReach, class D>
HWY_INLINE V<D> BySign([[maybe_unused]] D d, hn::Mask<D> positive, V<D> v, V<D> power, V<D> rest) {
  return hn::IfThenElse(positive, v, TimesPower<kReach>(v, power, rest));
}

struct SiluFunction {
  template <Reach kReach, class D>
  static HWY_INLINE V<D> Of(D d, V<D> gate) {
    const auto z = CutBelow<kReach>(d, NumbersOrZero<kReach>(d, gate), -150.0f);
    V<D> p, power, rest;
    const auto denominator = Denominator<kReach>(d, z, p, power, rest);
    // One division for both signs: it takes longer than all the rest.
    const auto positive = hn::Ge(z, hn::Zero(d));
    const auto quotient = hn::Div(hn::IfThenElse(positive, z, hn::Mul(z, p)), denominator);
    return OrNaN<kReach>(d, gate, BySign<kReach>(d, positive, quotient, power, rest));
  }

  template <Reach kReach, class D>
  static HWY_INLINE V<D> Slope(D d, V<D> gate) {
    const auto one = hn::Set(d, 1.0f), top = hn::Set(d, 150.0f);
    const auto low = CutBelow<kReach>(d, NumbersOrZero<kReach>(d, gate), -150.0f);
    const auto z = kReach == Reach::kNear ? low : hn::IfThenElse(hn::Gt(low, top), top, low);
    V<D> p, power, rest;
    const auto denominator = Denominator<kReach>(d, z, p, power, rest);
    const auto x = TimesPower<kReach>(p, power, rest);
    const auto positive = hn::Ge(z, hn::Zero(d));
    const auto share = hn::Div(hn::IfThenElse(positive, one, p), denominator);
    const auto other = hn::Div(hn::IfThenElse(positive, x, z), denominator);
    const auto negative = TimesPower<kReach>(hn::Mul(share, hn::Add(one, other)), power, rest);
    return OrNaN<kReach>(d, gate, hn::IfThenElse(positive, hn::Mul(share, Fma(z, other, one)), negative));
  }
};

struct SigmoidFunction {
  template <Reach kReach, class D>
  static HWY_INLINE V<D> Of(D d, V<D> gate) {
    const auto z = NumbersOrZero<kReach>(d, gate);
    V<D> p, power, rest;
    const auto denominator = Denominator<kReach>(d, z, p, power, rest);
    const auto positive = hn::Ge(z, hn::Zero(d));
    const auto quotient = hn::Div(hn::IfThenElse(positive, hn::Set(d, 1.0f), p), denominator);
    return OrNaN<kReach>(d, gate, BySign<kReach>(d, positive, quotient, power, rest));
  }

  template <Reach kReach, class D>
  static HWY_INLINE V<D> Slope(D d, V<D> gate) {
    const auto z = NumbersOrZero<kReach>(d, gate);
    V<D> p, power, rest;
    const auto denominator = Denominator<kReach>(d, z, p, power, rest);
    const auto product = hn::Mul(hn::Div(p, denominator), hn::Div(hn::Set(d, 1.0f), denominator));
    return OrNaN<kReach>(d, gate, TimesPower<kReach>(product, power, rest));
  }
};

// Vectors that reach far are rare, and their code is long.
template <class Function, class D>
HWY_NOINLINE V<D> FarGate(D d, V<D> z) {
  return Function::template Of<Reach::kAny>(d, z);
}
template <class Function, class D>
HWY_NOINLINE V<D> FarGateSlope(D d, V<D> z) {
  return Function::template Slope<Reach::kAny>(d, z);
}

template <class D>
HWY_INLINE bool IsNear(D d, V<D> z) {
  return hn::AllTrue(d, hn::Le(hn::Abs(z), hn::Set(d, kNearest)));
}

// f(z) and f'(z), where f is SiluFunction or SigmoidFunction.
template <class Function, class D>
HWY_INLINE V<D> GateOf(D d, V<D> z) {
  return HWY_LIKELY(IsNear(d, z)) ? Function::template Of<Reach::kNear>(d, z) : FarGate<Function>(d, z);
}
template <class Function, class D>
HWY_INLINE V<D> GateSlopeOf(D d, V<D> z) {
  return HWY_LIKELY(IsNear(d, z)) ? Function::template Slope<Reach::kNear>(d, z) : FarGateSlope<Function>(d, z);
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_VECTOR_GATE_INL_H_
