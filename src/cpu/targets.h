// The instruction sets that Highway compiled our kernels for and that this CPU and operating system have.
#pragma once

#include <cstddef>

#include "table/kernels.h"

namespace isonorm {

size_t CpuBackendCount();
const Backend& CpuBackendAt(size_t index);  // best first

}  // namespace isonorm
