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

// The files of tuned loops: each row of the table belongs to one, and each has a table below and a line in targets.cc.
enum class TunedFile { kForwardF32, kForwardBf16, kForwardF16, kFused, kBackwardF32, kBackwardBf16, kBackwardF16, kCount };

extern const AddKernels AddGeneralF32Table[kTargetTableSize];
extern const AddKernels AddGeneralF64Table[kTargetTableSize];
extern const AddKernels AddDoubleBackwardTable[kTargetTableSize];
extern const AddKernels AddForwardF32Table[kTargetTableSize];
extern const AddKernels AddForwardBf16Table[kTargetTableSize];
extern const AddKernels AddForwardF16Table[kTargetTableSize];
extern const AddKernels AddFusedTable[kTargetTableSize];
extern const AddKernels AddBackwardF32Table[kTargetTableSize];
extern const AddKernels AddBackwardBf16Table[kTargetTableSize];
extern const AddKernels AddBackwardF16Table[kTargetTableSize];

}  // namespace isonorm
