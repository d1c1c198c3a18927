#include "cpu/chain.h"

#include <algorithm>
#include <atomic>

#include "cpu/fp_guard.h"
#include "cpu/gradient_sums.h"
#include "cpu/run.h"

namespace isonorm {
namespace {

struct Part {
  const Call* call = nullptr;
  Kernel kernel = nullptr;
  int tasks = 0;                 // with sums
  int64_t chunk = 0;             // rows; without sums
  std::atomic<int64_t> next{0};  // with sums
};

struct Together {
  const Target* target = nullptr;
  int count = 0;
  std::atomic<int64_t> next{0};  // chunk of all parts without sums
  Part parts[kMaxChain];
};

// Bytes of all parts that a chunk moves: they stay in the second-level cache, where q leaves k beside it that was fetched too.
constexpr int64_t kChunkBytes = 256 << 10;

// Rows that belong together, such as the heads of a token.
int64_t UnitOf(const Call& call) {
  const int64_t rows = call.rope.on ? call.rope.rows_each : call.leading > 1 ? call.shape[call.leading - 1] : 1;
  return std::max<int64_t>(rows, 1);
}

// Rows of parts without sums by turns, then what the task has to do for the sums of the others.
void RunTask(void* context, int64_t task) {
  Together& all = *static_cast<Together*>(context);
  const FpGuard guard;
  for (bool more = true; more;) {
    more = false;
    const int64_t chunk = all.next.fetch_add(1, std::memory_order_relaxed);
    for (int i = 0; i < all.count; ++i) {
      const Part& part = all.parts[i];
      if (WantsSums(*part.call) || chunk > part.call->rows / part.chunk) continue;
      const int64_t begin = chunk * part.chunk, end = std::min(begin + part.chunk, part.call->rows);
      if (begin >= end) continue;
      RunRows(*part.call, part.kernel, begin, end, ColumnSums{});
      more = true;
    }
  }
  for (int i = 0; i < all.count; ++i) {
    Part& part = all.parts[i];
    if (WantsSums(*part.call) && task < part.tasks) RunSumTask(*part.call, *all.target, part.kernel, task, &part.next);
  }
}

}  // namespace

isonorm_status RunTogether(Chain& chain, const Target& target, const Kernel* kernels) {
  Together all;
  all.target = &target;
  all.count = chain.count;
  int64_t tasks = 0, bytes = 0;
  for (int i = 0; i < chain.count; ++i) {
    const Call& call = chain.calls[i];
    all.parts[i].call = &call;
    all.parts[i].kernel = kernels[i];
    all.parts[i].tasks = WantsSums(call) ? SumTasks(call) : TaskCount(call);
    tasks += all.parts[i].tasks;
    bytes += std::min(RowBytes(call), int64_t{INT64_MAX / (2 * kMaxChain)});
  }
  // What is too small for two tasks by itself leaves them to the others.
  tasks = std::min<int64_t>(tasks - (chain.count - 1), chain.calls[0].concurrency());
  const int64_t chunks = std::max(bytes / kChunkBytes, tasks == 1 ? 1 : 8 * tasks);
  for (int i = 0; i < chain.count; ++i) {
    Call& call = chain.calls[i];
    call.bytes_beside = bytes - std::min(RowBytes(call), bytes);
    const int64_t unit = UnitOf(call), units = (call.rows + unit - 1) / unit;
    all.parts[i].chunk = std::max<int64_t>((units + chunks - 1) / chunks, 1) * unit;
  }
  const isonorm_status status = RunTasks(chain.calls[0], static_cast<int>(tasks), RunTask, &all);
  if (status != ISONORM_OK) return status;
  for (int i = 0; i < chain.count; ++i) {
    if (WantsSums(chain.calls[i])) StoreSums(chain.calls[i], target, kernels[i]);
  }
  return ISONORM_OK;
}

}  // namespace isonorm
