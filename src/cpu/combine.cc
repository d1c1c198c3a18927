#include "cpu/combine.h"

#include <algorithm>

#include "cpu/fp_guard.h"
#include "cpu/run.h"
#include "cpu/store_sum.h"
#include "numbers/order.h"

namespace isonorm {
namespace {

constexpr int64_t kColumns = 64;  // taken through the tree together

struct Columns {
  const Call& call;
  int64_t of_task;
};

// The tree over the rows for columns [begin, end), kColumns at most. Rows wait for a partner as blocks of rows do in
// gradient_sums.cc; at the end what has none passes up.
template <class F>
void CombineColumns(const Call& call, int64_t begin, int64_t end) {
  F pending[kMaxDepth + 1][kColumns];
  int count = 0;
  const auto combine = [&](int last) {
    for (int64_t j = 0; j < end - begin; ++j) pending[last - 1][j] = pending[last - 1][j] + pending[last][j];
  };
  for (int64_t part = 0; part < call.rows; ++part) {
    const char* const row = call.data[kX] + part * call.stride[0][kX];
    for (int64_t j = begin; j < end; ++j) pending[count][j - begin] = LoadAt<F>(row, call.repeats(kX) ? 0 : j);
    ++count;
    for (int64_t i = part; i & 1; i >>= 1) combine(--count);
  }
  while (count > 1) combine(--count);
  StoreSum(count == 0 ? nullptr : pending[0], call.dweight, call.dweight_type, begin, end - begin, call.accumulate);
}

void RunTask(void* context, int64_t index) {
  const Columns& columns = *static_cast<const Columns*>(context);
  const Call& call = columns.call;
  const FpGuard guard;
  const int64_t end = std::min(call.cols, (index + 1) * columns.of_task);
  for (int64_t begin = index * columns.of_task; begin < end; begin += kColumns) {
    const int64_t stop = std::min(end, begin + kColumns);
    call.wide ? CombineColumns<double>(call, begin, stop) : CombineColumns<float>(call, begin, stop);
  }
}

}  // namespace

isonorm_status CombineRows(const Call& call) {
  const int tasks = static_cast<int>(std::min<int64_t>(TaskCount(call), (call.cols + kColumns - 1) / kColumns));
  const int64_t share = (call.cols + tasks - 1) / tasks;
  Columns columns = {call, (share + kColumns - 1) / kColumns * kColumns};
  return RunTasks(call, tasks, RunTask, &columns);
}

}  // namespace isonorm
