// Arguments of isonorm_double_backward -> a checked Call.
#include "call/call.h"
#include "call/builder.h"
#include "call/checks.h"
#include "call/contract.h"
#include "call/structure.h"

namespace isonorm {
namespace {

// The formulas are those of the plain RMS norm: no mean, eps under the root, no gate.
isonorm_status CheckPlain(const isonorm_contract& contract) {
  const struct {
    const char* name;
    int32_t value, allowed;
    const char* allowed_name;
  } fields[] = {
      {"statistic", contract.statistic, ISONORM_STATISTIC_RMS, "ISONORM_STATISTIC_RMS"},
      {"eps_place", contract.eps_place, ISONORM_EPS_INSIDE, "ISONORM_EPS_INSIDE"},
      {"gate_place", contract.gate_place, ISONORM_GATE_NONE, "ISONORM_GATE_NONE"},
  };
  for (const auto& field : fields) {
    if (field.value == field.allowed) continue;
    return Fail(ISONORM_ERROR_CONTRACT, "contract.%s is %d, but double backward allows only %s (%d).", field.name,
                static_cast<int>(field.value), field.allowed_name, static_cast<int>(field.allowed));
  }
  return ISONORM_OK;
}

// Which tensors exclude or need each other.
isonorm_status CheckGiven(const isonorm_double_backward_args& args) {
  if (args.dy == nullptr) return Fail(ISONORM_ERROR_NULL, "dy is null, but is required.");
  if (args.ddx == nullptr && args.ddweight == nullptr) {
    return Fail(ISONORM_ERROR_ARGUMENT, "ddx and ddweight are both null, but at least one of them must be given.");
  }
  if (args.dx == nullptr && args.dweight == nullptr && args.ddy == nullptr) {
    return Fail(ISONORM_ERROR_ARGUMENT, "dx, dweight and ddy are all null, but at least one output must be given.");
  }
  if (args.weight == nullptr && (args.ddweight != nullptr || args.dweight != nullptr)) {
    return Fail(ISONORM_ERROR_ARGUMENT, "%s is given, but weight is null.", args.ddweight != nullptr ? "ddweight" : "dweight");
  }
  return CheckFlags(args.flags, args.reserved);
}

}  // namespace

isonorm_status MakeDoubleBackward(const isonorm_contract* caller, double eps, const isonorm_double_backward_args* from,
                                  CallBuilder& builder) {
  Call* call = &builder.call();
  isonorm_contract own = {};
  const isonorm_contract* contract = &own;
  ISONORM_TRY(TakeContract(caller, &own));
  ISONORM_TRY(CheckPlain(*contract));
  isonorm_double_backward_args all = {};
  ISONORM_TRY(TakeStructure(from, "args", "isonorm_double_backward_args", &all));
  const isonorm_double_backward_args* args = &all;
  ISONORM_TRY(builder.SetShapeFrom(kX, "x", args->x));
  ISONORM_TRY(builder.SetScalars(*contract, eps));
  ISONORM_TRY(builder.SetGroups(args->groups, 0));
  ISONORM_TRY(CheckGiven(*args));
  call->accumulate = args->flags == ISONORM_ACCUMULATE;
  ISONORM_TRY(builder.AddRows(kDy, "dy", args->dy, false));
  ISONORM_TRY(builder.AddRows(kDdx, "ddx", args->ddx, false));
  ISONORM_TRY(builder.AddStatistic(kRstd, "rstd", args->rstd, false));
  ISONORM_TRY(builder.AddInput(kWeight, "weight", args->weight, &call->weight, &call->weight_type));
  ISONORM_TRY(builder.AddInput(kDdweight, "ddweight", args->ddweight, &call->ddweight, &call->ddweight_type));
  ISONORM_TRY(builder.AddRows(kDx, "dx", args->dx, true));
  ISONORM_TRY(builder.AddRows(kDdy, "ddy", args->ddy, true));
  ISONORM_TRY(builder.AddOutput("dweight", args->dweight, &call->dweight, &call->dweight_type));
  if (args->dx != nullptr) ISONORM_TRY(SameType("dx", call->type[kDx], "x", call->type[kX]));
  if (args->ddy != nullptr) ISONORM_TRY(SameType("ddy", call->type[kDdy], "dy", call->type[kDy]));
  if (args->dweight != nullptr) ISONORM_TRY(SameType("dweight", call->dweight_type, "weight", call->weight_type));
  SetRoundings(*contract, call->type[kX], Type::kNone, call);
  ISONORM_TRY(SetStream(args->stream, call));
  ISONORM_TRY(builder.SetExecutor(args->executor));
  call->workspace = args->workspace;
  call->workspace_size = args->workspace_size;
  return builder.Finish();
}

}  // namespace isonorm
