// The sink of the tuned forward: y = round(round(x * r) * (weight + offset)), one row at a time.
#if defined(ISONORM_CPU_WRITE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_WRITE_INL_H_
#undef ISONORM_CPU_WRITE_INL_H_
#else
#define ISONORM_CPU_WRITE_INL_H_
#endif

#include <algorithm>

#include "cpu/vector-inl.h"
#include "kernels.h"
#include "run.h"
#include "tuning.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

constexpr int64_t kLine = 64;  // bytes that memory moves at once

// Where a row comes from and goes to.
enum class Flow {
  kCached,    // ordinary stores
  kStreamed,  // y bypasses the cache, and the row that comes next is fetched meanwhile
  kInPlace,   // ordinary stores to lines that were just read, and the row that comes next is fetched meanwhile
};

template <class Tx, class Tw, class Ty>
class RowWriter {
  using D = Tag<float>;
  // c is rounded to the 16-bit type among x's and the weight's, if the contract rounds it at all.
  using Tc = std::conditional_t<sizeof(Tx) == 2, Tx, Tw>;
  static constexpr bool kCanRound = std::is_same_v<Tc, Bf16> || std::is_same_v<Tc, F16>;
  // bf16 in and out: even and odd elements in two vectors, without a permutation.
  static constexpr bool kPairs = ISONORM_PAIRS && std::is_same_v<Tx, Bf16> && std::is_same_v<Ty, Bf16> &&
                                 (std::is_same_v<Tw, Bf16> || std::is_same_v<Tw, None>);

 public:
  RowWriter(const Call& call, const Run& run)
      : cols_(call.cols),
        weight_(static_cast<const Tw*>(call.weight)),
        offset_(call.weight_offset == 0 ? -0.0f : static_cast<float>(call.weight_offset)),  // w + -0 is w for every w
        round_(kCanRound && call.scaled_type != Type::kNone),
        clean_(call.weight_finite),
        flow_(FlowOf(call, run)) {}

  // next: the row to fetch meanwhile, or null.
  HWY_INLINE void Write(const char* x, const char* next, char* y, float r) const {
    if constexpr (kCanRound) {
      if (round_) return WriteRounded<true>(x, next, y, r);
    }
    WriteRounded<false>(x, next, y, r);
  }

  // Streamed stores are ordered before whatever the caller does next.
  void Finish() const {
    if (flow_ == Flow::kStreamed) hwy::FlushStream();
  }

 private:
  static Flow FlowOf(const Call& call, const Run& run) {
    if (!call.weight_finite || RowBytes(call) < GetTuning().stream_bytes) return Flow::kCached;
    return run.data[kX] == run.data[kY] || !ISONORM_FIXED_VECTORS ? Flow::kInPlace : Flow::kStreamed;
  }

  template <bool kRound>
  HWY_INLINE void WriteRounded(const char* x, const char* next, char* y, float r) const {
    const auto* from = reinterpret_cast<const Tx*>(x);
    auto* to = reinterpret_cast<Ty*>(y);
    if (!clean_) return Loop<kRound, Nans::kPossible, Flow::kCached>(from, next, to, r);
    if (flow_ == Flow::kCached) return Loop<kRound, Nans::kNone, Flow::kCached>(from, next, to, r);
    if (next == nullptr) next = x;
    if (flow_ == Flow::kInPlace) return Loop<kRound, Nans::kNone, Flow::kInPlace>(from, next, to, r);
    Loop<kRound, Nans::kNone, Flow::kStreamed>(from, next, to, r);
  }

  template <bool kRound, Nans kNans>
  HWY_INLINE V<D> Apply(D d, V<D> x, V<D> w, V<D> r, V<D> offset) const {
    auto c = hn::Mul(x, r);
    if constexpr (kRound) c = RoundThrough<Tc, kNans>(d, c);
    if constexpr (std::is_same_v<Tw, None>) {
      return c;
    } else {
      return hn::Mul(c, hn::Add(w, offset));
    }
  }

  // A step is what one turn of the loop moves: as many elements as fill a vector of x, y or the compute type, whichever has most.
  static HWY_INLINE size_t StepOf(D d) { return kPairs ? 2 * hn::Lanes(d) : hn::Lanes(d); }

  template <bool kRound, Nans kNans, Flow kFlow>
  HWY_INLINE void Step(D d, const Tx* x, const Tw* w, Ty* y, V<D> r, V<D> offset) const {
#if ISONORM_PAIRS
    if constexpr (kPairs) {
      const hn::Repartition<uint16_t, D> d16;
      const auto raw_x = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(x));
      auto raw_w = raw_x;
      if constexpr (!std::is_same_v<Tw, None>) raw_w = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(w));
      const auto out = Pair<kRound, kNans>(d, raw_x, raw_w, r, offset);
      StoreBits<kFlow>(out, d16, reinterpret_cast<uint16_t*>(y));
    } else  // NOLINT(readability/braces)
