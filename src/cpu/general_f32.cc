// General kernels for f32, bf16 and f16 data, and the name of the target.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/general_f32.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/general-inl.h"
#include "cpu/general_kernels-inl.h"
#include "cpu/target_table.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

void GeneralForward(const Call& call, const Run& run, const ColumnSums&) { ForwardGroups<float>(call, run); }
void GeneralBackward(const Call& call, const Run& run, const ColumnSums& sums) { BackwardGroups<float>(call, run, sums); }

namespace {

void Rms(const Call& call, const Run& run, const ColumnSums&) { RmsRows<float>(call, run); }
void RmsBackward(const Call& call, const Run& run, const ColumnSums&) { RmsBackwardRows<float>(call, run); }
void RmsPenalty(const Call& call, const Run& run, const ColumnSums&) { RmsPenaltyRows<float>(call, run); }

template <class Bits>
Bits LargestMagnitude(const void* data, int64_t count) {
  constexpr Bits kMagnitude = static_cast<Bits>(~Bits{0}) >> 1;
  const auto* p = static_cast<const Bits*>(data);
  Bits largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<Bits>(p[i] & kMagnitude));
  return largest;
}

// No exponent of all ones: an integer question, so that it disturbs no floating-point flag.
bool AllFinite(const void* data, Type type, int64_t count) {
  if (type == Type::kF32) return LargestMagnitude<uint32_t>(data, count) < 0x7F800000u;
  return LargestMagnitude<uint16_t>(data, count) < (type == Type::kBF16 ? 0x7F80u : 0x7C00u);
}

}  // namespace

void AddGeneralF32(Backend& backend) {
  backend.name = hwy::TargetName(HWY_TARGET);
  backend.all_finite = AllFinite;
  backend.kernels[k_forward_any_any_any_any_any] = GeneralForward;
  backend.kernels[k_backward_any_any_any_any_any] = GeneralBackward;
  backend.kernels[k_rms_plain_rms_any_none_f32] = Rms;
  backend.kernels[k_rms_backward_plain_cast_any_none_any] = RmsBackward;
  backend.kernels[k_rms_penalty_plain_cast_any_none_any] = RmsPenalty;
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace isonorm {
ISONORM_EXPORT_KERNELS(AddGeneralF32);
}  // namespace isonorm
#endif
