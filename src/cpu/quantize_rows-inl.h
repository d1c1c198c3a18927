// The tuned forward into 8 bits: a row's values go to a buffer of f32, and from there, when their scale is known, to bytes. The
// loop into the buffer is compiled per type of x and weight, the one out of it per format: they add up.
#if defined(ISONORM_CPU_QUANTIZE_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_QUANTIZE_ROWS_INL_H_
#undef ISONORM_CPU_QUANTIZE_ROWS_INL_H_
#else
#define ISONORM_CPU_QUANTIZE_ROWS_INL_H_
#endif

#include <algorithm>

#include "cpu/pieces-inl.h"
#include "cpu/quantize-inl.h"
#include "cpu/tuned_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

constexpr size_t kMostQuantized = 16 << 10;  // columns of the longest row that the buffer holds

// t = round(x * r) * (weight + offset) for one row; returns the largest magnitude, which is finite or infinite, but no NaN: x
// and the weight are finite.
template <class Tx, class Tw, bool kOffset, bool kRound>
HWY_NOINLINE float ScaleIntoBuffer(const Tx* x, const Tw* weight, size_t cols, float r_of_row, float offset_of_call,
                                   float* HWY_RESTRICT t) {
  using Tc = std::conditional_t<sizeof(Tx) == 2, Tx, Tw>;
  const Tag<float> d;
  const size_t width = hn::MaxLanes(d);
  const auto r = hn::Set(d, r_of_row), offset = hn::Set(d, offset_of_call);
  const auto value = [&](V<Tag<float>> v, V<Tag<float>> w) HWY_ATTR {
    auto c = hn::Mul(v, r);
    if constexpr (kRound) c = RoundThrough<Tc, Nans::kNone>(d, c);
    if constexpr (std::is_same_v<Tw, None>) {
      return c;
    } else {
      return hn::Mul(c, kOffset ? hn::Add(w, offset) : w);
    }
  };
  const auto weight_at = [weight](size_t i) HWY_ATTR { return std::is_same_v<Tw, None> ? weight : weight + i; };
  auto m0 = hn::Zero(d), m1 = m0;
  size_t i = 0;
  for (; i + 4 * width <= cols; i += 4 * width) {
    HWY_UNROLL(2)
    for (size_t k = i; k < i + 4 * width; k += 2 * width) {
      const auto a = value(LoadAs(d, x + k), LoadAs(d, weight_at(k)));
      const auto b = value(LoadAs(d, x + k + width), LoadAs(d, weight_at(k + width)));
      hn::Store(a, d, t + k);
      hn::Store(b, d, t + k + width);
      m0 = hn::Max(m0, hn::Abs(a));
      m1 = hn::Max(m1, hn::Abs(b));
    }
  }
  for (; i < cols; i += width) {
    const size_t n = std::min(width, cols - i);
    const auto a = n == width ? value(LoadAs(d, x + i), LoadAs(d, weight_at(i)))
                              : value(LoadAsPart(d, x + i, n), LoadAsPart(d, weight_at(i), n));
    hn::Store(a, d, t + i);  // the buffer has room for a whole vector
    m0 = hn::Max(m0, hn::Abs(a));
  }
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(m0, m1)));
}

// Bytes of `cols` values times the multiplier.
template <Type kType>
HWY_NOINLINE void QuantizeBuffer(const float* HWY_RESTRICT t, size_t cols, float multiplier, uint8_t* HWY_RESTRICT out) {
  const Tag<float> d;
  const hn::Rebind<uint8_t, Tag<float>> d8;
  const size_t width = hn::MaxLanes(d);
  const auto by = hn::Set(d, multiplier);
  const auto bytes = [&](size_t i)
                         HWY_ATTR { return hn::TruncateTo(d8, QuantizeTo(kType, d, hn::Mul(hn::LoadU(d, t + i), by))); };
  size_t i = 0;
  for (; i + 4 * width <= cols; i += 4 * width) {
    HWY_UNROLL(4)
    for (size_t k = i; k < i + 4 * width; k += width) hn::StoreU(bytes(k), d8, out + k);
  }
  for (; i + width <= cols; i += width) hn::StoreU(bytes(i), d8, out + i);
  if (i < cols) StorePart(bytes(i), d8, out + i, cols - i);
}

HWY_INLINE void QuantizeBufferTo(Type type, const float* t, size_t cols, float multiplier, uint8_t* out) {
  if (type == Type::kI8) return QuantizeBuffer<Type::kI8>(t, cols, multiplier, out);
  if (type == Type::kE4M3) return QuantizeBuffer<Type::kE4M3>(t, cols, multiplier, out);
  QuantizeBuffer<Type::kE5M2>(t, cols, multiplier, out);
}

