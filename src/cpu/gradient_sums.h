// dweight and dbias: sums over rows, in the order of docs/numerics.md §4. Blocks of 32 rows are summed from top to bottom by
// the kernel; block values combine pairwise, then pairs of pairs; one without a partner passes up unchanged. Threads take
// whole aligned subtrees, so the sum does not know how many there are.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "call/call.h"
#include "table/kernels.h"

namespace isonorm {

inline bool WantsSums(const Call& call) { return call.dweight != nullptr || call.dbias != nullptr; }

// Bytes that RunWithSums needs in call.workspace, 0 if the call wants neither sum; false where int64_t cannot count them.
bool GradientWorkspace(const Call& call, size_t* bytes);

// Runs the backward kernel, one of the target's, over all rows and stores dweight and dbias.
[[nodiscard]] isonorm_status RunWithSums(const Call& call, const Target& target, Kernel kernel);

// The same in pieces, for a call that shares its tasks with others. Tasks 0 to SumTasks(call) - 1, each at most once, until all
// that were begun have returned; they share `next`, which begins at 0. Then the gradients are stored.
int SumTasks(const Call& call);
void RunSumTask(const Call& call, const Target& target, Kernel kernel, int64_t task, std::atomic<int64_t>* next);
void StoreSums(const Call& call, const Target& target, Kernel kernel);

}  // namespace isonorm
