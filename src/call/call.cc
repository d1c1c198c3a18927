#include "call/call.h"

#include <cinttypes>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>

#include "call/builder.h"
#include "call/checks.h"
#include "call/contract.h"
#include "call/error.h"
#include "call/parallel.h"
#include "call/structure.h"

namespace isonorm {

// That all of it may be cleared as bytes.
static_assert(static_cast<int>(Type::kNone) == 0 && static_cast<int>(Gate::kNone) == 0);
static_assert(static_cast<int>(GateFunction::kSilu) == 0 && std::is_trivially_copyable_v<Call>);

// Cleared by pieces of a line, each of which becomes four stores: of a whole array g++ makes a loop.
Call::Call() {
  constexpr size_t kSize = offsetof(Call, stride) + sizeof(stride[0]), kPiece = 64;
  char* const begin = reinterpret_cast<char*>(this);
  [begin]<size_t... i>(std::index_sequence<i...>) { (std::memset(begin + i * kPiece, 0, kPiece), ...); }
  (std::make_index_sequence<kSize / kPiece>());
  std::memset(begin + kSize / kPiece * kPiece, 0, kSize % kPiece);
  executor.parallel_for = nullptr;
}

namespace {

// A gate is given exactly where the contract has a place for it.
isonorm_status CheckGate(const isonorm_contract& contract, const Call& call, const isonorm_tensor* gate,
                         const isonorm_tensor* residual) {
  if (contract.gate_place == ISONORM_GATE_NONE) {
    if (gate == nullptr) return ISONORM_OK;
    return Fail(ISONORM_ERROR_ARGUMENT, "gate is given, but contract.gate_place is ISONORM_GATE_NONE.");
  }
  if (gate == nullptr) return Fail(ISONORM_ERROR_ARGUMENT, "gate is null, but contract.gate_place asks for one.");
  if (call.wide)
    return Fail(ISONORM_ERROR_DTYPE,
                "gate is given with f64 data, but silu and sigmoid are defined for f32, bf16 and f16 data only.");
  if (contract.gate_place == ISONORM_GATE_BEFORE && residual != nullptr) {
    return Fail(ISONORM_ERROR_ARGUMENT,
                "a gate before the norm is given together with a residual, but only one of them may be.");
  }
  return ISONORM_OK;
}

// Of LayerNorm alone.
isonorm_status AddMean(const isonorm_tensor* mean, bool output, CallBuilder& builder, const Call& call) {
  if (mean == nullptr) return ISONORM_OK;
  if (!call.norm.centres()) {
    return Fail(ISONORM_ERROR_ARGUMENT, "mean is given, but contract.statistic is ISONORM_STATISTIC_RMS, which has no mean.");
  }
  return builder.AddStatistic(kMean, "mean", mean, output);
}

// A sum over rows is rounded to the type of its parameter, or kept as it is.
isonorm_status SumType(const Call& call, const char* name, Type type, const char* as, Type expected) {
  const Type compute = call.wide ? Type::kF64 : Type::kF32;
  if (type == expected || type == compute) return ISONORM_OK;
  return Fail(ISONORM_ERROR_DTYPE, "%s is %s, but must be %s, the type of %s, or %s, the compute type.", name, NameOf(type),
              NameOf(expected), as, NameOf(compute));
}

}  // namespace

isonorm_status MakeForward(const isonorm_contract* caller, double eps, const isonorm_forward_args* from, CallBuilder& builder,
                           const ShardTensors* shard) {
  Call* call = &builder.call();
  isonorm_contract own = {};
  const isonorm_contract* contract = &own;
  ISONORM_TRY(TakeContract(caller, &own));
  isonorm_forward_args all = {};
  ISONORM_TRY(TakeStructure(from, "args", "isonorm_forward_args", &all));
  const isonorm_forward_args* args = &all;
  if (shard != nullptr && args->also != nullptr) {
    return Fail(ISONORM_ERROR_ARGUMENT, "args.also is given, but must be null where ranks share the rows.");
  }
  ISONORM_TRY(builder.SetShapeFrom(kX, "x", args->x));
  ISONORM_TRY(builder.SetScalars(*contract, eps));
  ISONORM_TRY(builder.SetGroups(args->groups, args->window));
  ISONORM_TRY(builder.SetQuantizer(args->quantization));
  if (args->quantization != nullptr && args->y == nullptr) {
    return Fail(ISONORM_ERROR_ARGUMENT, "quantization is given, but y is null and there is nothing to quantise.");
  }
  if (args->rope != nullptr && args->y == nullptr) {
    return Fail(ISONORM_ERROR_ARGUMENT, "rope is given, but y is null and there is nothing to rotate.");
  }
  ISONORM_TRY(CheckGate(*contract, *call, args->gate, args->residual));
  if (args->residual_out != nullptr && args->residual == nullptr) {
    return Fail(ISONORM_ERROR_ARGUMENT, "residual_out is given, but residual is null and there is no sum to write.");
  }
  if (args->y == nullptr && args->residual_out == nullptr && args->mean == nullptr && args->rstd == nullptr) {
    return Fail(ISONORM_ERROR_ARGUMENT, "y, residual_out, mean and rstd are all null, but at least one output must be given.");
  }
  ISONORM_TRY(builder.AddRows(kResidual, "residual", args->residual, false));
  ISONORM_TRY(builder.AddRows(kGate, "gate", args->gate, false));
  ISONORM_TRY(builder.AddInput(kWeight, "weight", args->weight, &call->weight, &call->weight_type));
  ISONORM_TRY(builder.AddInput(kBias, "bias", args->bias, &call->bias, &call->bias_type));
  ISONORM_TRY(builder.AddRows(kY, "y", args->y, true));
  ISONORM_TRY(builder.AddRows(kResidualOut, "residual_out", args->residual_out, true));
  ISONORM_TRY(AddMean(args->mean, true, builder, *call));
  ISONORM_TRY(builder.AddStatistic(kRstd, "rstd", args->rstd, true));
  ISONORM_TRY(builder.AddScale(args->scale));
  if (args->residual_out != nullptr) {
    ISONORM_TRY(SameType("residual_out", call->type[kResidualOut], "residual", call->type[kResidual]));
  }
  SetRoundings(*contract, call->type[kX], call->type[kResidual], call);
  ISONORM_TRY(builder.SetRope(*contract, args->rope, call->type[kX]));
  ISONORM_TRY(SetStream(args->stream, call));
  ISONORM_TRY(builder.SetExecutor(args->executor));
  if (shard != nullptr) ISONORM_TRY(AddShard(*shard, args->window, builder, call));
  call->workspace = args->workspace;
  call->workspace_size = args->workspace_size;
  return builder.Finish();
}

isonorm_status MakeBackward(const isonorm_contract* caller, double eps, const isonorm_backward_args* from, CallBuilder& builder,
                            const ShardTensors* shard) {
  Call* call = &builder.call();
  isonorm_contract own = {};
  const isonorm_contract* contract = &own;
  ISONORM_TRY(TakeContract(caller, &own));
  isonorm_backward_args all = {};
  ISONORM_TRY(TakeStructure(from, "args", "isonorm_backward_args", &all));
  const isonorm_backward_args* args = &all;
  call->backward = true;
  const bool from_sum = args->residual_out != nullptr;
  if (from_sum && args->residual != nullptr) {
    return Fail(ISONORM_ERROR_ARGUMENT, "residual and residual_out are both given, but the sum comes from only one of them.");
  }
  if (from_sum && contract->sum_rounding != ISONORM_SUM_STORED) {
    return Fail(ISONORM_ERROR_ARGUMENT,
                "residual_out is given, but contract.sum_rounding is ISONORM_SUM_KEPT, which needs x and residual instead.");
  }
  if (args->x == nullptr && !from_sum)
    return Fail(ISONORM_ERROR_NULL, "x is null, but is required unless residual_out is given.");
  if (args->x == nullptr && args->dx == nullptr) {
    return Fail(ISONORM_ERROR_NULL, "x and dx are both null, but one of them must give the type of x.");
  }
  if (shard != nullptr && args->also != nullptr) {
    return Fail(ISONORM_ERROR_ARGUMENT, "args.also is given, but must be null where ranks share the rows.");
  }
  ISONORM_TRY(args->x != nullptr ? builder.SetShapeFrom(kX, "x", args->x)
                                 : builder.SetShapeFrom(kResidualOut, "residual_out", args->residual_out));
  ISONORM_TRY(builder.SetScalars(*contract, eps));
  ISONORM_TRY(builder.SetGroups(args->groups, args->window));
  ISONORM_TRY(CheckGate(*contract, *call, args->gate, args->residual));
  if (from_sum && call->gate == Gate::kBefore) {
    return Fail(ISONORM_ERROR_ARGUMENT,
                "a gate before the norm is given together with a residual, but only one of them may be.");
  }
  if (args->dy == nullptr) return Fail(ISONORM_ERROR_NULL, "dy is null, but is required.");
  if (args->dx == nullptr && args->dweight == nullptr && args->dbias == nullptr && args->dgate == nullptr) {
    return Fail(ISONORM_ERROR_ARGUMENT, "dx, dweight, dbias and dgate are all null, but at least one output must be given.");
  }
  if (args->dweight != nullptr && args->weight == nullptr) {
    return Fail(ISONORM_ERROR_ARGUMENT, "dweight is given, but weight is null.");
  }
  if (args->dgate != nullptr && args->gate == nullptr) return Fail(ISONORM_ERROR_ARGUMENT, "dgate is given, but gate is null.");
  ISONORM_TRY(CheckFlags(args->flags, args->reserved));
  call->accumulate = (args->flags & ISONORM_ACCUMULATE) != 0;
  ISONORM_TRY(builder.AddRows(kResidual, "residual", args->residual, false));
  if (args->x != nullptr) ISONORM_TRY(builder.AddRows(kResidualOut, "residual_out", args->residual_out, false));
  ISONORM_TRY(builder.AddRows(kGate, "gate", args->gate, false));
  ISONORM_TRY(builder.AddRows(kDy, "dy", args->dy, false));
  ISONORM_TRY(builder.AddRows(kDresidual, "dresidual", args->dresidual, false));
  ISONORM_TRY(AddMean(args->mean, false, builder, *call));
  ISONORM_TRY(builder.AddStatistic(kRstd, "rstd", args->rstd, false));
  ISONORM_TRY(builder.AddInput(kWeight, "weight", args->weight, &call->weight, &call->weight_type));
  ISONORM_TRY(builder.AddInput(kBias, "bias", args->bias, &call->bias, &call->bias_type));
  ISONORM_TRY(builder.AddRows(kDx, "dx", args->dx, true));
  ISONORM_TRY(builder.AddRows(kDgate, "dgate", args->dgate, true));
  ISONORM_TRY(builder.AddOutput("dweight", args->dweight, &call->dweight, &call->dweight_type));
  ISONORM_TRY(builder.AddOutput("dbias", args->dbias, &call->dbias, &call->dbias_type));
  const Type x = args->x != nullptr ? call->type[kX] : call->type[kDx];
  if (args->dx != nullptr) ISONORM_TRY(SameType("dx", call->type[kDx], "x", x));
  if (args->dweight != nullptr) ISONORM_TRY(SumType(*call, "dweight", call->dweight_type, "weight", call->weight_type));
  if (args->dbias != nullptr && args->bias != nullptr)
    ISONORM_TRY(SumType(*call, "dbias", call->dbias_type, "bias", call->bias_type));
  if (args->dgate != nullptr) ISONORM_TRY(SameType("dgate", call->type[kDgate], "gate", call->type[kGate]));
  SetRoundings(*contract, x, call->type[kResidual], call);
  ISONORM_TRY(builder.SetRope(*contract, args->rope, x));
  ISONORM_TRY(SetStream(args->stream, call));
  ISONORM_TRY(builder.SetExecutor(args->executor));
  if (from_sum) builder.ReadInsteadOfX(kResidualOut);
  if (shard != nullptr) ISONORM_TRY(AddShard(*shard, args->window, builder, call));
  call->workspace = args->workspace;
  call->workspace_size = args->workspace_size;
  return builder.Finish();
}

}  // namespace isonorm
