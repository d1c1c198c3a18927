// The backends of this process: which exist, and which is chosen.
#pragma once

#include <cstddef>

#include "table/kernels.h"

namespace isonorm {

// Usable on this CPU, best first, "reference" last.
size_t BackendCount();
const Backend& BackendAt(size_t index);

// The chosen backend after its self-test; null with status and message if it was asked for by a name that is absent, or if it
// computed other bits than the specification.
const Backend* ChosenBackend(isonorm_status* status);

const char* ChosenBackendName();
isonorm_status ChooseBackend(const char* name);

}  // namespace isonorm
