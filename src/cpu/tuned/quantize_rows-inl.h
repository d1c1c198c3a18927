// The tuned forward into 8 bits: one loop over a row for the largest magnitude, where the scale comes from it, and one for the
// bytes. Each makes the values anew, which takes less time than a buffer of f32 that is written and read.
#if defined(ISONORM_CPU_TUNED_QUANTIZE_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_QUANTIZE_ROWS_INL_H_
#undef ISONORM_CPU_TUNED_QUANTIZE_ROWS_INL_H_
#else
#define ISONORM_CPU_TUNED_QUANTIZE_ROWS_INL_H_
#endif

#include <algorithm>

#include "cpu/choose.h"
#include "cpu/tuned/pieces-inl.h"
#include "cpu/general/quantize-inl.h"
#include "cpu/tuned/forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// The weight with its offset, or ones, in f32 and in the order of the duos of a row; whether all of it is finite.
template <Layout kLayout>
HWY_INLINE bool ArrangeWeight(const Call& call, float* HWY_RESTRICT w) {
  WidenWeight(call, w);
  const auto cols = static_cast<size_t>(call.cols);
  bool finite = true;
  for (size_t i = 0; i < cols; ++i) finite &= std::fabs(w[i]) <= std::numeric_limits<float>::max();
  ArrangeDuos<kLayout>(cols, w);
  return finite;
}

// The values of a row before they are quantised.
template <class Tx, bool kRound>
struct ScaledRow {
  static constexpr Layout kLayout = kLayoutOf<Tx, Tx>;
  const Tx* x;
  const float* weight;  // arranged
  float r;
  NextRows<Tx, 1> next;

  // Columns [i, i + n); i is that of a duo.
  template <bool kPart>
  HWY_INLINE Duo<Tag<float>> At(size_t i, size_t n) const {
    const Tag<float> d;
    const auto r_of = hn::Set(d, r);
    const auto c = Map(TakeDuo<kPart, kLayout>(x + i, n), [&](V<Tag<float>> v) HWY_ATTR {
      const auto scaled = hn::Mul(v, r_of);
      return kRound ? RoundThrough<Tx, Nans::kNone>(d, scaled) : scaled;
    });
    return Product(c, TakeDuo < kPart, kPart ? kLayout : Layout::kRuns > (weight + i, n));
  }
};

// The largest magnitude of `count` columns from i on, the largest finite one if kFinite. Nothing is NaN: x and the weight are
// finite.
template <bool kFinite, class Row>
HWY_INLINE float AmaxOf(const Row& row, size_t i, size_t count) {
  const Tag<float> d;
  const size_t width = 2 * hn::MaxLanes(d), end = i + count;
  const auto top = hn::Set(d, std::numeric_limits<float>::max());
  auto most = Duo<Tag<float>>(hn::Zero(d), hn::Zero(d));
  const auto take = [&](V<Tag<float>> v, V<Tag<float>> m) HWY_ATTR {
    const auto magnitude = hn::Abs(v);
    return hn::Max(m, kFinite ? hn::IfThenElseZero(hn::Le(magnitude, top), magnitude) : magnitude);
  };
  for (; i + width <= end; i += width) most = Map(row.template At<false>(i, width), most, take);
  if (i < end) most = Map(row.template At<true>(i, end - i), most, take);
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(most.a, most.b)));
}
template <class Row>
HWY_NOINLINE float FiniteAmaxOf(Row row, size_t i, size_t count) {
  return AmaxOf<true>(row, i, count);
}
template <class Row>
HWY_NOINLINE float AmaxOfRow(Row row, size_t i, size_t count) {
  const float amax = AmaxOf<false>(row, i, count);
  return HWY_LIKELY(amax <= std::numeric_limits<float>::max()) ? amax : FiniteAmaxOf(row, i, count);
}

// Bytes of `count` columns from i on, times the multiplier, while the next row is fetched: here memory would have nothing to
// do.
template <Type kType, class Row>
HWY_NOINLINE void QuantizeColumns(Row row, size_t i, size_t count, float multiplier, uint8_t* HWY_RESTRICT out) {
  const Tag<float> d;
  const hn::Rebind<uint8_t, Tag<float>> d8;
  const size_t width = 2 * hn::MaxLanes(d), end = i + count;
  const auto by = hn::Set(d, multiplier);
  const auto code = [&](V<Tag<float>> v) HWY_ATTR { return QuantizeTo<Nans::kNone>(kType, d, hn::Mul(v, by)); };
  for (; i + width <= end; i += width) {
    const auto v = row.template At<false>(i, width);
    const auto first = code(v.a), second = code(v.b);
    if constexpr (Row::kLayout == Layout::kEvenOdd) {
      const hn::Rebind<uint16_t, Tag<float>> d16;
      const hn::Repartition<uint8_t, decltype(d16)> pairs;
      const auto joined = hn::OrAnd(hn::ShiftLeft<8>(second), first, hn::Set(hn::RebindToUnsigned<Tag<float>>(), 0xFFu));
      hn::StoreU(hn::BitCast(pairs, hn::TruncateTo(d16, joined)), pairs, out + i);
    } else {
      hn::StoreU(hn::TruncateTo(d8, first), d8, out + i);
      hn::StoreU(hn::TruncateTo(d8, second), d8, out + i + hn::MaxLanes(d));
    }
    row.next.template Fetch<2 * hn::MaxLanes(Tag<float>())>(i);
  }
  if (i == end) return;
  HWY_ALIGN float rest[2 * hn::MaxLanes(d)];
  StoreDuo<Row::kLayout, Nans::kNone, Store::kCached>(row.template At<true>(i, end - i), d, rest);
  HWY_ALIGN uint8_t bytes[2 * hn::MaxLanes(d)];
  hn::StoreU(hn::TruncateTo(d8, code(hn::Load(d, rest))), d8, bytes);
  hn::StoreU(hn::TruncateTo(d8, code(hn::Load(d, rest + hn::MaxLanes(d)))), d8, bytes + hn::MaxLanes(d));
  std::memcpy(out + i, bytes, end - i);
}

