// The C entry points of parallel.h.
#include "call/call.h"
#include "call/combine.h"
#include "call/error.h"
#include "call/parallel.h"
#include "cpu/fp_guard.h"
#include "entry/compute.h"
#include "numbers/order.h"

using isonorm::Fail;

extern "C" {

int64_t isonorm_max_ranks(int64_t cols) { return cols < 1 ? 0 : isonorm::MaxRanks(cols); }

isonorm_status isonorm_forward_partial(const isonorm_contract* contract, double eps, const isonorm_forward_args* args,
                                       const isonorm_shard* shard, int32_t round) {
  isonorm::Shard rows;
  const isonorm::ShardTensors tensors = {shard, false, round, &rows};
  return isonorm::Compute(isonorm::Operation::k_forward_partial, [&](isonorm::CallBuilder& builder) {
    return isonorm::MakeForward(contract, eps, args, builder, &tensors);
  });
}

isonorm_status isonorm_forward_finish(const isonorm_contract* contract, double eps, const isonorm_forward_args* args,
                                      const isonorm_shard* shard, int32_t* round) {
  if (round == nullptr) return Fail(ISONORM_ERROR_NULL, "round is null, but must point to the number of this round.");
  isonorm::Shard rows;
  const isonorm::ShardTensors tensors = {shard, true, *round, &rows};
  return isonorm::Guarded([&] {
    const isonorm::FpGuard guard;
    isonorm::Call call;
    const isonorm::Backend* backend = nullptr;
    isonorm_status status = isonorm::Check(
        isonorm::Operation::k_forward,
        [&](isonorm::CallBuilder& builder) { return isonorm::MakeForward(contract, eps, args, builder, &tensors); }, &call,
        &backend);
    if (status != ISONORM_OK) return status;
    isonorm::Round next = isonorm::Round::kMean;
    bool complete = false;
    int kernel = isonorm::kKernels;
    status = backend->FinishForward(call, &next, &complete, &kernel);
    if (status != ISONORM_OK) return status;
    *round = complete ? 0 : isonorm::NumberOf(next, call.norm);
    if (complete) isonorm::last = {backend, kernel};
    return status;
  });
}

isonorm_status isonorm_backward_partial(const isonorm_contract* contract, double eps, const isonorm_backward_args* args,
                                        const isonorm_shard* shard) {
  isonorm::Shard rows;
  const isonorm::ShardTensors tensors = {shard, false, 0, &rows};
  return isonorm::Compute(isonorm::Operation::k_backward_partial, [&](isonorm::CallBuilder& builder) {
    const isonorm_status status = isonorm::MakeBackward(contract, eps, args, builder, &tensors);
    builder.call().dweight = builder.call().dbias = nullptr;  // sums of finish
    return status;
  });
}

isonorm_status isonorm_backward_finish(const isonorm_contract* contract, double eps, const isonorm_backward_args* args,
                                       const isonorm_shard* shard) {
  isonorm::Shard rows;
  const isonorm::ShardTensors tensors = {shard, true, 0, &rows};
  return isonorm::Compute(isonorm::Operation::k_backward, [&](isonorm::CallBuilder& builder) {
    return isonorm::MakeBackward(contract, eps, args, builder, &tensors);
  });
}

isonorm_status isonorm_combine_gradients(const isonorm_combine_args* args) {
  return isonorm::Guarded([&] {
    const isonorm::FpGuard guard;
    isonorm::Call call;
    isonorm::CallBuilder builder(&call);
    const isonorm::Backend* backend = nullptr;
    isonorm_status status = isonorm::MakeCombine(args, builder);
    if (status == ISONORM_OK) status = isonorm::FindBackend(builder.device(), builder.name(), &backend);
    return status == ISONORM_OK ? backend->Combine(call) : status;
  });
}

}  // extern "C"
