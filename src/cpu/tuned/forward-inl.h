// The tuned forward: x in, y out, no fusion. A block of rows goes through sums, one vector of reciprocals, and the write pass;
// long rows from memory go one by one, while a later one is fetched.
#if defined(ISONORM_CPU_TUNED_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_FORWARD_INL_H_
#undef ISONORM_CPU_TUNED_FORWARD_INL_H_
#else
#define ISONORM_CPU_TUNED_FORWARD_INL_H_
#endif

#include <algorithm>

#include "cpu/tuned/row_loop-inl.h"
#include "cpu/tuned/rows-inl.h"
#include "cpu/tuned/write-inl.h"
#include "table/kernels.h"
#include "cpu/run.h"
#include "cpu/tuning.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// Rows whose statistics are taken before the first of them is written: a quarter of a first-level cache, for weight and y want
// the rest, and with half of it the addresses decide whether the call takes a third longer. Between memory and streaming stores
// the turns are shorter.
HWY_INLINE int64_t RowsPerBlock(int64_t row_bytes, bool from_memory) {
  return std::clamp<int64_t>((from_memory ? 4 << 10 : 8 << 10) / row_bytes, 1, kBlockRows);
}

// A call of one short row, which must not spend more time on plans than on the row.
template <class Tx, class Tw, class Ty, bool kOffset>
HWY_INLINE void TunedForwardRow(const Call& call, const Run& run) {
  const float sum = SumOf(call, run, 0, PlainRows<Tx>(call, run));
  if (HWY_UNLIKELY(!TameRange(call.norm).Holds(sum))) return RunGeneralRow(call, run, 0);
  float r;
  RstdOfSums(&sum, 1, call.norm, &r);
  RowWriter<Tx, Tw, Ty, kOffset>::WriteOne(call, run, r);
  StoreRstd(run, 0, 1, &r);
}

// Rows as they lie, each of which is summed while a later one is fetched.
template <class Tx, class Writer>
class FetchingRows {
 public:
  FetchingRows(const Call& call, const Run& run, const Writer& writer)
      : run_(run), leaves_(call.cols), writer_(writer), bytes_(writer.plan().in_sum) {}
  HWY_INLINE void Make(int64_t) const {}
  HWY_INLINE float Sum(int64_t row) const {
    return SumFetching(At<const Tx>(run_, kX, row), leaves_, writer_.Ahead(row), bytes_);
  }

 private:
  const Run& run_;
  const RowLeaves leaves_;
  const Writer& writer_;
  const size_t bytes_;
};

template <class Tx, class Tw, class Ty, bool kOffset>
HWY_NOINLINE void TunedForwardRows(const Call& call, const Run& run) {
  using Writer = RowWriter<Tx, Tw, Ty, kOffset>;
  Writer writer(call, run);
#if ISONORM_LEAF_NETWORK
  if (writer.FetchesAhead()) {
    const FetchingRows<Tx, Writer> rows(call, run, writer);
    return RowLoop(call, run, One(), rows, writer);
  }
#endif
  const PlainRows<Tx> rows(call, run);
  RowLoop(call, run, RowsPerBlock(call.cols * static_cast<int64_t>(sizeof(Tx)), writer.from_memory()), rows, writer);
}

// Rows that share a weight of f16, which is as slow to read as x is: it is converted once, if it then fits the caches.
constexpr int64_t kWidenedRows = 16, kWidenedCols = 8 << 10;

template <class Tx, class Ty, bool kOffset>
HWY_NOINLINE void TunedForwardWidened(const Call& call, const Run& run) {
  const Tag<float> d;
  alignas(kLine) float weight[kWidenedCols];
  const auto* narrow = static_cast<const F16*>(call.weight);
  const auto cols = static_cast<size_t>(call.cols);
  const size_t rest = cols % hn::Lanes(d), whole = cols - rest;
  for (size_t i = 0; i < whole; i += hn::Lanes(d)) hn::StoreU(LoadAs(d, narrow + i), d, weight + i);
  if (rest != 0) hn::StoreU(LoadAsPart(d, narrow + whole, rest), d, weight + whole);
  Call widened = call;
  widened.weight = weight;
  widened.weight_type = Type::kF32;
  TunedForwardRows<Tx, float, Ty, kOffset>(widened, run);
}

template <class Tx, class Tw, class Ty, bool kOffset>
HWY_INLINE void TunedForwardBySize(const Call& call, const Run& run) {
  if (call.rows == 1 && call.cols < kNearBytes / int64_t{sizeof(Tx) + sizeof(Ty)}) {
    return TunedForwardRow<Tx, Tw, Ty, kOffset>(call, run);
  }
  if constexpr (std::is_same_v<Tw, F16>) {
    if (run.count >= kWidenedRows && call.cols <= kWidenedCols) return TunedForwardWidened<Tx, Ty, kOffset>(call, run);
  }
  TunedForwardRows<Tx, Tw, Ty, kOffset>(call, run);
}

template <class Tx, class Tw, class Ty>
void TunedForward(const Call& call, const Run& run, const ColumnSums&) {
  constexpr bool kWeighted = !std::is_same_v<Tw, None>;
  if (kWeighted && call.weight_offset != 0) {
    TunedForwardBySize<Tx, Tw, Ty, kWeighted>(call, run);
  } else {
    TunedForwardBySize<Tx, Tw, Ty, false>(call, run);
  }
}

template <class Tx, class Tw, class Ty>
struct RowOf<Operation::k_forward, Source::k_plain, Sink::k_cast, Tx, Tw, Ty> {
  static constexpr Kernel kRun = TunedForward<Tx, Tw, Ty>;
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_FORWARD_INL_H_
