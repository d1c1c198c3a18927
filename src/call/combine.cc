#include "call/combine.h"

#include <cinttypes>

#include "call/checks.h"
#include "call/error.h"
#include "call/structure.h"
#include "numbers/order.h"

namespace isonorm {
namespace {

isonorm_status CheckScalars(const isonorm_combine_args& args) {
  if (args.parts == nullptr) return Fail(ISONORM_ERROR_NULL, "parts is null, but is required.");
  if (args.gradient == nullptr) return Fail(ISONORM_ERROR_NULL, "gradient is null, but is required.");
  ISONORM_TRY(CheckFlags(args.flags, args.reserved));
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

isonorm_status MakeCombine(const isonorm_combine_args* from, CallBuilder& builder) {
  isonorm_combine_args args = {};
  ISONORM_TRY(TakeStructure(from, "args", "isonorm_combine_args", &args));
  ISONORM_TRY(CheckScalars(args));
  Call& call = builder.call();
  ISONORM_TRY(builder.SetShapeFrom(kX, "parts", args.parts));
  ISONORM_TRY(CheckParts(args, call));
  ISONORM_TRY(builder.AddOutput("gradient", args.gradient, &call.dweight, &call.dweight_type));
  ISONORM_TRY(SetStream(args.stream, &call));
  ISONORM_TRY(builder.SetExecutor(args.executor));
  call.accumulate = (args.flags & ISONORM_ACCUMULATE) != 0;
  return builder.Finish();
}

}  // namespace isonorm
