// silu(z) = z / (1 + exp(-z)), sigmoid(z) = 1 / (1 + exp(-z)) and their derivatives as the fixed sequence of docs/numerics.md §2.
#if defined(ISONORM_CPU_GATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_GATE_INL_H_
#undef ISONORM_CPU_GATE_INL_H_
#else
#define ISONORM_CPU_GATE_INL_H_
#endif

#include "cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

// exp(a) is about p * 2^n, for -150 <= a <= 0; the power of two comes in two factors, of which the second is 1 from n = -100 on.
// Results by reference, for vectors of unknown length cannot be members.
template <class D>
HWY_INLINE void ExpSplit(D d, V<D> a, V<D>& p, V<D>& power, V<D>& rest) {
  const hn::RebindToSigned<D> di;
  // Adding and taking away 1.5 * 2^23 rounds to an integer, half to even, on every target.
  const auto magic = hn::Set(d, 0x1.8p23f);
  const auto n = hn::Sub(hn::Add(hn::Mul(a, hn::Set(d, 0x1.715476p+0f)), magic), magic);
  const auto minus_n = hn::Neg(n);
  auto r = Fma(minus_n, hn::Set(d, 0x1.62e43p-1f), a);
  r = Fma(minus_n, hn::Set(d, -0x1.05c61p-29f), r);
  auto q = Fma(hn::Set(d, 0x1.6a50aep-10f), r, hn::Set(d, 0x1.123978p-7f));
  q = Fma(q, r, hn::Set(d, 0x1.5558acp-5f));
  q = Fma(q, r, hn::Set(d, 0x1.555492p-3f));
  q = Fma(q, r, hn::Set(d, 0x1.fffffcp-2f));
  p = hn::Add(hn::Set(d, 1.0f), Fma(q, hn::Mul(r, r), r));
  const auto exponent = hn::ConvertTo(di, n);
  const auto cut = hn::Max(exponent, hn::Set(di, -100));
  const auto bias = hn::Set(di, 127);
  power = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(cut, bias)));
  rest = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(exponent, cut), bias)));
}

// v * 2^n with one rounding: for |v| from 2^-26 on the first product is exact.
template <class W>
HWY_INLINE W TimesPower(W v, W power, W rest) {
  return hn::Mul(hn::Mul(v, power), rest);
}

// NaN in, NaN out: such lanes compute on 0 and are put back at the end, for no conversion to an integer is defined on them. No
// lambda: the compiler would call it for every vector.
template <class D>
HWY_INLINE V<D> NumbersOrZero([[maybe_unused]] D d, V<D> z) {
  return hn::IfThenElseZero(hn::Eq(z, z), z);
}
template <class D>
HWY_INLINE V<D> OrNaN([[maybe_unused]] D d, V<D> z, V<D> result) {
  return hn::IfThenElse(hn::Eq(z, z), result, z);
}

template <class D>
HWY_INLINE V<D> CutBelow(D d, V<D> v, float low) {
  return hn::IfThenElse(hn::Lt(v, hn::Set(d, low)), hn::Set(d, low), v);
}

template <class D>
HWY_INLINE V<D> Silu(D d, V<D> gate) {
  const auto all = NumbersOrZero(d, gate);
  const auto z = CutBelow(d, all, -150.0f);
  V<D> p, power, rest;
  ExpSplit(d, CutBelow(d, hn::Neg(hn::Abs(z)), -150.0f), p, power, rest);
  const auto denominator = hn::Add(hn::Set(d, 1.0f), TimesPower(p, power, rest));
  // One division for both signs: it takes longer than all the rest.
  const auto positive = hn::Ge(z, hn::Zero(d));
  const auto quotient = hn::Div(hn::IfThenElse(positive, z, hn::Mul(z, p)), denominator);
  return OrNaN(d, gate, hn::IfThenElse(positive, quotient, TimesPower(quotient, power, rest)));
}

template <class D>
HWY_INLINE V<D> SiluSlope(D d, V<D> gate) {
  const auto all = NumbersOrZero(d, gate);
  const auto one = hn::Set(d, 1.0f), top = hn::Set(d, 150.0f);
  const auto low = CutBelow(d, all, -150.0f);
  const auto z = hn::IfThenElse(hn::Gt(low, top), top, low);
  V<D> p, power, rest;
  ExpSplit(d, hn::Neg(hn::Abs(z)), p, power, rest);
  const auto x = TimesPower(p, power, rest);
  const auto denominator = hn::Add(one, x);
  const auto positive = hn::Ge(z, hn::Zero(d));
  const auto share = hn::Div(hn::IfThenElse(positive, one, p), denominator);
  const auto other = hn::Div(hn::IfThenElse(positive, x, z), denominator);
  const auto negative = TimesPower(hn::Mul(share, hn::Add(one, other)), power, rest);
  return OrNaN(d, gate, hn::IfThenElse(positive, hn::Mul(share, Fma(z, other, one)), negative));
}

template <class D>
HWY_INLINE V<D> Sigmoid(D d, V<D> gate) {
  const auto z = NumbersOrZero(d, gate);
  const auto one = hn::Set(d, 1.0f);
  V<D> p, power, rest;
  ExpSplit(d, CutBelow(d, hn::Neg(hn::Abs(z)), -150.0f), p, power, rest);
  const auto denominator = hn::Add(one, TimesPower(p, power, rest));
  const auto positive = hn::Ge(z, hn::Zero(d));
  const auto quotient = hn::Div(hn::IfThenElse(positive, one, p), denominator);
  return OrNaN(d, gate, hn::IfThenElse(positive, quotient, TimesPower(quotient, power, rest)));
}

template <class D>
HWY_INLINE V<D> SigmoidSlope(D d, V<D> gate) {
  const auto z = NumbersOrZero(d, gate);
  const auto one = hn::Set(d, 1.0f);
  V<D> p, power, rest;
  ExpSplit(d, CutBelow(d, hn::Neg(hn::Abs(z)), -150.0f), p, power, rest);
  const auto denominator = hn::Add(one, TimesPower(p, power, rest));
  return OrNaN(d, gate, TimesPower(hn::Mul(hn::Div(p, denominator), hn::Div(one, denominator)), power, rest));
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_GATE_INL_H_
