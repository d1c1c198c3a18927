// Tuned loops with a part of their own, for all types of x.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/tuned/fused.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/tuned/gated-inl.h"
#include "cpu/tuned/gated_backward-inl.h"
#include "cpu/tuned/quantize_rows-inl.h"
#include "cpu/tuned/residual-inl.h"
#include "cpu/target_table.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

void AddFused(Target& target) { EnterRows<TunedFile::kFused>(target); }

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace isonorm {
ISONORM_EXPORT_KERNELS(AddFused);
}  // namespace isonorm
#endif
