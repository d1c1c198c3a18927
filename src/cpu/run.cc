#include "cpu/run.h"

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cstring>

#include "call/error.h"
#include "cpu/fp_guard.h"
#include "cpu/groups.h"
#include "numbers/order.h"
#include "cpu/tuning.h"

namespace isonorm {
namespace {

struct RowTask {
  const Call* call;
  Kernel kernel;
  int64_t chunk;
  std::atomic<int64_t> next{0};
};

// Chunks are claimed one by one, so that a thread that was held up does not hold up the call.
void RunRowTask(void* context, int64_t) {
  RowTask& task = *static_cast<RowTask*>(context);
  const FpGuard guard;
  for (;;) {
    const int64_t begin = task.next.fetch_add(task.chunk, std::memory_order_relaxed);
    if (begin >= task.call->rows) return;
    RunRows(*task.call, task.kernel, begin, std::min(begin + task.chunk, task.call->rows), ColumnSums{});
  }
}

// What an executor has done of a call. A task that is started twice, or that the call does not have, is not run: it would write
// where another does.
struct Watched {
  void (*task)(void* context, int64_t index);
  void* context;
  int64_t count;
  std::atomic<int64_t> done{0}, refused{0};
  std::atomic<uint64_t> started[kMostTasks / 64] = {};
};

void RunWatched(void* context, int64_t index) {
  Watched& job = *static_cast<Watched*>(context);
  const uint64_t bit = uint64_t{1} << (index & 63);
  if (index < 0 || index >= job.count || (job.started[index / 64].fetch_or(bit, std::memory_order_relaxed) & bit) != 0) {
    job.refused.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  job.task(job.context, index);
  job.done.fetch_add(1, std::memory_order_release);
}

}  // namespace

void RunLines(const Call& call, Kernel kernel, int64_t begin, int64_t end, const ColumnSums& sums) {
  const int inner = std::max(call.leading - 1, 0);
  const int64_t line = call.leading == 0 ? call.rows : call.shape[inner];
  char* data[kRowTensors];
  for (int64_t row = begin, count = 0; row < end; row += count) {
    const int64_t at = row % line;
    count = std::min(line - at, end - row);
    int64_t index[kMaxLeading];
    int64_t rest = row;
    for (int d = inner; d >= 0; --d) {
      index[d] = d == 0 ? rest : rest % call.shape[d];
      rest = d == 0 ? 0 : rest / call.shape[d];
    }
    for (int t = 0; t < kRowTensors; ++t) {
      data[t] = call.data[t];
      if (data[t] == nullptr) continue;
      for (int d = 0; d <= inner; ++d) data[t] += index[d] * call.stride[d][t];
    }
    const Run run = {row, count, data, call.stride[inner]};
    call.by_group ? RunGroups(call, kernel, run, sums) : kernel(call, run, sums);
  }
#if defined(__SSE2__)  // the loops of rotated heads, whose runs are short, leave it to this
  if (inner > 0 && call.rope.on) __builtin_ia32_sfence();
#endif
}

int64_t RowBytes(const Call& call) {
  int64_t per_element = 0;
  for (int t = 0; t < kRstd; ++t) per_element += call.has(RowTensor(t)) ? static_cast<int64_t>(SizeOf(call.type[t])) : 0;
  int64_t bytes = 0;
  if (__builtin_mul_overflow(call.rows, call.cols, &bytes) || __builtin_mul_overflow(bytes, per_element, &bytes)) {
    return INT64_MAX / 2;
  }
  return bytes;
}

bool WritesAlignedElements(const Call& call) {
  for (const RowTensor tensor : {kResidualOut, kY, kDx, kDgate}) {
    const size_t size = size_t{1} << Log2SizeOf(call.type[tensor]);  // never 0, as SizeOf() is of what has no type
    if (call.has(tensor) && reinterpret_cast<uintptr_t>(call.data[tensor]) % size != 0) return false;
  }
  return true;
}

int TaskCount(const Call& call) {
  if (call.concurrency() == 1) return 1;
  const int64_t worth = RowBytes(call) / std::max<int64_t>(TaskBytes(), 1);
  return static_cast<int>(std::clamp<int64_t>(std::min(worth, call.rows), 1, call.concurrency()));
}

isonorm_status RunTasks(const Call& call, int count, void (*task)(void* context, int64_t index), void* context) {
  if (count == 1) {
    task(context, 0);
    return ISONORM_OK;
  }
  Watched job{task, context, count};
  call.executor.parallel_for(call.executor.context, count, RunWatched, &job);
  const int64_t done = job.done.load(std::memory_order_acquire), refused = job.refused.load(std::memory_order_relaxed);
  if (done == count && refused == 0) return ISONORM_OK;
  return Fail(ISONORM_ERROR_EXECUTOR,
              "executor.parallel_for ran %" PRId64 " of %d tasks, and %" PRId64
              " that it must not run, but must run each once before it returns; outputs are incomplete.",
              done, count, refused);
}

isonorm_status RunRowTasks(const Call& call, Kernel kernel) {
  const int tasks = TaskCount(call);
  if (tasks == 1) {
    RunRows(call, kernel, 0, call.rows, ColumnSums{});
    return ISONORM_OK;
  }
  // Some chunks for each task, whole blocks of rows, so that kernels which batch rows seldom meet a remainder.
  const int64_t share = call.rows / (int64_t{tasks} * 8);
  RowTask task{&call, kernel, std::max<int64_t>(share >= 16 ? share / 16 * 16 : share, 1)};
  return RunTasks(call, tasks, RunRowTask, &task);
}

}  // namespace isonorm
