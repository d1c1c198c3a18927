// A row of y that is written by itself, with ordinary stores; perhaps the first of a call whose weight nobody has looked at
// yet.
#if defined(ISONORM_CPU_TUNED_ROW_ALONE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_ROW_ALONE_INL_H_
#undef ISONORM_CPU_TUNED_ROW_ALONE_INL_H_
#else
#define ISONORM_CPU_TUNED_ROW_ALONE_INL_H_
#endif

#include <cmath>

#include "cpu/tuned/duo-inl.h"
#include "cpu/tuning.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// NaNs of a row that was written as if there were none. They come from the weight, for x * r is finite: from a NaN, which
// rounding to bf16 may have carried away, or from an infinity times 0, which no rounding loses.
template <class Tw, class Ty>
HWY_NOINLINE void CanonicaliseNaNs(const Tw* w, Ty* y, size_t cols) {
  for (int64_t i = 0; i < static_cast<int64_t>(cols); ++i) {
    if (std::isnan(Widen(LoadAt<Tw>(w, i))) || std::isnan(Widen(LoadAt<Ty>(y, i)))) {
      StoreAt(Narrow<Ty>(CanonicalNaN<float>()), y, i);
    }
  }
}

// `back`: from its end, which the sum has just left in the first-level cache. kLooks: the weight may not be finite; returns
// whether it is now known to be. Steps::Step and PartStep write some columns and return their weight.
template <class Steps, bool kRound, bool kLooks, class Tx, class Tw, class Ty>
HWY_NOINLINE bool WriteAlone(const Tx* x, const Tw* w, Ty* y, size_t cols, float r_of_row, float offset_of_call, bool back) {
  using D = Tag<float>;
  const D d;
  const auto r = hn::Set(d, r_of_row), offset = hn::Set(d, offset_of_call);
  const size_t step = 2 * hn::Lanes(d), to_line = ElementsToLine(y);
  // A store that crosses a line costs more than a load that does, but on most CPUs not more than two that would not have to.
  const bool aligns = to_line != 0 && (ElementsToLine(x) != 0 || CurrentPlan().aligns_stores);
  const size_t head = aligns && to_line < step && to_line < cols ? to_line : 0;
  const size_t rest = (cols - head) % step, end = cols - rest;
  const auto weight_at = [w](size_t i) HWY_ATTR { return std::is_same_v<Tw, None> ? w : w + i; };

  // Finite as long as every weight is, and never again after one that is not. Additions have units of their own; 16-bit rows
  // wait for arithmetic, and a product is one operation for both vectors. (With weights around 2^64 it may overflow, which
  // costs time and nothing else.) There are two, so that neither waits for the other.
  V<D> seen[2] = {hn::Zero(d), hn::Zero(d)};
  const auto look = [&](V<D> before, const Duo<D>& w_of) HWY_ATTR {
    const auto of = Map(w_of, [&](V<D> by) HWY_ATTR { return Steps::kAdds ? hn::Add(by, offset) : by; });
    return sizeof(Tx) == 2 ? Fma(of.a, of.b, before) : hn::Add(before, hn::Add(of.a, of.b));
  };
  const auto write = [&](size_t i, V<D>& of) HWY_ATTR {
    const auto w_of = Steps::template Step<kRound>(d, x + i, weight_at(i), y + i, r, offset);
    if constexpr (kLooks) of = look(of, w_of);
  };
  const auto write_part = [&](size_t i, size_t count) HWY_ATTR {
    const auto w_of = Steps::template PartStep<kRound>(d, x + i, weight_at(i), y + i, count, r, offset);
    if constexpr (kLooks) seen[0] = look(seen[0], w_of);
  };

  if (rest != 0) write_part(end, rest);
  const size_t move = back ? -step : step;
  size_t i = back ? end - step : head, steps = (end - head) / step;
  for (; steps >= 2; steps -= 2, i += 2 * move) {
    write(i, seen[0]);
    write(i + move, seen[1]);
  }
  if (steps != 0) write(i, seen[0]);
  if (head != 0) write_part(0, head);
  if constexpr (kLooks && !std::is_same_v<Tw, None>) {
    if (HWY_UNLIKELY(!hn::AllTrue(d, hn::IsFinite(hn::Add(seen[0], seen[1]))))) {
      CanonicaliseNaNs(w, y, cols);
      return false;
    }
  }
  return true;
}

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_ROW_ALONE_INL_H_
