#include "cpu/groups.h"

#include <algorithm>

#include "cpu/run.h"

namespace isonorm {
namespace {

// Rows that share what a kernel prepares for a group, such as its weight in f32. Rows often lie a multiple of 4 KB apart, and
// the first-level cache holds eight lines that do: 16 rows take up to twice the time.
constexpr int64_t kRowsOfGroup = 8;

// What a call of one group's columns has in common with that of any other.
Call CallOfGroup(const Call& call) {
  Call one = call;
  one.by_group = false;
  one.groups = 1;
  one.cols = one.group_cols;
  one.bytes_beside += RowBytes(call) - RowBytes(one);  // whether to bypass the cache is a matter of the whole call
  return one;
}

void* SumsOf(void* sums, int64_t column) { return sums == nullptr ? nullptr : static_cast<float*>(sums) + column; }

}  // namespace

void RunGroups(const Call& call, Kernel kernel, const Run& run, const ColumnSums& sums) {
  Call one = CallOfGroup(call);
  for (int64_t row = 0; row < run.count; row += kRowsOfGroup) {
    for (int64_t group = 0; group < call.groups; ++group) {
      const int64_t column = group * call.group_cols;
      one.weight = EntryOf(call, kWeight, group);
      one.bias = EntryOf(call, kBias, group);
      char* data[kRowTensors];
      for (int t = 0; t < kRowTensors; ++t) {
        data[t] = run.data[t];
        if (data[t] == nullptr) continue;
        data[t] += row * run.stride[t] + (t < kPerRow ? column : group) * static_cast<int64_t>(SizeOf(call.type[t]));
      }
      kernel(one, {run.first + row, std::min(kRowsOfGroup, run.count - row), data, run.stride},
             {SumsOf(sums.dweight, column), SumsOf(sums.dbias, column)});
    }
  }
}

}  // namespace isonorm