// The scales of a row in the buffer, and its bytes; amax is that of the whole row.
HWY_INLINE void QuantizeRow(const Call& call, const float* t, float amax, char* scales, uint8_t* out) {
  const Quantizer& quantizer = call.quantizer;
  const Type type = call.type[kY];
  const auto cols = static_cast<size_t>(call.cols);
  if (!quantizer.dynamic) return QuantizeBufferTo(type, t, cols, quantizer.multiplier, out);
  const auto block = static_cast<size_t>(quantizer.scale_cols);
  const bool finite = amax <= std::numeric_limits<float>::max();
  for (size_t i = 0, index = 0; i < cols; i += block, ++index) {
    const float most = block == cols && finite ? amax : FiniteAmax(t + i, block);
    const BlockScale scale = ScaleOf(quantizer, type, most);
    StoreScale(quantizer, scale, scales, static_cast<int64_t>(index));
    QuantizeBufferTo(type, t + i, block, scale.multiplier, out + i);
  }
}

template <class Tx, class Tw, bool kOffset>
HWY_NOINLINE void QuantizedRows(const Call& call, const Run& run) {
  using Tc = std::conditional_t<sizeof(Tx) == 2, Tx, Tw>;
  constexpr bool kCanRound = std::is_same_v<Tc, Bf16> || std::is_same_v<Tc, F16>;
  const auto cols = static_cast<size_t>(call.cols);
  const RowLeaves leaves(call.cols);
  const PlainRange range(call.eps, call.eps_outside);
  const auto eps = static_cast<float>(call.eps), offset = static_cast<float>(call.weight_offset);
  const auto* weight = static_cast<const Tw*>(call.weight);
  const Flow flow = FlowOf(call, run.data[kX], run.data[kY]);
  HWY_ALIGN float t[kMostQuantized];
  HWY_ALIGN uint8_t bytes[kMostQuantized];
  HWY_ALIGN float sums[kBlockRows] = {};
  for (int64_t row = 0; row < run.count; ++row) {
    const char* const at = run.data[kX] + row * run.stride[kX];
    const auto* x = reinterpret_cast<const Tx*>(at);
#if ISONORM_LEAF_NETWORK
    const float sum = call.shard != nullptr  ? SharedSum(call, run.first + row)
                      : flow > Flow::kCached ? RowSumFetching(x, leaves, at + run.stride[kX], kLine)
                                             : RowSums(x, 0, 1, leaves, sums);
#else
    const float sum = call.shard != nullptr ? SharedSum(call, run.first + row) : RowSums(x, 0, 1, leaves, sums);
#endif
    if (HWY_UNLIKELY(!range.Holds(sum))) {
      RunGeneralRow(call, run, row);
      continue;
    }
    float r;
    RstdOfSums(&sum, 1, call.counted(), eps, call.eps_outside, &r);
    float amax;
    if (kCanRound && call.scaled_type != Type::kNone) {
      amax = ScaleIntoBuffer<Tx, Tw, kOffset, kCanRound>(x, weight, cols, r, offset, t);
    } else {
      amax = ScaleIntoBuffer<Tx, Tw, kOffset, false>(x, weight, cols, r, offset, t);
    }
    auto* const y = reinterpret_cast<uint8_t*>(run.data[kY] + row * run.stride[kY]);
    char* const scales = run.data[kScale] == nullptr ? nullptr : run.data[kScale] + row * run.stride[kScale];
    QuantizeRow(call, t, amax, scales, flow == Flow::kStreamed ? bytes : y);
    if (flow == Flow::kStreamed) CopyOut(bytes, cols, y, flow);
    if (run.data[kRstd] != nullptr) *reinterpret_cast<float*>(run.data[kRstd] + row * run.stride[kRstd]) = r;
  }
  if (flow == Flow::kStreamed) hwy::FlushStream();
}

template <class Tx, class Tw>
void QuantizedForward(const Call& call, const Run& run, const ColumnSums& sums) {
  constexpr bool kWeighted = !std::is_same_v<Tw, None>;
  if (!call.weight_finite || call.cols > static_cast<int64_t>(kMostQuantized) || call.quantizer.rounded_to != Type::kNone) {
    return GeneralForward(call, run, sums);
  }
  if (kWeighted && call.weight_offset != 0) {
    QuantizedRows<Tx, Tw, kWeighted>(call, run);
  } else {
    QuantizedRows<Tx, Tw, false>(call, run);
  }
}

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_QUANTIZE_ROWS_INL_H_
