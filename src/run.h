// Runs a kernel over the rows of a call: cuts rows into runs of constant strides and, where the call has an executor and
// enough work, into tasks. No result depends on how rows are cut.
#pragma once

#include <cstdint>

#include "call.h"
#include "kernels.h"

namespace isonorm {

// Rows [begin, end) of the call, run by run, on the calling thread.
void RunRows(const Call& call, Kernel kernel, int64_t begin, int64_t end, const ColumnSums& sums);

// All rows, where each row stands alone: forward, backward without sums, the vector functions.
void RunAllRows(const Call& call, Kernel kernel);

// How many tasks the call is worth: 1 means the calling thread does it all.
int TaskCount(const Call& call);

// Calls task(context, i) for every i below `count` on the executor's threads, whose floating-point environment is their own.
void RunTasks(const Call& call, int count, void (*task)(void* context, int64_t index), void* context);

// Bytes that the call reads and writes in row tensors, cut at a large number.
int64_t RowBytes(const Call& call);

}  // namespace isonorm
