// rms_norm, forward, quantized, qk_norm.
#include "kernels.h"

#include <stdexcept>
#include <string>

#include "call.h"

namespace isonorm_torch {
namespace {

void AllocateStatistics(const Input& x, std::int64_t groups, bool want_mean, bool want_rstd,
                        isonorm_base::ForwardOutputs<Output>& out) {
  const std::int32_t dtype = ComputeDtype(x.dtype());
  // Of groups that the call will refuse, nothing of their size is made.
  const std::int64_t cols = x.ndim() > 0 ? x.sizes()[x.ndim() - 1] : 0, count = groups > 1 && groups <= cols ? groups : 0;
  if (want_mean) out.mean.PerRow(x, count, dtype);
  if (want_rstd) out.rstd.PerRow(x, count, dtype);
}

// The arguments that forward and quantized share.
struct General {
  Handle x_handle, weight_handle, bias_handle;
  double eps;
  std::string contract;
  bool want_rstd, want_mean;
  Handle residual_handle, gate_handle;
  Rope rope;
  std::int64_t groups, window;
  std::optional<std::int32_t> dtype;

  isonorm_base::ForwardInputs<Input> in;
  isonorm_base::ForwardOutputs<Output> out;
  isonorm_forward_args args = Sized<isonorm_forward_args>();
  const Executor executor;

  explicit General(Arguments& a)
      : x_handle(a.Tensor()),
        weight_handle(a.OptionalTensor()),
        bias_handle(a.OptionalTensor()),
        eps(a.Double()),
        contract(a.String()),
        want_rstd(a.Bool()),
        want_mean(a.Bool()),
        residual_handle(a.OptionalTensor()),
        gate_handle(a.OptionalTensor()),
        rope(a),
        groups(a.Int()),
        window(a.Int()),
        dtype(a.OptionalDtype()) {}

  // `prepare` adds to the arguments once x is read.
  template <class Prepare>
  void Run(const Prepare& prepare) {
    in.x.Read(x_handle, Fold::kRows);
    in.weight.Read(weight_handle);
    in.bias.Read(bias_handle);
    in.residual.Read(residual_handle, Fold::kRows);
    in.gate.Read(gate_handle, Fold::kRows);
    out.y.Like(in.x, dtype.value_or(in.x.dtype()));
    if (residual_handle) out.residual_out.Like(in.x, in.residual.dtype());
    AllocateStatistics(in.x, groups, want_mean, want_rstd, out);
    in.GiveTo(args);
    out.GiveTo(args);
    args.rope = rope.Get(in.x);
    args.groups = groups;
    args.window = window;
    args.executor = executor.get();
    prepare();
    const isonorm_contract parsed = ContractOf(contract);
    Check(isonorm_forward(&parsed, eps, &args));
  }
};

}  // namespace

// y, and rstd where the operator has two results.
void RmsNorm(StableIValue* stack, std::uint64_t, std::uint64_t results) {
  Arguments a(stack);
  const Handle x_handle = a.Tensor(), weight_handle = a.OptionalTensor(), bias_handle = a.OptionalTensor();
  const double eps = a.Double();
  const std::string name = a.String();
  Input x, weight, bias;
  x.Read(x_handle, Fold::kRows);
  weight.Read(weight_handle);
  bias.Read(bias_handle);
  Output y, rstd;
  y.Like(x, x.dtype());
  if (results > 1) rstd.PerRow(x, 0, ComputeDtype(x.dtype()));
  const Executor executor;
  auto args = Sized<isonorm_forward_args>();
  args.rstd = rstd.get();
  args.x = x.get();
  args.weight = weight.get();
  args.bias = bias.get();
  args.y = y.get();
  args.executor = executor.get();
  const isonorm_contract contract = ContractOf(name);
  Check(isonorm_forward(&contract, eps, &args));
  stack[0] = y.Release();
  if (results > 1) stack[1] = rstd.Release();
}

void Forward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  General call(a);
  call.Run([] {});
  stack[0] = call.out.y.Release();
  stack[1] = call.out.residual_out.Release();
  stack[2] = call.out.mean.Release();
  stack[3] = call.out.rstd.Release();
}

void Quantized(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  General call(a);
  const Handle scale_handle = a.OptionalTensor();
  auto quantization = Sized<isonorm_quantization>();
  quantization.scale_kind = a.Choice();
  const std::int32_t rounded_to = a.Choice();
  quantization.group_cols = a.Int();
  quantization.min_scale = a.Double();
  quantization.scale_ub = a.Double();
  constexpr isonorm_dtype kRoundedTo[] = {{0, 0, 0}, ISONORM_BF16, ISONORM_F16};
  if (rounded_to < 0 || rounded_to > 2) {
    throw std::runtime_error("rounded_to is " + std::to_string(rounded_to) + ", but must be 0 (none), 1 (bf16) or 2 (f16).");
  }
  quantization.rounded_to = kRoundedTo[rounded_to];
  call.args.quantization = &quantization;
  Input given;
  given.Read(scale_handle);
  call.args.scale = given.get();
  Output scale;
  call.Run([&] {
    if (scale_handle || call.in.x.ndim() == 0) return;
    const std::int64_t cols = call.in.x.sizes()[call.in.x.ndim() - 1];
    const std::int64_t count = quantization.group_cols > 0 ? cols / quantization.group_cols : 0;
    scale.PerRow(call.in.x, count, TorchDtype(quantization.scale_kind == ISONORM_SCALE_DYNAMIC ? ISONORM_F32 : ISONORM_U8));
    call.args.scale = scale.get();
  });
  stack[0] = call.out.y.Release();
  stack[1] = call.out.residual_out.Release();
  stack[2] = scale.Release();
  stack[3] = call.out.mean.Release();
  stack[4] = call.out.rstd.Release();
}

// q and k in one call.
void QkNorm(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  const Handle q_handle = a.Tensor(), k_handle = a.Tensor();
  const Handle q_weight_handle = a.OptionalTensor(), k_weight_handle = a.OptionalTensor();
  const double eps = a.Double();
  const std::string name = a.String();
  Rope rope(a);
  Input q, k, q_weight, k_weight;
  q.Read(q_handle);
  k.Read(k_handle);
  q_weight.Read(q_weight_handle);
  k_weight.Read(k_weight_handle);
  Output q_out, k_out;
  q_out.Like(q, q.dtype());
  k_out.Like(k, k.dtype());
  const Executor executor;
  auto first = Sized<isonorm_forward_args>(), second = Sized<isonorm_forward_args>();
  first.x = q.get();
  first.weight = q_weight.get();
  first.y = q_out.get();
  second.x = k.get();
  second.weight = k_weight.get();
  second.y = k_out.get();
  first.rope = second.rope = rope.Get(q);
  first.also = &second;
  first.executor = executor.get();
  const isonorm_contract contract = ContractOf(name);
  Check(isonorm_forward(&contract, eps, &first));
  stack[0] = q_out.Release();
  stack[1] = k_out.Release();
}

}  // namespace isonorm_torch