template <class Row>
HWY_INLINE void QuantizeColumnsTo(Type type, const Row& row, size_t i, size_t count, float multiplier, uint8_t* out) {
  if (type == Type::kI8) return QuantizeColumns<Type::kI8>(row, i, count, multiplier, out);
  if (type == Type::kE4M3) return QuantizeColumns<Type::kE4M3>(row, i, count, multiplier, out);
  QuantizeColumns<Type::kE5M2>(row, i, count, multiplier, out);
}

// The sink: the scales of a row, and its bytes.
template <class Tx, bool kRound>
class QuantizeSink : public TakesAll {
  using Columns = ScaledRow<Tx, kRound>;

 public:
  // weight: arranged. bytes: room for a row.
  QuantizeSink(const Call& call, const Run& run, const float* weight, uint8_t* bytes)
      : call_(call), run_(run), flow_(FlowOf(call, run.data[kX], run.data[kY])), weight_(weight), bytes_(bytes) {}

  HWY_INLINE void Write(int64_t row, int64_t, const float* r) const {
    auto* const y = At<uint8_t>(run_, kY, row);
    const auto next = NextRows<Tx, 1>::Of(run_, {kX}, row + 1, call_.cols, flow_);
    const Columns columns = {At<const Tx>(run_, kX, row), weight_, *r, next};
    Quantize(columns, run_.data[kScale] == nullptr ? nullptr : At<char>(run_, kScale, row), streams() ? bytes_ : y);
    if (streams()) CopyOut(bytes_, static_cast<size_t>(call_.cols), y, flow_);
  }
  HWY_INLINE void Finish() const {
    if (streams()) hwy::FlushStream();
  }

 private:
  HWY_INLINE bool streams() const { return flow_ == Flow::kStreamed; }
  HWY_INLINE void Quantize(const Columns& row, char* scales, uint8_t* out) const {
    const Quantizer& quantizer = call_.quantizer;
    const Type type = call_.type[kY];
    const auto cols = static_cast<size_t>(call_.cols);
    if (!quantizer.dynamic) return QuantizeColumnsTo(type, row, 0, cols, quantizer.multiplier, out);
    const auto block = static_cast<size_t>(quantizer.scale_cols);
    for (size_t i = 0, index = 0; i < cols; i += block, ++index) {
      const BlockScale scale = ScaleOf(quantizer, type, AmaxOfRow(row, i, block));
      StoreScale(quantizer, scale, scales, static_cast<int64_t>(index));
      QuantizeColumnsTo(type, row, i, block, scale.multiplier, out);
    }
  }

  const Call& call_;
  const Run& run_;
  const Flow flow_;
  const float* const weight_;
  uint8_t* const bytes_;
};

template <class Tx, bool kRound>
HWY_NOINLINE void QuantizedRows(const Call& call, const Run& run) {
  HWY_ALIGN float weight[kMostColumns];
  HWY_ALIGN uint8_t bytes[kMostColumns];
  if (!ArrangeWeight<kLayoutOf<Tx, Tx>>(call, weight)) return GeneralForward(call, run, ColumnSums{});
  const PlainRows<Tx> source(call, run);
  const QuantizeSink<Tx, kRound> sink(call, run, weight, bytes);
  RowLoop(call, run, One(), source, sink);
}

template <class Tx>
void QuantizedForward(const Call& call, const Run& run, const ColumnSums&) {
  if constexpr (sizeof(Tx) == 2) {
    if (call.scaled_type != Type::kNone) return QuantizedRows<Tx, true>(call, run);
  }
  QuantizedRows<Tx, false>(call, run);
}

// The loops find the weight in f32, and look at the call for which 8 bits y has.
template <class Tx>
struct RowOf<Operation::k_forward, Source::k_plain, Sink::k_quantize, Tx, AnyWeight, EightBits> {
  static constexpr Kernel kRun = QuantizedForward<Tx>;
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_QUANTIZE_ROWS_INL_H_
