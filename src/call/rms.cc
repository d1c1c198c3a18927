// Arguments of isonorm_rms, isonorm_rms_backward and isonorm_rms_penalty -> a checked Call.
#include <cmath>

#include "call/builder.h"
#include "call/call.h"
#include "call/checks.h"
#include "call/structure.h"

namespace isonorm {
namespace {

// What the vector functions have per row.
struct PerRow {
  const char* name;
  const isonorm_tensor* tensor;
  bool output;
};

template <class Args>
isonorm_status Make(const Args& args, const PerRow& per_row, const isonorm_tensor* dx, CallBuilder& builder) {
  ISONORM_TRY(builder.SetShapeFrom(kX, "x", args.x));
  ISONORM_TRY(builder.SetGroups(1, 0));
  ISONORM_TRY(builder.AddPerRow(kPerRow, per_row.name, per_row.tensor, per_row.output));
  ISONORM_TRY(builder.AddRows(kDx, "dx", dx, true));
  ISONORM_TRY(SetStream(args.stream, &builder.call()));
  ISONORM_TRY(builder.SetExecutor(args.executor));
  return builder.Finish();
}

}  // namespace

isonorm_status MakeRms(const isonorm_rms_args* from, CallBuilder& builder) {
  isonorm_rms_args args = {};
  ISONORM_TRY(TakeStructure(from, "args", "isonorm_rms_args", &args));
  if (args.rms == nullptr) return Fail(ISONORM_ERROR_NULL, "rms is null, but is required.");
  return Make(args, {"rms", args.rms, true}, nullptr, builder);
}

isonorm_status MakeRmsBackward(const isonorm_rms_backward_args* from, CallBuilder& builder) {
  isonorm_rms_backward_args args = {};
  ISONORM_TRY(TakeStructure(from, "args", "isonorm_rms_backward_args", &args));
  if (args.drms == nullptr) return Fail(ISONORM_ERROR_NULL, "drms is null, but is required.");
  if (args.dx == nullptr) return Fail(ISONORM_ERROR_NULL, "dx is null, but is required.");
  return Make(args, {"drms", args.drms, false}, args.dx, builder);
}

isonorm_status MakeRmsPenalty(const isonorm_rms_penalty_args* from, CallBuilder& builder) {
  isonorm_rms_penalty_args args = {};
  ISONORM_TRY(TakeStructure(from, "args", "isonorm_rms_penalty_args", &args));
  if (args.penalty == nullptr && args.dx == nullptr) {
    return Fail(ISONORM_ERROR_ARGUMENT, "penalty and dx are both null, but at least one output must be given.");
  }
  ISONORM_TRY(CheckFlags(args.flags, args.reserved));
  if (!std::isfinite(args.lambda)) {
    return Fail(ISONORM_ERROR_ARGUMENT, "lambda is %g, but must be finite.", args.lambda);
  }
  builder.call().lambda = args.lambda;
  builder.call().accumulates_rows = args.flags == ISONORM_ACCUMULATE;
  return Make(args, {"penalty", args.penalty, true}, args.dx, builder);
}

}  // namespace isonorm
