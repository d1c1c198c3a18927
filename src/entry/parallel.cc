// The C entry points of parallel.h.
#include "entry/backends.h"
#include "call/call.h"
#include "entry/compute.h"
#include "call/error.h"
#include "cpu/fp_guard.h"
#include "numbers/order.h"
#include "call/parallel.h"
#include "cpu/combine.h"
#include "cpu/fold.h"

namespace isonorm {
namespace {

// Checks a call by make(call), then runs it; between the two come what a round adds up, once nothing can fail any more.
template <class Make, class Prepare>
isonorm_status ComputeShard(Operation operation, Make make, Prepare prepare) noexcept {
  return Guarded([&] {
    const FpGuard guard;
    Call call;
    isonorm_status status = make(&call);
    if (status != ISONORM_OK) return status;
    const Backend* backend = ChosenBackend(&status);
    if (backend == nullptr) return status;
    return prepare(call) ? RunCall(*backend, operation, call) : ISONORM_OK;
  });
}

constexpr auto kNothing = [](const Call&) { return true; };

}  // namespace
}  // namespace isonorm

extern "C" {

int64_t isonorm_max_ranks(int64_t cols) { return cols < 1 ? 0 : isonorm::MaxRanks(cols); }

isonorm_status isonorm_forward_partial(const isonorm_contract* contract, double eps, const isonorm_forward_args* args,
                                       const isonorm_shard* shard, int32_t round) {
  isonorm::Shard rows;
  const isonorm::ShardTensors tensors = {shard, false, round, &rows};
  return isonorm::ComputeShard(
      isonorm::Operation::k_forward_partial,
      [&](isonorm::Call* call) { return isonorm::MakeForwardBySteps(contract, eps, args, call, &tensors); }, isonorm::kNothing);
}

isonorm_status isonorm_forward_finish(const isonorm_contract* contract, double eps, const isonorm_forward_args* args,
                                      const isonorm_shard* shard, int32_t* round) {
  if (round == nullptr) return isonorm::Fail(ISONORM_ERROR_NULL, "round is null, but must point to the number of this round.");
  isonorm::Shard rows;
  const isonorm::ShardTensors tensors = {shard, true, *round, &rows};
  return isonorm::ComputeShard(
      isonorm::Operation::k_forward,
      [&](isonorm::Call* call) { return isonorm::MakeForwardBySteps(contract, eps, args, call, &tensors); },
      [&](const isonorm::Call& call) {
        isonorm::Round next = isonorm::Round::kMean;
        const bool complete = isonorm::FoldGathered(call, &next);
        *round = complete ? 0 : isonorm::NumberOf(next, call.layer);
        return complete;
      });
}

isonorm_status isonorm_backward_partial(const isonorm_contract* contract, double eps, const isonorm_backward_args* args,
                                        const isonorm_shard* shard) {
  isonorm::Shard rows;
  const isonorm::ShardTensors tensors = {shard, false, 0, &rows};
  return isonorm::ComputeShard(
      isonorm::Operation::k_backward_partial,
      [&](isonorm::Call* call) {
        const isonorm_status status = isonorm::MakeBackward(contract, eps, args, true, call, &tensors);
        call->dweight = call->dbias = nullptr;  // sums of finish
        return status;
      },
      isonorm::kNothing);
}

isonorm_status isonorm_backward_finish(const isonorm_contract* contract, double eps, const isonorm_backward_args* args,
                                       const isonorm_shard* shard) {
  isonorm::Shard rows;
  const isonorm::ShardTensors tensors = {shard, true, 0, &rows};
  return isonorm::ComputeShard(
      isonorm::Operation::k_backward,
      [&](isonorm::Call* call) { return isonorm::MakeBackward(contract, eps, args, false, call, &tensors); },
      isonorm::kNothing);
}

isonorm_status isonorm_combine_gradients(const isonorm_combine_args* args) {
  return isonorm::Guarded([&] {
    const isonorm::FpGuard guard;
    return isonorm::CombineGradients(args);
  });
}

}  // extern "C"
