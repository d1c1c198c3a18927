// The tuned forward: x in, y out, no fusion. A block of rows goes through sums, one vector of reciprocals, and the write pass;
// long rows from memory go one by one, while a later one is fetched.
#if defined(ISONORM_CPU_TUNED_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_FORWARD_INL_H_
#undef ISONORM_CPU_TUNED_FORWARD_INL_H_
#else
#define ISONORM_CPU_TUNED_FORWARD_INL_H_
#endif

#include <algorithm>

#include "cpu/general/general-inl.h"
#include "cpu/tuned/row_sums-inl.h"
#include "cpu/tuned/rstd-inl.h"
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

// One row by the general path.
HWY_NOINLINE inline void RunGeneralRow(const Call& call, const Run& run, int64_t row) {
  char* data[kRowTensors];
  GeneralForward(call, OneRow(run, row, data), ColumnSums{});
}

// A call of one short row, which must not spend more time on plans than on the row.
template <class Tx, class Tw, class Ty, bool kOffset>
HWY_INLINE void TunedForwardRow(const Call& call, const Run& run) {
  HWY_ALIGN float sums[kBlockRows];  // whole vectors are written
  const float sum = HWY_UNLIKELY(call.shard != nullptr)
                        ? SharedSum(call, run.first)
                        : RowSums(reinterpret_cast<const Tx*>(run.data[kX]), 0, 1, RowLeaves(call.cols), sums);
  if (HWY_UNLIKELY(!PlainRange(call.eps, call.eps_outside).Holds(sum))) return RunGeneralRow(call, run, 0);
  float r;
  RstdOfSums(&sum, 1, call.counted(), static_cast<float>(call.eps), call.eps_outside, &r);
  RowWriter<Tx, Tw, Ty, kOffset>::WriteOne(call, run, r);
  if (run.data[kRstd] != nullptr) *reinterpret_cast<float*>(run.data[kRstd]) = r;
}

template <class Tx, class Tw, class Ty, bool kOffset>
HWY_NOINLINE void TunedForwardRows(const Call& call, const Run& run) {
  const RowLeaves leaves(call.cols);
  const PlainRange range(call.eps, call.eps_outside);
  const auto eps = static_cast<float>(call.eps);
  const RowWriter<Tx, Tw, Ty, kOffset> writer(call, run);
  HWY_ALIGN float sums[kBlockRows] = {};
#if ISONORM_LEAF_NETWORK
  if (writer.FetchesAhead()) {
    const size_t fetched = writer.plan().in_sum;
    for (int64_t row = 0; row < run.count; ++row) {
      const auto* x = reinterpret_cast<const Tx*>(run.data[kX] + row * run.stride[kX]);
      const float sum = call.shard != nullptr ? SharedSum(call, run.first + row)
                        : fetched != 0        ? RowSumFetching(x, leaves, writer.Ahead(row), fetched)
                                              : RowSums(x, 0, 1, leaves, sums);
      float r;
      RstdOfSums(&sum, 1, call.counted(), eps, call.eps_outside, &r);
      if (HWY_UNLIKELY(!range.Holds(sum))) {
        RunGeneralRow(call, run, row);
        continue;
      }
      writer.Write(row, 1, &r);
      if (run.data[kRstd] != nullptr) *reinterpret_cast<float*>(run.data[kRstd] + row * run.stride[kRstd]) = r;
    }
    return writer.Finish();
  }
#endif
  const int64_t block = RowsPerBlock(call.cols * static_cast<int64_t>(sizeof(Tx)), writer.from_memory());
  HWY_ALIGN float r[kBlockRows];
  for (int64_t first = 0; first < run.count; first += block) {
    const int64_t count = std::min(block, run.count - first);
    const char* x = run.data[kX] + first * run.stride[kX];
    if (call.shard == nullptr) {
      RowSums(reinterpret_cast<const Tx*>(x), run.stride[kX], count, leaves, sums);
    } else {
      SharedSums(call, run.first + first, count, sums);
    }
    RstdOfSums(sums, count, call.counted(), eps, call.eps_outside, r);
    if (HWY_LIKELY(range.HoldsAll(sums, count))) {
      writer.Write(first, count, r);
      if (run.data[kRstd] == nullptr) continue;
      for (int64_t i = 0; i < count; ++i) *reinterpret_cast<float*>(run.data[kRstd] + (first + i) * run.stride[kRstd]) = r[i];
      continue;
    }
    for (int64_t i = 0; i < count; ++i) {
      if (!range.Holds(sums[i])) {
        RunGeneralRow(call, run, first + i);
        continue;
      }
      writer.Write(first + i, 1, r + i);
      if (run.data[kRstd] != nullptr) *reinterpret_cast<float*>(run.data[kRstd] + (first + i) * run.stride[kRstd]) = r[i];
    }
  }
  writer.Finish();
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

#endif  // ISONORM_TUNED_LOOPS

// Enters the tuned forward rows of the table whose x is of type Tx.
template <class Tx>
void AddTunedForward([[maybe_unused]] Target& target) {
#if ISONORM_TUNED_LOOPS
#define ISONORM_KERNEL(operation, source, sink, x, weight, out)
#define ISONORM_TUNED(operation, x, weight, out)                                                      \
  if constexpr (Operation::k_##operation == Operation::k_forward && std::is_same_v<storage::x, Tx>) { \
    target.kernels[k_##operation##_plain_cast_##x##_##weight##_##out] =                               \
        TunedForward<storage::x, storage::weight, storage::out>;                                      \
  }
#include "table/kernels.inc"
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_FORWARD_INL_H_
