// Runs a kernel over the rows of a call: cuts rows into runs of constant strides and, where the call has an executor and
// enough work, into tasks. No result depends on how rows are cut.
#pragma once

#include <cstdint>

#include "call/call.h"
#include "table/kernels.h"

namespace isonorm {

// RunRows in general: one run for each line along the innermost dimension.
void RunLines(const Call& call, Kernel kernel, int64_t begin, int64_t end, const ColumnSums& sums);

// Rows [begin, end) of the call, run by run, on the calling thread. Nothing is copied where one run from the first row on does
// it: a call for one short row would wait for that.
inline void RunRows(const Call& call, Kernel kernel, int64_t begin, int64_t end, const ColumnSums& sums) {
  if (begin == 0 && end > 0 && call.leading <= 1 && !call.by_group) {
    kernel(call, {0, end, call.data, call.stride[0]}, sums);
  } else {
    RunLines(call, kernel, begin, end, sums);
  }
}

// All rows in tasks, where each row stands alone: forward, backward without sums, the vector functions.
[[nodiscard]] isonorm_status RunRowTasks(const Call& call, Kernel kernel);

[[nodiscard]] inline isonorm_status RunAllRows(const Call& call, Kernel kernel) {
  if (call.executor.parallel_for != nullptr && call.rows != 1) return RunRowTasks(call, kernel);
  RunRows(call, kernel, 0, call.rows, ColumnSums{});
  return ISONORM_OK;
}

// How many tasks the call is worth: 1 means the calling thread does it all.
int TaskCount(const Call& call);

// Calls task(context, i) for every i below `count` on the executor's threads, whose floating-point environment is their own. An
// error where the executor did not run each of them once.
[[nodiscard]] isonorm_status RunTasks(const Call& call, int count, void (*task)(void* context, int64_t index), void* context);

// Bytes that the call reads and writes in row tensors, cut at a large number.
int64_t RowBytes(const Call& call);

// Whether the rows that the call writes have each element at a multiple of its size, without which no line begins with one.
bool WritesAlignedElements(const Call& call);

}  // namespace isonorm
