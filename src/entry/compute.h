// What entry points share: a call is made, the backend of its device says which workspace it needs, and runs it.
#pragma once

#include <type_traits>

#include "call/builder.h"
#include "call/call.h"
#include "call/chain.h"
#include "call/error.h"
#include "cpu/fp_guard.h"
#include "entry/backends.h"
#include "table/backend.h"

namespace isonorm {

// What the thread's last computation ran: one object, for finding it takes a call in a shared library.
struct Last {
  const Backend* backend = nullptr;
  int kernel = kKernels;
};
extern constinit thread_local Last last;

// No exception crosses the C ABI: an executor of the caller's may throw.
template <class Body>
[[gnu::always_inline]] inline isonorm_status Guarded(Body body) noexcept {
  try {
    return body();
  } catch (...) {
    return Fail(ISONORM_ERROR_EXECUTOR, "executor.parallel_for threw an exception, but must return; outputs are incomplete.");
  }
}

// The workspace that was given, against what the backend needs. measured: where to put the bytes instead; null if it is to be
// used.
isonorm_status CheckWorkspace(const Backend& backend, Operation operation, CallBuilder& builder, size_t* measured);
isonorm_status CheckWorkspace(const Backend& backend, Operation operation, ChainBuilder& builder, size_t* measured);

// Checks a Call, or a Chain, by make(builder), and by what its backend says. Not inlined: the builder must not take stack from
// the run.
template <class Made, class Make>
[[gnu::noinline]] isonorm_status Check(Operation operation, Make make, Made* made, const Backend** backend,
                                       size_t* measured = nullptr) {
  std::conditional_t<std::is_same_v<Made, Chain>, ChainBuilder, CallBuilder> builder(made);
  isonorm_status status = make(builder);
  if (status == ISONORM_OK) status = FindBackend(builder.device(), builder.name(), backend);
  return status == ISONORM_OK ? CheckWorkspace(**backend, operation, builder, measured) : status;
}

inline isonorm_status RunChecked(const Backend& backend, Operation operation, Call& call) {
  int kernel = kKernels;
  const isonorm_status status = backend.Run(operation, call, &kernel);
  if (status == ISONORM_OK) last = {&backend, kernel};
  return status;
}
isonorm_status RunChecked(const Backend& backend, Operation operation, Chain& chain);

template <class Made = Call, class Make>
isonorm_status Compute(Operation operation, Make make) noexcept {
  return Guarded([&] {
    const FpGuard guard;  // also for what the check rounds
    Made made;
    const Backend* backend = nullptr;
    const isonorm_status status = Check(operation, make, &made, &backend);
    return status == ISONORM_OK ? RunChecked(*backend, operation, made) : status;
  });
}

template <class Made = Call, class Make>
isonorm_status Measure(Operation operation, Make make, size_t* bytes) noexcept {
  if (bytes == nullptr) return Fail(ISONORM_ERROR_NULL, "bytes is null, but must point to the result.");
  const FpGuard guard;
  Made made;
  const Backend* backend = nullptr;
  return Check(operation, make, &made, &backend, bytes);
}

}  // namespace isonorm
