// How a file that Highway compiles once per target offers its kernels: a function that enters them into a target, exported
// as a table with one entry for each target. Highway's own HWY_EXPORT would need libhwy at run time.
#pragma once

#include "hwy/highway.h"
#include "table/kernels.h"

namespace isonorm {

using AddKernels = void (*)(Target& target);

// In the order of HWY_CHOOSE_TARGET_LIST, the fallback target last; null for targets that were not compiled.
constexpr size_t kTargetTableSize = HWY_MAX_DYNAMIC_TARGETS + 1;

#define ISONORM_EXPORT_KERNELS(FUNCTION) \
  const AddKernels FUNCTION##Table[kTargetTableSize] = {HWY_CHOOSE_TARGET_LIST(FUNCTION), HWY_CHOOSE_FALLBACK(FUNCTION)}

// Every file of general loops, and of tuned ones: each row of the table belongs to one of these.
#define ISONORM_GENERAL_FILES(FILE) FILE(GeneralF32) FILE(GeneralF64) FILE(DoubleBackward)
#define ISONORM_TUNED_FILES(FILE) \
  FILE(ForwardF32)                \
  FILE(ForwardBf16)               \
  FILE(ForwardF16) FILE(ForwardCentred) FILE(Fused) FILE(BackwardF32) FILE(BackwardBf16) FILE(BackwardF16) FILE(BackwardCentred)

#define ISONORM_FILE(name) extern const AddKernels Add##name##Table[kTargetTableSize];
ISONORM_GENERAL_FILES(ISONORM_FILE)
ISONORM_TUNED_FILES(ISONORM_FILE)
#undef ISONORM_FILE

#define ISONORM_FILE(name) k##name,
enum class TunedFile { ISONORM_TUNED_FILES(ISONORM_FILE) kCount };
#undef ISONORM_FILE

}  // namespace isonorm
