// What a rank sends of plain rows whose columns several ranks share: the sum of squares of its own.
#if defined(ISONORM_CPU_TUNED_PARTIAL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_PARTIAL_INL_H_
#undef ISONORM_CPU_TUNED_PARTIAL_INL_H_
#else
#define ISONORM_CPU_TUNED_PARTIAL_INL_H_
#endif

#include <algorithm>

#include "cpu/tuned/row_loop-inl.h"
#include "cpu/tuned/rows-inl.h"
#include "numbers/shard.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

template <class T>
void TunedForwardPartial(const Call& call, const Run& run, const ColumnSums&) {
  const RowLeaves leaves(LeavesOfShard(call.cols, call.shard->ranks));
  HWY_ALIGN float sums[kBlockRows + hn::MaxLanes(Tag<float>())];
  // From the last row to the first: what wrote x has left its last rows in the caches, and finish begins with the first ones.
  for (int64_t row = (run.count - 1) / kBlockRows * kBlockRows; row >= 0; row -= kBlockRows) {
    const int64_t rows = std::min<int64_t>(run.count - row, kBlockRows);
    RowSums(At<const T>(run, kX, row), run.stride[kX], rows, leaves, sums);
    for (int64_t i = 0; i < rows; ++i) call.shard->StorePartial(run.first + row + i, sums[i], 0.0f);
  }
}

template <class T>
struct RowOf<Operation::k_forward_partial, Source::k_plain, Sink::k_sum, T, None, float> {
  static constexpr Kernel kRun = TunedForwardPartial<T>;
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_PARTIAL_INL_H_
