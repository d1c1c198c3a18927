// Which loops a call on a CPU takes. A choice changes the speed and never the bits.
#pragma once

#include <cstdint>

#include "call/call.h"
#include "table/kernels.h"

namespace isonorm {

// The longest row of which a fused loop keeps a copy, in bytes of its own type; and in columns where that is f32, as the weight
// often is.
constexpr int64_t kMostBuffered = 64 << 10, kMostColumns = 8 << 10;

// The first row of kernels.inc that fits the call and that the target has; kKernels if none does.
int ChooseKernel(const Target& target, Operation operation, const Call& call);

// Whether LayerNorm's loops read vectors as they lie, so that rows may have any width: backward a weight in f32, but not beside
// bf16, which has it in the order of pairs; forward weight and bias of x's type, which is not f16, or none. Without an offset.
bool WeightIsInPlace(const Call& call);
bool ReadsAffineInPlace(const Call& call);

// Whether to look for a weight that is NaN or infinite before a call that takes tuned loops, so that they need not look for NaN
// in what they write.
bool PaysToLookAtWeight(Operation operation, const Call& call);

}  // namespace isonorm
