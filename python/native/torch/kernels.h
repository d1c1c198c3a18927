// The kernels of the operators, as torch calls them: arguments and results on the stack. library.cc has their schemas.
#pragma once

#include "shim.h"

namespace isonorm_torch {

using Kernel = void(StableIValue* stack, std::uint64_t arguments, std::uint64_t results);

// Torch 2.10: a stack holds what that version put there.
constexpr std::uint64_t kBuiltFor = 0x020a000000000000;

Kernel RmsNorm, RmsNormBackward, Forward, Quantized, QkNorm, Backward, BackwardParts, QkNormBackward, DoubleBackward, Rms,
    RmsBackward, RmsPenalty, ShardedForward, ShardedForwardFinish, ShardedBackward, ShardedBackwardFinish, MarkMessage,
    CheckMessage, CombineGradients;

}  // namespace isonorm_torch
