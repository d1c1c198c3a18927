// General kernels for f64 data.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/general/f64.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/general/forward-inl.h"
#include "cpu/general/kernels-inl.h"
#include "cpu/target_table.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

namespace {

void Forward(const Call& call, const Run& run, const ColumnSums&) { ForwardGroups<double>(call, run); }
void Backward(const Call& call, const Run& run, const ColumnSums& sums) { BackwardGroups<double>(call, run, sums); }
void ForwardPartial(const Call& call, const Run& run, const ColumnSums&) { ForwardPartialRows<double>(call, run); }
void BackwardPartial(const Call& call, const Run& run, const ColumnSums&) { BackwardPartialRows<double>(call, run); }
void Rms(const Call& call, const Run& run, const ColumnSums&) { RmsRows<double>(call, run); }
void RmsBackward(const Call& call, const Run& run, const ColumnSums&) { RmsBackwardRows<double>(call, run); }
void RmsPenalty(const Call& call, const Run& run, const ColumnSums&) { RmsPenaltyRows<double>(call, run); }

}  // namespace

void AddGeneralF64(Target& target) {
  target.kernels[k_forward_any_any_f64_f64_f64] = Forward;
  target.kernels[k_backward_any_any_f64_f64_f64] = Backward;
  target.kernels[k_forward_partial_any_sum_f64_none_f64] = ForwardPartial;
  target.kernels[k_backward_partial_any_sum_f64_f64_f64] = BackwardPartial;
  target.kernels[k_rms_plain_rms_f64_none_f64] = Rms;
  target.kernels[k_rms_backward_plain_cast_f64_none_f64] = RmsBackward;
  target.kernels[k_rms_penalty_plain_cast_f64_none_f64] = RmsPenalty;
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace isonorm {
ISONORM_EXPORT_KERNELS(AddGeneralF64);
}  // namespace isonorm
#endif
