#include "cpu/choose.h"

#include <cmath>
#include <limits>

namespace isonorm {
namespace {

// Narrower groups take longer one by one than in the general path.
constexpr int64_t kLeastGroup = 64;

// Groups are rows of their own to the tuned loops (RunGroups), unless something is found out for a whole row.
bool FitsGroups(const Call& call) {
  return call.groups == 1 || (call.group_cols >= kLeastGroup && !call.quantizer.on && !call.rope.on && call.shard == nullptr);
}

// No tuned loop has any of these; but those of LayerNorm have a bias, and statistics of any type.
bool HasMore(const Call& call) {
  if (!FitsGroups(call) || call.window != call.group_cols || call.has(kDresidual) || call.dbias != nullptr) return true;
  if (call.norm.centres()) return false;
  return call.bias_type != Type::kNone || (call.has(kRstd) && call.type[kRstd] != Type::kF32);
}

// Whether x * rstd is rounded as tuned loops do.
bool RoundsAsTuned(const Call& call) {
  // The loops round to the type that has 16 bits among x's and the weight's; to x's if both have.
  if (call.scaled_type == Type::kNone || call.scaled_type == call.type[kX]) return true;
  return call.scaled_type == call.weight_type && SizeOf(call.type[kX]) == 4;
}

// All of a head of a multiple of 64 columns is rotated, and x * rstd is rounded only where what leaves the norm is.
bool FitsTunedRope(const Call& call) {
  if (HasMore(call) || call.norm.centres() || call.quantizer.on || call.has(kResidual) || call.gate != Gate::kNone)
    return false;
  if (call.cols % 64 != 0 || 2 * call.rope.half != call.cols) return false;
  return call.scaled_type == Type::kNone || call.scaled_type == call.rope.rounded_to;
}

// The row for a call that has one more part than x, weight and y; kKernels where no loop has it.
int FindFused(Operation operation, const Call& call, Type out) {
  const Type x = call.type[kX];
  const bool residual = call.has(kResidual), quantizes = call.quantizer.on, gated = call.gate != Gate::kNone;
  if (residual + quantizes + gated != 1 || call.group_cols * static_cast<int64_t>(SizeOf(x)) > kMostBuffered) return kKernels;
  if (residual && (call.type[kResidual] != x || (SizeOf(x) == 2 && call.sum_type != x))) return kKernels;
  const bool in_f32 = !residual || call.weight_type != x || call.weight_offset != 0;
  if (in_f32 && call.group_cols > kMostColumns) return kKernels;
  if (gated && call.type[kGate] != x) return kKernels;
  // Least scales have a finite reciprocal; a static one that has none makes NaN of 0, for which the loops do not look.
  const Quantizer& quantizer = call.quantizer;
  if (quantizer.rounded_to != Type::kNone || !(quantizer.multiplier <= std::numeric_limits<float>::max())) return kKernels;
  if (!residual && call.scaled_type != Type::kNone && call.scaled_type != x) return kKernels;
  if (residual) return FindRow(operation, Source::k_residual, Sink::k_cast, x, call.weight_type, out);
  const Source source = call.gate == Gate::kBefore ? Source::k_gate : Source::k_plain;
  const Sink sink = quantizes ? Sink::k_quantize : call.gate == Gate::kAfter ? Sink::k_gate : Sink::k_cast;
  return FindRow(operation, source, sink, x, Type::kNone, out);
}

// The rows of LayerNorm; kKernels where no loop has the call.
int FindCentred(const Call& call, Type out) {
  if (call.has(kResidual) || call.quantizer.on || call.gate != Gate::kNone) return kKernels;
  const Type x = call.type[kX];
  if (call.scaled_type != Type::kNone && call.scaled_type != x) return kKernels;
  if (call.group_cols > kMostColumns && !ReadsAffineInPlace(call)) return kKernels;
  return FindRow(Operation::k_forward, Source::k_centred, Sink::k_cast, x, Type::kNone, out);
}
// Saved statistics may be of any type.
int FindCentredBackward(const Call& call, Type out) {
  if (!FitsGroups(call) || call.shard != nullptr || call.has(kResidual) || call.has(kDresidual)) return kKernels;
  if (call.gate != Gate::kNone || (!WeightIsInPlace(call) && call.group_cols > kMostColumns)) return kKernels;
  if (call.scaled_type != Type::kNone && call.scaled_type != call.type[kX]) return kKernels;
  return FindRow(Operation::k_backward, Source::k_centred, Sink::k_cast, call.type[kX], Type::kNone, out);
}

// The first sums of ranks whose rows are plain: whatever follows the norm, they do not see it.
int FindForwardPartial(const Call& call) {
  const bool plain = !call.norm.centres() && !call.has(kResidual) && call.gate != Gate::kBefore;
  if (!plain || HasMore(call) || call.shard->round != Round::kSquares) return kKernels;
  return FindRow(Operation::k_forward_partial, Source::k_plain, Sink::k_sum, call.type[kX], Type::kNone, Type::kF32);
}
// Their dot products, which see no rounding.
int FindBackwardPartial(const Call& call) {
  const bool plain = !call.norm.centres() && !call.has(kResidual) && call.gate == Gate::kNone;
  if (!plain || HasMore(call) || call.type[kDy] != call.type[kX]) return kKernels;
  return FindRow(Operation::k_backward_partial, Source::k_plain, Sink::k_sum, call.type[kX], call.weight_type, Type::kF32);
}

// The tuned row for a usual call of RMSNorm, or for any other; kKernels where the table has none.
int FindUsual(const Call& call) {
  if (!RoundsAsTuned(call)) return kKernels;
  return FindRow(Operation::k_forward, Source::k_plain, Sink::k_cast, call.type[kX], call.weight_type, call.type[kY]);
}
[[gnu::noinline]] int FindTuned(Operation operation, const Call& call) {
  if (call.repeated != 0) return kKernels;  // they read every element
  if (operation == Operation::k_forward_partial) return FindForwardPartial(call);
  if (operation == Operation::k_backward_partial) return FindBackwardPartial(call);
  const bool forward = operation == Operation::k_forward;
  if (forward ? !call.has(kY) : operation != Operation::k_backward) return kKernels;
  const Type x = call.type[kX], out = call.type[forward ? kY : kDy];
  if (!forward && call.has(kDx) && call.type[kDx] != out) return kKernels;
  if (call.rope.on) {
    return forward && FitsTunedRope(call) ? FindRow(operation, Source::k_plain, Sink::k_rope, x, call.weight_type, out)
                                          : kKernels;
  }
  const bool centres = call.norm.centres();
  if (centres && !forward) return FindCentredBackward(call, out);
  if (HasMore(call) || !RoundsAsTuned(call)) return kKernels;
  if (centres) return FindCentred(call, out);
  const bool fused = call.has(kResidual) || call.quantizer.on || call.gate != Gate::kNone;
  return fused ? FindFused(operation, call, out) : FindRow(operation, Source::k_plain, Sink::k_cast, x, call.weight_type, out);
}

}  // namespace

int ChooseKernel(const Target& target, Operation operation, const Call& call) {
  const int tuned = call.usual && !call.norm.centres() ? FindUsual(call) : FindTuned(operation, call);
  if (tuned != kKernels && target.kernels[tuned] != nullptr) return tuned;
  const int general = FindGeneralRow(operation, call.wide);
  return target.kernels[general] != nullptr ? general : kKernels;
}

bool WeightIsInPlace(const Call& call) {
  return call.weight_type == Type::kF32 && call.weight_offset == 0 && call.type[kX] != Type::kBF16;
}

bool ReadsAffineInPlace(const Call& call) {
  const Type x = call.type[kX];
  const auto fits = [x](Type type) { return type == Type::kNone || (type == x && x != Type::kF16); };
  return fits(call.weight_type) && fits(call.bias_type) && (call.weight_offset == 0 || call.weight_type == Type::kNone);
}

// A call of few rows finds out while it writes the first one, which costs next to nothing; it would cost several short rows,
// which are written together, more than a look.
bool PaysToLookAtWeight(Operation operation, const Call& call) {
  if (call.rows < (call.group_cols <= 1024 ? 2 : 16)) return false;
  if (operation != Operation::k_forward) return false;  // no loop that wants to know
  // A finite weight plus a smaller offset rounds to a finite sum.
  return std::fabs(call.weight_offset) <= 0x1p100;
}

}  // namespace isonorm
