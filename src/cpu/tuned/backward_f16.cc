// Tuned backward loops for x in f16: those of the rows of kernels.inc that FileOf() gives this file.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/tuned/backward_f16.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/target_table.h"
#include "cpu/tuned/backward-inl.h"
#include "cpu/tuned/gradient_partial-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

void AddBackwardF16(Target& target) { EnterRows<TunedFile::kBackwardF16>(target); }

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace isonorm {
ISONORM_EXPORT_KERNELS(AddBackwardF16);
}  // namespace isonorm
#endif
