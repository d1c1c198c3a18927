// The start-up self-test: golden rows through a backend's kernels. A backend that computes other bits, because a compiler or
// a CPU deviates, is refused.
#pragma once

#include "table/kernels.h"

namespace isonorm {

bool PassesSelfTest(const Backend& backend);

}  // namespace isonorm
