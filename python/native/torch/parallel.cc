// sharded_forward, sharded_backward, combine_gradients: what several processes compute together (isonorm/parallel.h). Results
// are memory that Python has allocated, since a call takes several turns; what is sent and received is torch.distributed's.
#include "call.h"
#include "kernels.h"

namespace isonorm_torch {
namespace {

isonorm_shard ShardOf(std::int64_t ranks, const Input& partial, const Input& gathered, const Input& statistic) {
  auto shard = Sized<isonorm_shard>();
  shard.ranks = ranks;
  shard.partial = partial.get();
  shard.gathered = gathered.get();
  shard.statistic = statistic.get();
  return shard;
}

}  // namespace

// Memory for a result of that shape, compact and on huge pages where it is large.
void EmptyLike(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  const Handle like_handle = a.Tensor();
  const std::optional<std::int32_t> dtype = a.OptionalDtype();
  Input like;
  like.Read(like_handle);
  Output output;
  output.Allocate(like.ndim(), like.sizes(), dtype.value_or(like.dtype()));
  stack[0] = output.Release();
}

// Without `gathered` writes partial; with it takes the turn's end, and returns the next turn, 0 once y is written.
void ShardedForward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  const Handle x_handle = a.Tensor(), weight_handle = a.OptionalTensor(), bias_handle = a.OptionalTensor();
  const double eps = a.Double();
  const std::string name = a.String();
  const Handle residual_handle = a.OptionalTensor(), gate_handle = a.OptionalTensor();
  const std::int64_t ranks = a.Int();
  std::int32_t turn = a.Choice();
  const Handle partial_handle = a.Tensor(), gathered_handle = a.OptionalTensor(), statistic_handle = a.Tensor(),
               y_handle = a.Tensor(), residual_out_handle = a.OptionalTensor(), mean_handle = a.OptionalTensor(),
               rstd_handle = a.OptionalTensor();
  Input x, weight, bias, residual, gate, partial, gathered, statistic, y, residual_out, mean, rstd;
  x.Read(x_handle, Fold::kRows);
  weight.Read(weight_handle);
  bias.Read(bias_handle);
  residual.Read(residual_handle, Fold::kRows);
  gate.Read(gate_handle, Fold::kRows);
  partial.Read(partial_handle);
  gathered.Read(gathered_handle);
  statistic.Read(statistic_handle);
  y.Read(y_handle, Fold::kRows);
  residual_out.Read(residual_out_handle, Fold::kRows);
  mean.ReadPerRow(mean_handle, x, 1);
  rstd.ReadPerRow(rstd_handle, x, 1);
  const Executor executor;
  auto args = Sized<isonorm_forward_args>();
  args.x = x.get();
  args.weight = weight.get();
  args.bias = bias.get();
  args.residual = residual.get();
  args.gate = gate.get();
  args.y = y.get();
  args.residual_out = residual_out.get();
  args.mean = mean.get();
  args.rstd = rstd.get();
  args.executor = executor.get();
  const isonorm_shard shard = ShardOf(ranks, partial, gathered, statistic);
  const isonorm_contract contract = ContractOf(name);
  Check(gathered_handle ? isonorm_forward_finish(&contract, eps, &args, &shard, &turn)
                        : isonorm_forward_partial(&contract, eps, &args, &shard, turn));
  stack[0] = static_cast<StableIValue>(static_cast<std::int64_t>(turn));
}

// Without `gathered` writes partial, with it the gradients.
void ShardedBackward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  const Handle dy_handle = a.Tensor(), x_handle = a.OptionalTensor(), weight_handle = a.OptionalTensor(),
               bias_handle = a.OptionalTensor();
  const double eps = a.Double();
  const std::string name = a.String();
  const Handle residual_handle = a.OptionalTensor(), residual_out_handle = a.OptionalTensor(),
               dresidual_handle = a.OptionalTensor(), gate_handle = a.OptionalTensor();
  const std::int64_t ranks = a.Int();
  const Handle partial_handle = a.Tensor(), gathered_handle = a.OptionalTensor(), statistic_handle = a.Tensor(),
               dx_handle = a.OptionalTensor(), dweight_handle = a.OptionalTensor(), dbias_handle = a.OptionalTensor(),
               dgate_handle = a.OptionalTensor();
  Input dy, x, weight, bias, residual, residual_out, dresidual, gate, partial, gathered, statistic, dx, dweight, dbias, dgate;
  dy.Read(dy_handle, Fold::kRows);
  x.Read(x_handle, Fold::kRows);
  weight.Read(weight_handle);
  bias.Read(bias_handle);
  residual.Read(residual_handle, Fold::kRows);
  residual_out.Read(residual_out_handle, Fold::kRows);
  dresidual.Read(dresidual_handle, Fold::kRows);
  gate.Read(gate_handle, Fold::kRows);
  partial.Read(partial_handle);
  gathered.Read(gathered_handle);
  statistic.Read(statistic_handle);
  dx.Read(dx_handle, Fold::kRows);
  dweight.Read(dweight_handle);
  dbias.Read(dbias_handle);
  dgate.Read(dgate_handle, Fold::kRows);
  const Executor executor;
  auto args = Sized<isonorm_backward_args>();
  args.dy = dy.get();
  args.x = x.get();
  args.weight = weight.get();
  args.bias = bias.get();
  args.residual = residual.get();
  args.residual_out = residual_out.get();
  args.dresidual = dresidual.get();
  args.gate = gate.get();
  args.dx = dx.get();
  args.dweight = dweight.get();
  args.dbias = dbias.get();
  args.dgate = dgate.get();
  args.executor = executor.get();
  const isonorm_shard shard = ShardOf(ranks, partial, gathered, statistic);
  const isonorm_contract contract = ContractOf(name);
  if (!gathered_handle) {
    Check(isonorm_backward_partial(&contract, eps, &args, &shard));
    return;
  }
  RunWithWorkspace(contract, eps, args, isonorm_backward_workspace,
                   [&shard](const isonorm_contract* c, double e, const isonorm_backward_args* own) {
                     return isonorm_backward_finish(c, e, own, &shard);
                   });
}

void CombineGradients(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  const Handle parts_handle = a.Tensor(), gradient_handle = a.Tensor();
  const std::int64_t rows = a.Int(), part_rows = a.Int();
  Input parts, gradient;
  parts.Read(parts_handle);
  gradient.Read(gradient_handle);
  const Executor executor;
  auto args = Sized<isonorm_combine_args>();
  args.parts = parts.get();
  args.gradient = gradient.get();
  args.rows = rows;
  args.part_rows = part_rows;
  args.executor = executor.get();
  Check(isonorm_combine_gradients(&args));
}

}  // namespace isonorm_torch
