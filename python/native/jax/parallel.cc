// What devices compute together (isonorm/parallel.h). They exchange by XLA's own collectives, between two calls of these.
#include <cstring>
#include <memory>

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
  Array x, weight, bias, residual, gate, round, statistic, next_round, y, residual_out, mean, rstd;
  Shard shard;
  call.Operand(0, x, Shape::kRows);
  call.Operand(1, weight, Shape::kAsIs);
  call.Operand(2, bias, Shape::kAsIs);
  call.Operand(3, residual, Shape::kRows);
  call.Operand(4, gate, Shape::kRows);
  call.Operand(5, round, Shape::kAsIs);
  call.Operand(6, statistic, Shape::kAsIs);
  call.Operand(7, shard.gathered, Shape::kAsIs);
  call.Result(0, shard.partial, Shape::kAsIs);
  call.Result(1, next_round, Shape::kAsIs);
  call.Result(2, shard.statistic, Shape::kAsIs);
  call.Result(3, y, Shape::kRows);
  call.Result(4, residual_out, Shape::kRows);
  call.Result(5, mean, Shape::kPerRow);
  call.Result(6, rstd, Shape::kPerRow);
  const Executor executor(frame, x.bytes());
  auto args = Sized<isonorm_forward_args>();
  args.x = x.get();
  args.weight = weight.get();
  args.bias = bias.get();
  args.residual = residual.get();
  args.gate = gate.get();
  args.executor = executor.get();
  auto turn = *static_cast<const std::int32_t*>(round.get()->data);
  if (shard.partial.get() != nullptr) {
    args.y = x.get();  // a call has an output: this one is only checked
    isonorm_shard given = shard.Make(call[kRanks]);
    given.statistic = statistic.get();
    return Checked(frame, isonorm_forward_partial(&call.contract(), call.eps(), &args, &given, turn));
  }
  args.y = y.get();
  args.residual_out = residual_out.get();
  args.mean = mean.get();
  args.rstd = rstd.get();
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
  Array dy, x, weight, bias, residual, residual_out, dresidual, gate, dx, dweight, dbias, dgate;
  Shard shard;
  call.Operand(0, dy, Shape::kRows);
  call.Operand(1, x, Shape::kRows);
  call.Operand(2, weight, Shape::kAsIs);
  call.Operand(3, bias, Shape::kAsIs);
  call.Operand(4, residual, Shape::kRows);
  call.Operand(5, residual_out, Shape::kRows);
  call.Operand(6, dresidual, Shape::kRows);
  call.Operand(7, gate, Shape::kRows);
  call.Operand(8, shard.statistic, Shape::kAsIs);
  call.Operand(9, shard.gathered, Shape::kAsIs);
  call.Result(0, shard.partial, Shape::kAsIs);
  call.Result(1, dx, Shape::kRows);
  call.Result(2, dweight, Shape::kAsIs);
  call.Result(3, dbias, Shape::kAsIs);
  call.Result(4, dgate, Shape::kRows);
  const Executor executor(frame, dy.bytes());
  auto args = Sized<isonorm_backward_args>();
  args.dy = dy.get();
  args.x = x.get();
  args.weight = weight.get();
  args.bias = bias.get();
  args.residual = residual.get();
  args.residual_out = residual_out.get();
  args.dresidual = dresidual.get();
  args.gate = gate.get();
  args.executor = executor.get();
  const isonorm_shard given = shard.Make(call[kRanks]);
  if (shard.partial.get() != nullptr) {
    args.dx = x.get();  // as y in the forward pass
    return Checked(frame, isonorm_backward_partial(&call.contract(), call.eps(), &args, &given));
  }
  args.dx = dx.get();
  args.dweight = dweight.get();
  args.dbias = dbias.get();
  args.dgate = dgate.get();
  std::size_t size = 0;
  if (XLA_FFI_Error* const error = Checked(frame, isonorm_backward_workspace(&call.contract(), call.eps(), &args, &size))) {
    return error;
  }
  const auto workspace = size > 0 ? std::make_unique_for_overwrite<std::byte[]>(size) : nullptr;
  args.workspace = workspace.get();
  args.workspace_size = size;
  return Checked(frame, isonorm_backward_finish(&call.contract(), call.eps(), &args, &given));
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
