// The specification (docs/numerics.md) as slow, clear scalar code: the target "reference", which every other is compared with.
#pragma once

#include "table/kernels.h"

namespace isonorm {

const Target& ReferenceTarget();

namespace reference {
void AddDoubleBackward(Target& target);  // in double_backward.cc
}

}  // namespace isonorm
