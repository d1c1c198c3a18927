// The general path of a target, for tuned loops that meet a row they do not handle. Defined in general_f32.cc.
#if defined(ISONORM_CPU_GENERAL_GENERAL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_GENERAL_GENERAL_INL_H_
#undef ISONORM_CPU_GENERAL_GENERAL_INL_H_
#else
#define ISONORM_CPU_GENERAL_GENERAL_INL_H_
#endif

#include "hwy/highway.h"
#include "table/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

void GeneralForward(const Call& call, const Run& run, const ColumnSums& sums);
void GeneralBackward(const Call& call, const Run& run, const ColumnSums& sums);
void GeneralBackwardPartial(const Call& call, const Run& run, const ColumnSums& sums);

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_GENERAL_GENERAL_INL_H_
