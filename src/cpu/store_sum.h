// The end of every sum over rows: one rounding to storage.
#pragma once

#include <cstdint>

#include "numbers/rounding.h"

namespace isonorm {

// Stores `sum`, or zeros if that is null, in elements first, first + 1, … of out, which may be where it lies; or adds it to
// what they hold. F is float or double.
template <class F>
void StoreSum(const F* sum, void* out, Type type, int64_t first, int64_t count, bool accumulate);

}  // namespace isonorm
