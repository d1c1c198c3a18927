// The instruction sets that Highway compiled our kernels for and that this CPU and operating system have.
#pragma once

#include <cstddef>

#include "table/kernels.h"

namespace isonorm {

constexpr size_t kMostCpuTargets = 63;

size_t CpuTargetCount();
const Target& CpuTargetAt(size_t index);  // best first

}  // namespace isonorm
