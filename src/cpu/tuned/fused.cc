// Tuned fused loops for all types of x: one for each row of kernels.inc that says so.
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

#if ISONORM_TUNED_LOOPS
namespace {

template <class T>
void GatedForward(const Call& call, const Run& run, const ColumnSums& sums) {
  call.gate == Gate::kBefore ? GateBeforeForward<T>(call, run, sums) : GateAfterForward<T>(call, run, sums);
}
template <class T>
void EitherGateBackward(const Call& call, const Run& run, const ColumnSums& sums) {
  call.gate == Gate::kBefore ? GatedBackward<T, true>(call, run, sums) : GatedBackward<T, false>(call, run, sums);
}

enum class Parts { k_residual_cast, k_plain_quantize, k_plain_gate };

template <Operation kOperation, Parts kParts, class Tx, class Tw>
void Add([[maybe_unused]] Kernel& kernel) {
  if constexpr (kParts == Parts::k_residual_cast) {
    kernel = ResidualForward<Tx, Tw>;
  } else if constexpr (kParts == Parts::k_plain_quantize) {
    kernel = QuantizedForward<Tx>;
  } else {
    kernel = kOperation == Operation::k_forward ? GatedForward<Tx> : EitherGateBackward<Tx>;
  }
}

}  // namespace
#endif

void AddFused([[maybe_unused]] Target& target) {
#if ISONORM_TUNED_LOOPS
  using any = None;
  using namespace storage;  // NOLINT(build/namespaces)
#define ISONORM_TUNED(operation, x, weight, out)
#define ISONORM_KERNEL(operation, source, sink, x, weight, out)
#define ISONORM_FUSED(operation, source, sink, x, weight, out)          \
  Add<Operation::k_##operation, Parts::k_##source##_##sink, x, weight>( \
      target.kernels[k_##operation##_##source##_##sink##_##x##_##weight##_##out]);
#include "table/kernels.inc"
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
