// The backends of this process: which exist, and which is chosen.
#pragma once

#include <cstddef>

#include "call/call.h"
#include "table/backend.h"

namespace isonorm {

// Of host memory, one for each target that is usable on this CPU, best first, "reference" last.
size_t BackendCount();
const Backend& BackendAt(size_t index);

// The backend for tensors on a device, of which one is called `name`. For host memory that of the chosen target, after its
// self-test; a status and message if the target was asked for by a name that is absent, or if it computed other bits than the
// specification.
isonorm_status FindBackend(isonorm_device device, const char* name, const Backend** backend);

// Every device of this type has the backend from now on, which outlives every call; null: none. Not for host memory.
constexpr int32_t kDeviceTypes = 32;
void SetBackendOf(int32_t device_type, const Backend* backend);

const char* ChosenBackendName();
isonorm_status ChooseBackend(const char* name);

}  // namespace isonorm
