// What entry points share: the wall that exceptions do not pass, and the run of a checked call.
#pragma once

#include "entry/backends.h"
#include "call/call.h"
#include "call/error.h"
#include "table/kernels.h"

namespace isonorm {

// No exception crosses the C ABI: an executor of the caller's may throw.
template <class Body>
isonorm_status Guarded(Body body) noexcept {
  try {
    return body();
  } catch (...) {
    return Fail(ISONORM_ERROR_EXECUTOR, "executor.parallel_for threw an exception, but must return; outputs are incomplete.");
  }
}

// Finds the kernel, runs it, and remembers it for isonorm_last_kernel().
isonorm_status RunCall(const Backend& backend, Operation operation, Call& call);

}  // namespace isonorm
