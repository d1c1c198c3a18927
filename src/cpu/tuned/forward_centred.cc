// Tuned forward loops of LayerNorm, for all types of x.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/tuned/forward_centred.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/target_table.h"
#include "cpu/tuned/centred_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

void AddForwardCentred(Target& target) { EnterRows<TunedFile::kForwardCentred>(target); }

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace isonorm {
ISONORM_EXPORT_KERNELS(AddForwardCentred);
}  // namespace isonorm
#endif
