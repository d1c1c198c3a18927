// Tuned forward loops for x in bf16: those of the rows of kernels.inc that FileOf() gives this file.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/tuned/forward_bf16.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/target_table.h"
#include "cpu/tuned/forward-inl.h"
#include "cpu/tuned/partial-inl.h"
#include "cpu/tuned/rope-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

void AddForwardBf16(Target& target) { EnterRows<TunedFile::kForwardBf16>(target); }

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace isonorm {
ISONORM_EXPORT_KERNELS(AddForwardBf16);
}  // namespace isonorm
#endif
