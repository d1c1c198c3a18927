// What devices compute together (isonorm/parallel.h). They exchange by XLA's own collectives, between two calls of these.
#include <cstring>

#include "frame.h"

namespace isonorm_jax {
namespace {

struct Shard {
  Array partial, gathered, statistic;

  isonorm_shard Make(std::int64_t ranks) const {
    auto shard = Sized<isonorm_shard>();
    shard.ranks = ranks;
    shard.partial = partial.get();
    shard.gathered = gathered.get();
    shard.statistic = statistic.get();
    return shard;
  }
};

// With the result `partial` writes what this device sends; without it takes the turn's end. Statistics are handed from turn to turn.
XLA_FFI_Error* ShardedForward(const XLA_FFI_CallFrame& frame) {
  Call call(frame);
  isonorm_base::ForwardInputs<Array> in;
  isonorm_base::ForwardOutputs<Array> out;
  Array round, statistic, next_round;
  Shard shard;
  Read(call, in);
  call.Operand(5, round, Shape::kAsIs);
  call.Operand(6, statistic, Shape::kAsIs);
  call.Operand(7, shard.gathered, Shape::kAsIs);
  call.Result(0, shard.partial, Shape::kAsIs);
  call.Result(1, next_round, Shape::kAsIs);
  call.Result(2, shard.statistic, Shape::kAsIs);
  call.Result(3, out.y, Shape::kRows);
  call.Result(4, out.residual_out, Shape::kRows);
  call.Result(5, out.mean, Shape::kPerRow);
  call.Result(6, out.rstd, Shape::kPerRow);
  const Executor executor(frame, in.x.bytes());
  auto args = Sized<isonorm_forward_args>();
  in.GiveTo(args);
  args.executor = executor.get();
  auto turn = *static_cast<const std::int32_t*>(round.get()->data);
  if (shard.partial.get() != nullptr) {
    args.y = in.x.get();  // a call has an output: this one is only checked
    isonorm_shard given = shard.Make(call[kRanks]);
    given.statistic = statistic.get();
    return Checked(frame, isonorm_forward_partial(&call.contract(), call.eps(), &args, &given, turn));
  }
  out.GiveTo(args);
  if (statistic.bytes() > 0) {
    std::memcpy(shard.statistic.get()->data, statistic.get()->data, static_cast<std::size_t>(statistic.bytes()));
  }
  const isonorm_shard given = shard.Make(call[kRanks]);
  XLA_FFI_Error* const error = Checked(frame, isonorm_forward_finish(&call.contract(), call.eps(), &args, &given, &turn));
  *static_cast<std::int32_t*>(next_round.get()->data) = turn;
  return error;
}

// With the result `partial` writes what this device sends, without it the gradients.
XLA_FFI_Error* ShardedBackward(const XLA_FFI_CallFrame& frame) {
  Call call(frame);
  isonorm_base::BackwardInputs<Array> in;
  isonorm_base::BackwardOutputs<Array> out;
  Shard shard;
  Read(call, in);
  call.Operand(8, shard.statistic, Shape::kAsIs);
  call.Operand(9, shard.gathered, Shape::kAsIs);
  call.Result(0, shard.partial, Shape::kAsIs);
  call.Result(1, out.dx, Shape::kRows);
  call.Result(2, out.dweight, Shape::kAsIs);
  call.Result(3, out.dbias, Shape::kAsIs);
  call.Result(4, out.dgate, Shape::kRows);
  const Executor executor(frame, in.dy.bytes());
  auto args = Sized<isonorm_backward_args>();
  in.GiveTo(args);
  args.executor = executor.get();
  const isonorm_shard given = shard.Make(call[kRanks]);
  if (shard.partial.get() != nullptr) {
    args.dx = in.x.get();  // as y in the forward pass
    return Checked(frame, isonorm_backward_partial(&call.contract(), call.eps(), &args, &given));
  }
  out.GiveTo(args);
  const auto finish = [&given](const isonorm_contract* contract, double eps, const isonorm_backward_args* own) {
    return isonorm_backward_finish(contract, eps, own, &given);
  };
  return Checked(frame, isonorm_base::WithWorkspace(call.contract(), call.eps(), args, isonorm_backward_workspace, finish));
}

XLA_FFI_Error* CombineGradients(const XLA_FFI_CallFrame& frame) {
  Call call(frame);
  Array parts, gradient;
  call.Operand(0, parts, Shape::kAsIs);
  call.Result(0, gradient, Shape::kAsIs);
  const Executor executor(frame, parts.bytes());
  auto args = Sized<isonorm_combine_args>();
  args.parts = parts.get();
  args.gradient = gradient.get();
  args.rows = parts.get()->shape[0] * call[kPartRows];
  args.part_rows = call[kPartRows];
  args.executor = executor.get();
  return Checked(frame, isonorm_combine_gradients(&args));
}

}  // namespace
}  // namespace isonorm_jax

ISONORM_HANDLER isonorm_jax_sharded_forward(XLA_FFI_CallFrame* frame) {
  return isonorm_jax::Run(isonorm_jax::ShardedForward, frame);
}
ISONORM_HANDLER isonorm_jax_sharded_backward(XLA_FFI_CallFrame* frame) {
  return isonorm_jax::Run(isonorm_jax::ShardedBackward, frame);
}
ISONORM_HANDLER isonorm_jax_combine_gradients(XLA_FFI_CallFrame* frame) {
  return isonorm_jax::Run(isonorm_jax::CombineGradients, frame);
}
