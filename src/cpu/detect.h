// What cpuid tells. Which of Highway's targets this CPU and operating system can run. Highway has the same in libhwy, which
// would be a shared library that every user of ours must have; a test compares the two.
#pragma once

#include <cstdint>

#include "cpu/plan.h"

namespace isonorm {

// Bits as Highway's HWY_AVX2 and so on, among those that were compiled.
int64_t DetectTargets();

// As AMD counts: the extended family added, the extended model in front.
Processor DetectProcessor();

}  // namespace isonorm
