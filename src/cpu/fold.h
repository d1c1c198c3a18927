// Between two rounds of ranks that share rows: all ranks' sums become the rows' statistics, and show whether one is missing.
#pragma once

#include "call/call.h"

namespace isonorm {

// Adds what was gathered to the statistics of all rows. True if outputs can be written now, else *next is what to exchange
// next. Both depend on nothing but what is gathered, so that all ranks agree.
bool FoldGathered(const Call& call, Round* next);

}  // namespace isonorm
