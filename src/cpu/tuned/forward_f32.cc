// Tuned forward loops for x in f32: those of the rows of kernels.inc that FileOf() gives this file.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/tuned/forward_f32.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/target_table.h"
#include "cpu/tuned/forward-inl.h"
#include "cpu/tuned/partial-inl.h"
#include "cpu/tuned/rope-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

void AddForwardF32(Target& target) { EnterRows<TunedFile::kForwardF32>(target); }

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace isonorm {
ISONORM_EXPORT_KERNELS(AddForwardF32);
}  // namespace isonorm
#endif
