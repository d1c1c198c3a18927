// The tuned forward: x in, y out, no fusion. A block of rows goes through sums, one vector of reciprocals, and the write pass;
// long rows from memory go one by one, while a later one is fetched.
#if defined(ISONORM_CPU_TUNED_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_FORWARD_INL_H_
#undef ISONORM_CPU_TUNED_FORWARD_INL_H_
#else
#define ISONORM_CPU_TUNED_FORWARD_INL_H_
#endif

#include <algorithm>

#include "cpu/tuned/pieces-inl.h"
#include "cpu/tuned/row_loop-inl.h"
#include "cpu/tuned/rows-inl.h"
#include "cpu/tuned/write-inl.h"
#include "table/kernels.h"
#include "cpu/choose.h"
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

// The row of a call that has one, of which a single leaf needs no list of leaves.
template <class Tx>
struct RowAlone {
  const Tx* x;
  int64_t cols;
  HWY_INLINE float Sum(int64_t) const { return cols <= kOneLeaf ? LeafSum(x, cols) : RowSum(x, RowLeaves(cols)); }
};

// A call of one short row, which must not spend more time on plans than on the row.
template <class Tx, class Tw, class Ty, bool kOffset>
HWY_INLINE void TunedForwardRow(const Call& call, const Run& run) {
  const float sum = SumOf(call, run, 0, RowAlone<Tx>{At<const Tx>(run, kX, 0), call.cols});
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

// `written`: the call with the weight that the loops read, which the general path does not know.
template <class Tx, class Tw, class Ty, bool kOffset>
HWY_NOINLINE void TunedForwardRows(const Call& call, const Run& run, const Call& written) {
  using Writer = RowWriter<Tx, Tw, Ty, kOffset>;
  Writer writer(written, run);
#if ISONORM_LEAF_NETWORK
  if constexpr (!std::is_same_v<Tw, Arranged>) {  // bf16, of which next to nothing is fetched with the sum: one loop will do
    if (writer.FetchesAhead()) {
      const FetchingRows<Tx, Writer> rows(call, run, writer);
      return RowLoop(call, run, One(), rows, writer);
    }
  }
#endif
  const PlainRows<Tx> rows(call, run);
  RowLoop(call, run, RowsPerBlock(call.cols * static_cast<int64_t>(sizeof(Tx)), writer.from_memory()), rows, writer);
}

// Where many rows share a weight that takes as long to read as x does, it is converted once, if it then fits the caches: one of
// f16; and on AVX2 one for rows of bf16, which take 15 operations for 16 values so, not 18 or 20.
constexpr int64_t kWidenedRows = 16;
template <class Tx, class Tw, class Ty>
constexpr bool kArranges = HWY_TARGET == HWY_AVX2&& kLayoutOf<Tx, Ty> == Layout::kEvenOdd && !std::is_same_v<Tw, None>;

// Whether the steps of every row begin at its first column and end with a line.
template <class Tx>
HWY_INLINE bool HasWholeLines(const Call& call, const Run& run) {
  int64_t all = call.cols * int64_t{sizeof(Tx)};
  for (const RowTensor tensor : {kX, kY}) all |= reinterpret_cast<intptr_t>(run.data[tensor]) | run.stride[tensor];
  return all % kLine == 0;
}

template <class Tx, class Tw, class Ty>
HWY_NOINLINE void TunedForwardWidened(const Call& call, const Run& run) {
  alignas(kLine) float weight[kMostColumns];
  WidenWeight(call, weight);
  Call widened = call;
  widened.weight = weight;
  widened.weight_type = Type::kF32;
  widened.weight_offset = 0;
  ArrangeDuos<kLayoutOf<Tx, Ty>>(static_cast<size_t>(call.cols), weight);
  TunedForwardRows<Tx, Tw, Ty, false>(call, run, widened);
}

template <class Tx, class Tw, class Ty, bool kOffset>
HWY_INLINE void TunedForwardBySize(const Call& call, const Run& run) {
  if (call.rows == 1 && call.cols < kNearBytes / int64_t{sizeof(Tx) + sizeof(Ty)}) {
    return TunedForwardRow<Tx, Tw, Ty, kOffset>(call, run);
  }
  if (run.count >= kWidenedRows && call.cols <= kMostColumns) {
    if constexpr (std::is_same_v<Tw, F16>) return TunedForwardWidened<Tx, float, Ty>(call, run);
    if constexpr (kArranges<Tx, Tw, Ty>) {
      // In f32 it is twice as long as in bf16: rows from memory then take longer, not less.
      const bool fits = sizeof(Tw) == sizeof(float) || FlowOf(call, run.data[kX], run.data[kY]) <= Flow::kCached;
      if (fits && call.weight_finite && HasWholeLines<Tx>(call, run)) return TunedForwardWidened<Tx, Arranged, Ty>(call, run);
    }
  }
  TunedForwardRows<Tx, Tw, Ty, kOffset>(call, run, call);
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
