// Sizes at which speed choices change, and the plan for rows from memory. They never change a result. Read once from the
// environment, so that a test or a user can force a choice: ISONORM_TASK_BYTES, ISONORM_STREAM_BYTES, ISONORM_PLAN.
#pragma once

#include <cstdint>

#include "cpu/plan.h"

namespace isonorm {

int64_t TaskBytes();    // a thread more for each of these bytes that a call reads and writes
int64_t StreamBytes();  // from here on outputs bypass the cache
const Plan& CurrentPlan();

}  // namespace isonorm
