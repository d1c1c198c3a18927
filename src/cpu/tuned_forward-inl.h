// The tuned forward: x in, y out, no fusion. A block of rows that fits the first cache goes through sums, one vector of
// reciprocals, and the write pass, which prefetches the next block where the rows come from memory.
#if defined(ISONORM_CPU_TUNED_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_FORWARD_INL_H_
#undef ISONORM_CPU_TUNED_FORWARD_INL_H_
#else
#define ISONORM_CPU_TUNED_FORWARD_INL_H_
#endif

#include <algorithm>

#include "cpu/general-inl.h"
#include "cpu/row_sums-inl.h"
#include "cpu/rstd-inl.h"
#include "cpu/write-inl.h"
#include "kernels.h"
#include "run.h"
#include "tuning.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

constexpr int64_t kBlockBytes = 16 << 10;  // half of a first-level cache: the other half is for weight and y

HWY_INLINE int64_t RowsPerBlock(int64_t row_bytes) { return std::clamp<int64_t>(kBlockBytes / row_bytes, 1, kBlockRows); }

// One row by the general path.
HWY_INLINE void RunGeneralRow(const Call& call, const Run& run, int64_t row) {
  Run one = run;
  one.first += row;
  one.count = 1;
  for (int t = 0; t < kRowTensors; ++t) {
    if (one.data[t] != nullptr) one.data[t] += row * one.stride[t];
  }
  GeneralForward(call, one, ColumnSums{});
}

template <class Tx, class Tw, class Ty>
void TunedForward(const Call& call, const Run& run, const ColumnSums&) {
  const RowLeaves leaves(call.cols);
  const PlainRange range(call.eps, call.eps_outside);
  const auto eps = static_cast<float>(call.eps);
  const RowWriter<Tx, Tw, Ty> writer(call, run);
  const int64_t block = RowsPerBlock(call.cols * static_cast<int64_t>(sizeof(Tx)));
  HWY_ALIGN float sums[kBlockRows] = {};
  HWY_ALIGN float r[kBlockRows];
  for (int64_t first = 0; first < run.count; first += block) {
    const int64_t count = std::min(block, run.count - first);
    const char* x = run.data[kX] + first * run.stride[kX];
    RowSums(reinterpret_cast<const Tx*>(x), run.stride[kX], count, leaves, sums);
    RstdOfSums(sums, count, call.cols, eps, call.eps_outside, r);
    if (HWY_LIKELY(range.HoldsAll(sums, count))) {
      writer.Write(first, count, block, r);
      if (run.data[kRstd] == nullptr) continue;
      for (int64_t i = 0; i < count; ++i) *reinterpret_cast<float*>(run.data[kRstd] + (first + i) * run.stride[kRstd]) = r[i];
      continue;
    }
    for (int64_t i = 0; i < count; ++i) {
      if (!range.Holds(sums[i])) {
        RunGeneralRow(call, run, first + i);
        continue;
      }
      writer.Write(first + i, 1, block, r + i);
      if (run.data[kRstd] != nullptr) *reinterpret_cast<float*>(run.data[kRstd] + (first + i) * run.stride[kRstd]) = r[i];
    }
  }
  writer.Finish();
}

// Enters the tuned forward rows of the table whose x is of type Tx. Without a fused multiply-add in hardware the arithmetic takes
// longer than the memory, and the general path does as well.
template <class Tx>
void AddTunedForward([[maybe_unused]] Backend& backend) {
#if HWY_NATIVE_FMA
#define ISONORM_KERNEL(operation, source, sink, x, weight, out)
#define ISONORM_TUNED(operation, x, weight, out)                                                                \
  if constexpr (Operation::k_##operation == Operation::k_forward && std::is_same_v<storage::x, Tx>) {            \
    backend.kernels[k_##operation##_plain_cast_##x##_##weight##_##out] =                                         \
        TunedForward<storage::x, storage::weight, storage::out>;                                                 \
  }
#include "kernels.inc"
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_FORWARD_INL_H_
