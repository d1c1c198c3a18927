// What a rank sends in backward of plain rows whose columns several ranks share: the dot product of its own.
#if defined(ISONORM_CPU_TUNED_GRADIENT_PARTIAL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_GRADIENT_PARTIAL_INL_H_
#undef ISONORM_CPU_TUNED_GRADIENT_PARTIAL_INL_H_
#else
#define ISONORM_CPU_TUNED_GRADIENT_PARTIAL_INL_H_
#endif

#include <algorithm>

#include "cpu/general/general-inl.h"
#include "cpu/tuned/gradient_dot-inl.h"
#include "cpu/tuned/row_loop-inl.h"
#include "cpu/tuned/rows-inl.h"
#include "numbers/shard.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// dy has the type of x.
template <class T, class Tw>
void TunedBackwardPartial(const Call& call, const Run& run, const ColumnSums&) {
  const RowLeaves leaves(LeavesOfShard(call.cols, call.shard->ranks));
  const TameRange range(call.norm);
  const auto* weight = static_cast<const Tw*>(call.weight);
  const float offset = call.weight_offset == 0 ? -0.0f : static_cast<float>(call.weight_offset);
  HWY_ALIGN float sums[kBlockRows] = {};
  HWY_ALIGN float r[kBlockRows];
  // From the last row to the first, as forward does.
  for (int64_t first = (run.count - 1) / kBlockRows * kBlockRows; first >= 0; first -= kBlockRows) {
    const int64_t rows = std::min<int64_t>(run.count - first, kBlockRows);
    SharedSums(call, run, first, rows, sums);
    RstdOfSums(sums, rows, call.norm, r);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t row = first + i;
      const GradientProducts<kLayoutOf<T, T>, T, Tw, T> products = {At<const T>(run, kX, row), weight,
                                                                    At<const T>(run, kDy, row), r[i], offset};
      const float dot = GradientDot<T, Tw, T>(products, leaves, Nothing());
      if (HWY_LIKELY(range.Holds(sums[i]) && std::fabs(dot) <= std::numeric_limits<float>::max())) {
        call.shard->StorePartial(run.first + row, dot, 0.0f);
      } else {
        char* data[kRowTensors];
        GeneralBackwardPartial(call, OneRow(run, row, data), ColumnSums{});
      }
    }
  }
}

template <class T, class Tw>
struct RowOf<Operation::k_backward_partial, Source::k_plain, Sink::k_sum, T, Tw, float> {
  static constexpr Kernel kRun = TunedBackwardPartial<T, Tw>;
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_GRADIENT_PARTIAL_INL_H_
