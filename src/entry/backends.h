// The backends of this process: which exist, and which is chosen.
#pragma once

#include <cstddef>

#include "call/call.h"
#include "table/backend.h"

namespace isonorm {

// Of host memory, one for each target that is usable on this CPU, best first, "reference" last.
size_t BackendCount();
const Backend& BackendAt(size_t index);

// The backend for the tensors of a call: that of the chosen target, after its self-test. A status and message if the target was asked
// for by a name that is absent, or if it computed other bits than the specification.
isonorm_status FindBackend(const Call& call, const Backend** backend);
inline isonorm_status FindBackend(const Chain& chain, const Backend** backend) { return FindBackend(chain.calls[0], backend); }

const char* ChosenBackendName();
isonorm_status ChooseBackend(const char* name);

}  // namespace isonorm
