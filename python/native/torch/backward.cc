// backward, qk_norm_backward, double_backward.
#include "call.h"
#include "kernels.h"

namespace isonorm_torch {
namespace {

constexpr std::int64_t kDy = 4;  // of the argument `needs` of double_backward, which has no bias

void LikeVector(Output& output, const Input& vector) { output.Allocate(vector.ndim(), vector.sizes(), vector.dtype()); }

// kUnrounded: dweight and dbias are of the compute type, whatever those of weight and bias are.
template <bool kUnrounded>
void BackwardOf(StableIValue* stack);

}  // namespace

// Of x, weight and bias alone.
void RmsNormBackward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  const Handle dy_handle = a.Tensor(), x_handle = a.Tensor(), weight_handle = a.OptionalTensor(),
               bias_handle = a.OptionalTensor(), rstd_handle = a.OptionalTensor();
  const std::int64_t needs = a.Int();
  const double eps = a.Double();
  const std::string name = a.String();

  Input dy, x, weight, bias, rstd;
  dy.Read(dy_handle, Fold::kRows);
  x.Read(x_handle, Fold::kRows);
  weight.Read(weight_handle);
  bias.Read(bias_handle);
  rstd.ReadPerRow(rstd_handle, x, 1);
  Output dx, dweight, dbias;
  if (needs & kX) dx.Like(x, x.dtype());
  if (needs & kWeight && weight_handle) LikeVector(dweight, weight);
  if (needs & kBias && bias_handle) LikeVector(dbias, bias);
  const Executor executor;
  auto args = Sized<isonorm_backward_args>();
  args.dy = dy.get();
  args.x = x.get();
  args.weight = weight.get();
  args.bias = bias.get();
  args.rstd = rstd.get();
  args.dx = dx.get();
  args.dweight = dweight.get();
  args.dbias = dbias.get();
  args.executor = executor.get();
  Check(WithWorkspace(ContractOf(name), eps, args, isonorm_backward_workspace, isonorm_backward));
  stack[0] = dx.Release();
  stack[1] = dweight.Release();
  stack[2] = dbias.Release();
}

void Backward(StableIValue* stack, std::uint64_t, std::uint64_t) { BackwardOf<false>(stack); }
void BackwardParts(StableIValue* stack, std::uint64_t, std::uint64_t) { BackwardOf<true>(stack); }

namespace {

template <bool kUnrounded>
void BackwardOf(StableIValue* stack) {
  Arguments a(stack);
  const Handle dy_handle = a.Tensor(), x_handle = a.OptionalTensor(), weight_handle = a.OptionalTensor(),
               rstd_handle = a.OptionalTensor();
  const std::int64_t needs = a.Int();
  const double eps = a.Double();
  const std::string name = a.String();
  const Handle mean_handle = a.OptionalTensor(), bias_handle = a.OptionalTensor(), residual_handle = a.OptionalTensor(),
               residual_out_handle = a.OptionalTensor(), dresidual_handle = a.OptionalTensor(),
               gate_handle = a.OptionalTensor();
  Rope rope(a);
  const std::int64_t groups = a.Int(), window = a.Int();
  const std::optional<std::int32_t> x_dtype = a.OptionalDtype();

  isonorm_base::BackwardInputs<Input> in;
  isonorm_base::BackwardOutputs<Output> out;
  Input mean, rstd;
  in.dy.Read(dy_handle, Fold::kRows);
  in.x.Read(x_handle, Fold::kRows);
  in.weight.Read(weight_handle);
  in.bias.Read(bias_handle);
  in.residual.Read(residual_handle, Fold::kRows);
  in.residual_out.Read(residual_out_handle, Fold::kRows);
  in.dresidual.Read(dresidual_handle, Fold::kRows);
  in.gate.Read(gate_handle, Fold::kRows);
  mean.ReadPerRow(mean_handle, in.dy, groups);
  rstd.ReadPerRow(rstd_handle, in.dy, groups);
  Output none;
  // Without x it is dx that tells the C ABI the type of x.
  if (needs & kX || !x_handle) out.dx.Like(in.dy, x_dtype.value_or(x_handle ? in.x.dtype() : in.dy.dtype()));
  const auto like = [&in](Output& output, const Input& vector) {
    output.Allocate(vector.ndim(), vector.sizes(), kUnrounded ? ComputeDtype(in.dy.dtype()) : vector.dtype());
  };
  if (needs & kWeight && weight_handle) like(out.dweight, in.weight);
  if (needs & kBias && bias_handle) like(out.dbias, in.bias);
  if (needs & kGate && gate_handle) out.dgate.Like(in.dy, in.gate.dtype());
  const Executor executor;
  auto args = Sized<isonorm_backward_args>();
  in.GiveTo(args);
  out.GiveTo(args);
  args.rope = rope.Get(in.dy);
  args.mean = mean.get();
  args.rstd = rstd.get();
  args.groups = groups;
  args.window = window;
  args.executor = executor.get();
  Check(WithWorkspace(ContractOf(name), eps, args, isonorm_backward_workspace, isonorm_backward));
  stack[0] = (needs & kX ? out.dx : none).Release();
  stack[1] = out.dweight.Release();
  stack[2] = out.dbias.Release();
  stack[3] = out.dgate.Release();
}

}  // namespace

