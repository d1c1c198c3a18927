// General kernels for f32, bf16 and f16 data, and the name of the target.
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/general/f32.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "cpu/general/general-inl.h"
#include "cpu/general/forward-inl.h"
#include "cpu/general/kernels-inl.h"
#include "cpu/target_table.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

void GeneralForward(const Call& call, const Run& run, const ColumnSums&) {
  if (call.quantizer.on) {
    QuantizeGroups<float>(call, run);
  } else {
    ForwardGroups<float>(call, run);
  }
}
void GeneralBackward(const Call& call, const Run& run, const ColumnSums& sums) { BackwardGroups<float>(call, run, sums); }
void GeneralBackwardPartial(const Call& call, const Run& run, const ColumnSums&) { BackwardPartialRows<float>(call, run); }

namespace {

void ForwardPartial(const Call& call, const Run& run, const ColumnSums&) { ForwardPartialRows<float>(call, run); }
void Rms(const Call& call, const Run& run, const ColumnSums&) { RmsRows<float>(call, run); }
void RmsBackward(const Call& call, const Run& run, const ColumnSums&) { RmsBackwardRows<float>(call, run); }
void RmsPenalty(const Call& call, const Run& run, const ColumnSums&) { RmsPenaltyRows<float>(call, run); }

// Whether every magnitude is below that of infinity, as integers: no floating-point flag is disturbed. Four maxima, so that
// none waits for the one before it: a call of one row waits for all of this.
template <class Bits>
bool AllBelow(Bits infinity, const void* data, int64_t count) {
  const Tag<Bits> d;
  const size_t width = hn::Lanes(d), size = static_cast<size_t>(count);
  const auto* p = static_cast<const Bits*>(data);
  const auto magnitude = hn::Set(d, std::numeric_limits<Bits>::max());
  auto m0 = hn::Zero(d), m1 = m0, m2 = m0, m3 = m0;
  size_t i = 0;
  for (; i + 4 * width <= size; i += 4 * width) {
    m0 = hn::Max(m0, hn::And(LoadAny(d, p + i), magnitude));
    m1 = hn::Max(m1, hn::And(LoadAny(d, p + i + width), magnitude));
    m2 = hn::Max(m2, hn::And(LoadAny(d, p + i + 2 * width), magnitude));
    m3 = hn::Max(m3, hn::And(LoadAny(d, p + i + 3 * width), magnitude));
  }
  for (; i < size; i += width) {
    const size_t rest = size - i;
    m0 = hn::Max(m0, hn::And(rest >= width ? LoadAny(d, p + i) : LoadPart(d, p + i, rest), magnitude));
  }
  return hn::AllTrue(d, hn::Lt(hn::Max(hn::Max(m0, m1), hn::Max(m2, m3)), hn::Set(d, infinity)));
}

bool AllFinite(const void* data, Type type, int64_t count) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
#define ISONORM_CASE(name, kind, storage)                                          \
  if (type == Type::kind) {                                                        \
    using Bits = hn::TFromD<hn::RebindToSigned<Tag<Raw<storage>>>>;                \
    return AllBelow(std::bit_cast<Bits>(Narrow<storage>(kInfinity)), data, count); \
  }
  ISONORM_NARROW_TYPES(ISONORM_CASE)
#undef ISONORM_CASE
  return false;
}

}  // namespace

void AddGeneralF32(Target& target) {
  target.name = hwy::TargetName(HWY_TARGET);
  target.all_finite = AllFinite;
  target.kernels[k_forward_any_any_any_any_any] = GeneralForward;
  target.kernels[k_backward_any_any_any_any_any] = GeneralBackward;
  target.kernels[k_forward_partial_any_sum_any_none_f32] = ForwardPartial;
  target.kernels[k_backward_partial_any_sum_any_any_f32] = GeneralBackwardPartial;
  target.kernels[k_rms_plain_rms_any_none_f32] = Rms;
  target.kernels[k_rms_backward_plain_cast_any_none_any] = RmsBackward;
  target.kernels[k_rms_penalty_plain_cast_any_none_any] = RmsPenalty;
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace isonorm {
ISONORM_EXPORT_KERNELS(AddGeneralF32);
}  // namespace isonorm
#endif
