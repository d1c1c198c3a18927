// Several calls that run together, such as q and k.
#pragma once

#include "call/chain.h"
#include "table/kernels.h"

namespace isonorm {

// All rows of all calls, with their sums, on the executor of the first; kernels[i] is that of calls[i].
[[nodiscard]] isonorm_status RunTogether(Chain& chain, const Target& target, const Kernel* kernels);

}  // namespace isonorm
