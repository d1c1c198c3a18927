// The start-up self-test: golden rows through the backend of a target. A backend that computes other bits, because a compiler
// or a CPU deviates, is refused.
#pragma once

#include "table/backend.h"

namespace isonorm {

bool PassesSelfTest(const Backend& backend);

}  // namespace isonorm
