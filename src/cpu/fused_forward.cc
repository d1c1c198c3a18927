// Tuned fused forward loops for all types of x: one for each row of kernels.inc that says so.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/fused_forward.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/residual-inl.h"
#include "cpu/target_table.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

void AddFused([[maybe_unused]] Backend& backend) {
#if ISONORM_TUNED_LOOPS
  using namespace storage;  // NOLINT(build/namespaces)
#define ISONORM_TUNED(operation, x, weight, out)
#define ISONORM_KERNEL(operation, source, sink, x, weight, out)
#define ISONORM_FUSED(source, sink, x, weight, out) \
  backend.kernels[k_forward_##source##_##sink##_##x##_##weight##_##out] = ResidualForward<x, weight>;
#include "kernels.inc"
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace isonorm {
ISONORM_EXPORT_KERNELS(AddFused);
}  // namespace isonorm
#endif
