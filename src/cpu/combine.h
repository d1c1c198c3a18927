// Gradients of runs of rows that were computed apart, combined in the tree of docs/numerics.md §4.
#pragma once

#include "call/call.h"

namespace isonorm {

// The rows of x, added up, go to dweight, or are added to it.
[[nodiscard]] isonorm_status CombineRows(const Call& call);

}  // namespace isonorm
