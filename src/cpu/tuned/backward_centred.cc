// Tuned backward loops of LayerNorm, for all types of x.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/tuned/backward_centred.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/target_table.h"
#include "cpu/tuned/centred_backward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

void AddBackwardCentred(Target& target) { EnterRows<TunedFile::kBackwardCentred>(target); }

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace isonorm {
ISONORM_EXPORT_KERNELS(AddBackwardCentred);
}  // namespace isonorm
#endif