void QkNormBackward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  const Handle dq_handle = a.Tensor(), dk_handle = a.Tensor(), q_handle = a.Tensor(), k_handle = a.Tensor(),
               q_weight_handle = a.OptionalTensor(), k_weight_handle = a.OptionalTensor();
  const std::int64_t needs = a.Int();
  const double eps = a.Double();
  const std::string name = a.String();
  Rope rope(a);

  Input dy[2], x[2], weight[2];
  dy[0].Read(dq_handle);
  dy[1].Read(dk_handle);
  x[0].Read(q_handle);
  x[1].Read(k_handle);
  weight[0].Read(q_weight_handle);
  weight[1].Read(k_weight_handle);
  Output dx[2], dweight[2];
  isonorm_backward_args args[2] = {Sized<isonorm_backward_args>(), Sized<isonorm_backward_args>()};
  for (int i = 0; i < 2; ++i) {
    dx[i].Like(x[i], x[i].dtype());
    if (needs & kWeight && weight[i].get() != nullptr) LikeVector(dweight[i], weight[i]);
    args[i].dy = dy[i].get();
    args[i].x = x[i].get();
    args[i].weight = weight[i].get();
    args[i].dx = dx[i].get();
    args[i].dweight = dweight[i].get();
  }
  args[0].rope = args[1].rope = rope.Get(x[0]);
  const Executor executor;
  args[0].executor = executor.get();
  args[0].also = &args[1];
  Check(WithWorkspace(ContractOf(name), eps, args[0], isonorm_backward_workspace, isonorm_backward));
  stack[0] = dx[0].Release();
  stack[1] = dx[1].Release();
  stack[2] = dweight[0].Release();
  stack[3] = dweight[1].Release();
}

void DoubleBackward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  const Handle dy_handle = a.Tensor(), x_handle = a.Tensor(), weight_handle = a.OptionalTensor(),
               rstd_handle = a.OptionalTensor(), ddx_handle = a.OptionalTensor(), ddweight_handle = a.OptionalTensor();
  const std::int64_t needs = a.Int();
  const double eps = a.Double();
  const std::string name = a.String();
  const std::int64_t groups = a.Int();

  Input dy, x, weight, rstd, ddx, ddweight;
  dy.Read(dy_handle, Fold::kRows);
  x.Read(x_handle, Fold::kRows);
  weight.Read(weight_handle);
  rstd.ReadPerRow(rstd_handle, x, groups);
  ddx.Read(ddx_handle, Fold::kRows);
  ddweight.Read(ddweight_handle);
  Output dx, dweight, ddy;
  if (needs & kX) dx.Like(x, x.dtype());
  if (needs & kWeight && weight_handle) LikeVector(dweight, weight);
  if (needs & kDy) ddy.Like(x, dy.dtype());
  const Executor executor;
  auto args = Sized<isonorm_double_backward_args>();
  args.dy = dy.get();
  args.x = x.get();
  args.weight = weight.get();
  args.rstd = rstd.get();
  args.ddx = ddx.get();
  args.ddweight = ddweight.get();
  args.dx = dx.get();
  args.dweight = dweight.get();
  args.ddy = ddy.get();
  args.groups = groups;
  args.executor = executor.get();
  Check(WithWorkspace(ContractOf(name), eps, args, isonorm_double_backward_workspace, isonorm_double_backward));
  stack[0] = dx.Release();
  stack[1] = dweight.Release();
  stack[2] = ddy.Release();
}

}  // namespace isonorm_torch