#endif
    {
      const auto t = Apply<kRound, kNans>(d, LoadAs(d, x), LoadAs(d, w), r, offset);
      const hn::Rebind<Raw<Ty>, D> dy;
      StoreBits<kFlow>(NarrowTo<Ty, kNans>(d, t), dy, reinterpret_cast<Raw<Ty>*>(y));
    }
  }

  template <bool kRound, Nans kNans>
  HWY_INLINE void PartStep(D d, const Tx* x, const Tw* w, Ty* y, size_t count, V<D> r, V<D> offset) const {
#if ISONORM_PAIRS
    if constexpr (kPairs) {
      const hn::Repartition<uint16_t, D> d16;
      const auto raw_x = LoadPart(d16, reinterpret_cast<const uint16_t*>(x), count);
      auto raw_w = raw_x;
      if constexpr (!std::is_same_v<Tw, None>) raw_w = LoadPart(d16, reinterpret_cast<const uint16_t*>(w), count);
      StorePart(Pair<kRound, kNans>(d, raw_x, raw_w, r, offset), d16, reinterpret_cast<uint16_t*>(y), count);
    } else  // NOLINT(readability/braces)
#endif
    {
      const auto t = Apply<kRound, kNans>(d, LoadAsPart(d, x, count), LoadAsPart(d, w, count), r, offset);
      StoreAsPart<kNans>(t, d, y, count);
    }
  }

  template <bool kRound, Nans kNans, class V16>
  HWY_INLINE V16 Pair(D d, V16 x, V16 w, V<D> r, V<D> offset) const {
    const hn::RebindToUnsigned<D> du;
    const auto high = hn::Set(du, 0xFFFF0000u);
    const auto even = [&](V16 v) HWY_ATTR { return hn::BitCast(d, hn::ShiftLeft<16>(hn::BitCast(du, v))); };
    const auto odd = [&](V16 v) HWY_ATTR { return hn::BitCast(d, hn::And(hn::BitCast(du, v), high)); };
    const auto e = Bf16InUpperHalves<kNans>(d, Apply<kRound, kNans>(d, even(x), even(w), r, offset));
    const auto o = Bf16InUpperHalves<kNans>(d, Apply<kRound, kNans>(d, odd(x), odd(w), r, offset));
    const hn::DFromV<V16> d16;
    return hn::BitCast(d16, hn::Or(hn::ShiftRight<16>(e), hn::And(o, high)));
  }

  template <Flow kFlow, class W, class DD>
  HWY_INLINE void StoreBits(W v, DD d, hn::TFromD<DD>* p) const {
#if ISONORM_FIXED_VECTORS
    if constexpr (kFlow == Flow::kStreamed) {
      hn::Stream(v, d, p);
      return;
    }
#endif
    hn::StoreU(v, d, p);
  }

  template <bool kRound, Nans kNans, Flow kFlow>
  HWY_INLINE void Loop(const Tx* x, const char* next, Ty* y, float r_of_row) const {
    const D d;
    const auto r = hn::Set(d, r_of_row), offset = hn::Set(d, offset_);
    const auto cols = static_cast<size_t>(cols_), step = StepOf(d);
    const Tw* w = weight_;
    const auto weight_at = [w](size_t i) HWY_ATTR { return std::is_same_v<Tw, None> ? w : w + i; };
    size_t i = 0;
    if constexpr (kFlow == Flow::kStreamed) {
      // Streaming stores want whole lines: the elements before the first one go by ordinary stores.
      const size_t head = static_cast<size_t>(-reinterpret_cast<intptr_t>(y) & (kLine - 1)) / sizeof(Ty);
      for (; i < std::min(head, cols); i += std::min(step, std::min(head, cols) - i)) {
        const size_t count = std::min(step, std::min(head, cols) - i);
        if (count == step) {
          Step<kRound, kNans, Flow::kCached>(d, x + i, weight_at(i), y + i, r, offset);
        } else {
          PartStep<kRound, kNans>(d, x + i, weight_at(i), y + i, count, r, offset);
        }
      }
    }
    for (; i + 4 * step <= cols; i += 4 * step) {
      if constexpr (kFlow != Flow::kCached) {
        const char* ahead = next + i * sizeof(Tx);
        for (size_t line = 0; line < 4 * step * sizeof(Tx); line += kLine) hwy::Prefetch(ahead + line);
      }
      Step<kRound, kNans, kFlow>(d, x + i, weight_at(i), y + i, r, offset);
      Step<kRound, kNans, kFlow>(d, x + i + step, weight_at(i + step), y + i + step, r, offset);
      Step<kRound, kNans, kFlow>(d, x + i + 2 * step, weight_at(i + 2 * step), y + i + 2 * step, r, offset);
      Step<kRound, kNans, kFlow>(d, x + i + 3 * step, weight_at(i + 3 * step), y + i + 3 * step, r, offset);
    }
    for (; i + step <= cols; i += step) Step<kRound, kNans, kFlow>(d, x + i, weight_at(i), y + i, r, offset);
    if (i < cols) PartStep<kRound, kNans>(d, x + i, weight_at(i), y + i, cols - i, r, offset);
  }

  const int64_t cols_;
  const Tw* const weight_;
  const float offset_;
  const bool round_;
  const bool clean_;
  const Flow flow_;
};

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_WRITE_INL_H_
