// Double backward of all storage types.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/general/double_backward.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/general/double_backward-inl.h"
#include "cpu/target_table.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

void AddDoubleBackward(Target& target) {
  target.kernels[k_double_backward_plain_cast_any_any_any] = DoubleBackwardRows<float>;
  target.kernels[k_double_backward_plain_cast_f64_f64_f64] = DoubleBackwardRows<double>;
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace isonorm {
ISONORM_EXPORT_KERNELS(AddDoubleBackward);
}  // namespace isonorm
#endif
