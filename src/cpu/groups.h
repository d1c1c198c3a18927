// Calls of groups by loops that know whole rows alone.
#pragma once

#include "call/call.h"
#include "table/kernels.h"

namespace isonorm {

// Where a vector of the call begins for a group; null where it is not given.
inline const void* EntryOf(const Call& call, InputVector vector, int64_t group) {
  const bool weight = vector == kWeight;
  const auto* data = static_cast<const char*>(weight ? call.weight : call.bias);
  const Type type = weight ? call.weight_type : call.bias_type;
  return data == nullptr ? nullptr : data + call.At(vector, group, 0) * static_cast<int64_t>(SizeOf(type));
}

// The rows of a run, one group of some rows after the other: to the kernel each is a call of rows as wide as a group.
void RunGroups(const Call& call, Kernel kernel, const Run& run, const ColumnSums& sums);

}  // namespace isonorm
