// The specification (docs/numerics.md) as slow, clear scalar code: the target "reference", which every other is compared with.
#pragma once

#include "table/kernels.h"

namespace isonorm {

const Backend& ReferenceBackend();

namespace reference {
void AddDoubleBackward(Backend& backend);  // in reference_double_backward.cc
}

}  // namespace isonorm
