#include "cpu/combine.h"

#include <algorithm>
#include <cinttypes>

#include "call/builder.h"
#include "call/checks.h"
#include "call/error.h"
#include "call/structure.h"
#include "cpu/fp_guard.h"
#include "numbers/order.h"
#include "cpu/run.h"
#include "cpu/tuning.h"

namespace isonorm {
namespace {

constexpr int64_t kColumns = 64;  // taken through the tree together

struct Parts {
  const Call& call;  // parts as x, of which each is a row
  void* gradient;
  Type type;
  bool accumulate;
  int64_t columns_of_task;
};

// The tree over the parts for columns [begin, end), kColumns at most. Parts wait for a partner as blocks of rows do in
// gradient_sums.cc; at the end what has none passes up.
template <class F>
void CombineColumns(const Parts& parts, int64_t begin, int64_t end) {
  const Call& call = parts.call;
  F pending[kMaxDepth + 1][kColumns];
  int count = 0;
  const auto combine = [&](int last) {
    for (int64_t j = 0; j < end - begin; ++j) pending[last - 1][j] = pending[last - 1][j] + pending[last][j];
  };
  for (int64_t part = 0; part < call.rows; ++part) {
    const F* const row = reinterpret_cast<const F*>(call.data[kX] + part * call.stride[0][kX]);
    std::copy(row + begin, row + end, pending[count++]);
    for (int64_t i = part; i & 1; i >>= 1) combine(--count);
  }
  while (count > 1) combine(--count);
  for (int64_t j = begin; j < end; ++j) {
    F value = count == 0 ? F(0) : pending[0][j - begin];
    if (parts.accumulate) value = LoadScalar<F>(parts.gradient, parts.type, j) + value;
    StoreScalar(value, parts.gradient, parts.type, j);
  }
}

void RunTask(void* context, int64_t index) {
  const Parts& parts = *static_cast<const Parts*>(context);
  const FpGuard guard;
  const int64_t end = std::min(parts.call.cols, (index + 1) * parts.columns_of_task);
  for (int64_t begin = index * parts.columns_of_task; begin < end; begin += kColumns) {
    const int64_t stop = std::min(end, begin + kColumns);
    parts.call.wide ? CombineColumns<double>(parts, begin, stop) : CombineColumns<float>(parts, begin, stop);
  }
}

isonorm_status CheckScalars(const isonorm_combine_args& args) {
  if (args.parts == nullptr) return Fail(ISONORM_ERROR_NULL, "parts is null, but is required.");
  if (args.gradient == nullptr) return Fail(ISONORM_ERROR_NULL, "gradient is null, but is required.");
  isonorm_status status = CheckFlags(args.flags, args.reserved);
  if (status == ISONORM_OK) status = CheckStream(args.stream);
  if (status != ISONORM_OK) return status;
  if (args.rows < 0) return Fail(ISONORM_ERROR_SHAPE, "rows is %" PRId64 ", but must not be negative.", args.rows);
  if (args.part_rows < kRowBlock || (args.part_rows & (args.part_rows - 1)) != 0) {
    return Fail(ISONORM_ERROR_SPLIT, "part_rows is %" PRId64 ", but must be 32 times a power of two, as 32, 64 or 128.",
                args.part_rows);
  }
  return ISONORM_OK;
}

isonorm_status CheckParts(const isonorm_combine_args& args, const Call& call) {
  if (args.parts->ndim != 2) {
    return Fail(ISONORM_ERROR_RANK, "parts.ndim is %d, but must be 2: [parts, cols].", static_cast<int>(args.parts->ndim));
  }
  if (call.type[kX] != Type::kF32 && call.type[kX] != Type::kF64) {
    return Fail(ISONORM_ERROR_DTYPE, "parts is %s, but must be f32 or f64, the compute type.", NameOf(call.type[kX]));
  }
  const int64_t expected = args.rows / args.part_rows + (args.rows % args.part_rows != 0);
  if (call.rows == expected) return ISONORM_OK;
  return Fail(ISONORM_ERROR_SPLIT,
              "parts.shape[0] is %" PRId64 ", but must be %" PRId64 ": %" PRId64 " rows in runs of %" PRId64
              ", of which only the last may be shorter.",
              call.rows, expected, args.rows, args.part_rows);
}

}  // namespace

isonorm_status CombineGradients(const isonorm_combine_args* from) {
  isonorm_combine_args args = {};
  isonorm_status status = TakeStructure(from, "args", "isonorm_combine_args", &args);
  if (status == ISONORM_OK) status = CheckScalars(args);
  if (status != ISONORM_OK) return status;
  Call call;
  CallBuilder builder(&call);
  void* gradient = nullptr;
  Type type = Type::kNone;
  const auto next = [&](isonorm_status step) { return (status = step) == ISONORM_OK; };
  if (!next(builder.SetShapeFrom(kX, "parts", args.parts)) || !next(CheckParts(args, call)) ||
      !next(builder.AddVector("gradient", args.gradient, true, &gradient, &type)) ||
      !next(builder.SetExecutor(args.executor)) || !next(builder.Finish())) {
    return status;
  }
  const int tasks = static_cast<int>(std::min<int64_t>(TaskCount(call), (call.cols + kColumns - 1) / kColumns));
  const int64_t share = (call.cols + tasks - 1) / tasks;
  Parts parts = {call, gradient, type, (args.flags & ISONORM_ACCUMULATE) != 0, (share + kColumns - 1) / kColumns * kColumns};
  RunTasks(call, tasks, RunTask, &parts);
  return ISONORM_OK;
}

}  // namespace isonorm
