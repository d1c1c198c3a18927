// What XLA calls, by the names that python/isonorm/jax/_library.py registers.
#include <memory>

#include "frame.h"

namespace isonorm_jax {
namespace {

XLA_FFI_Error* Forward(const XLA_FFI_CallFrame& frame) {
  Call call(frame);
  Array x, weight, bias, residual, gate, y, residual_out, scale, mean, rstd;
  Rope rope;
  call.Operand(0, x, call.rows());
  call.Operand(1, weight, Shape::kAsIs);
  call.Operand(2, bias, Shape::kAsIs);
  call.Operand(3, residual, call.rows());
  call.Operand(4, gate, call.rows());
  rope.Read(call, 5);
  call.Result(0, y, call.rows());
  call.Result(1, residual_out, call.rows());
  call.Result(2, scale, call.per_scale());
  call.Result(3, mean, call.per_row());
  call.Result(4, rstd, call.per_row());
  const Quantization quantization(call);
  const Executor executor(frame, x.bytes());
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
  args.groups = call[kGroups];
  args.window = call[kWindow];
  args.quantization = quantization.get();
  args.executor = executor.get();
  for (std::int64_t item = 0; item < call.items(); ++item) {
    for (Array* array : {&x, &weight, &bias, &residual, &gate, &y, &residual_out, &scale, &mean, &rstd}) array->Select(item);
    args.rope = rope.Select(item);
    args.scale = scale.get() != nullptr ? scale.get() : quantization.scale();
    if (XLA_FFI_Error* const error = Checked(frame, isonorm_forward(&call.contract(), call.eps(), &args))) return error;
  }
  return nullptr;
}

XLA_FFI_Error* Backward(const XLA_FFI_CallFrame& frame) {
  Call call(frame);
  Array dy, x, weight, bias, residual, residual_out, dresidual, gate, mean, rstd, dx, dweight, dbias, dgate;
  Rope rope;
  call.Operand(0, dy, call.rows());
  call.Operand(1, x, call.rows());
  call.Operand(2, weight, Shape::kAsIs);
  call.Operand(3, bias, Shape::kAsIs);
  call.Operand(4, residual, call.rows());
  call.Operand(5, residual_out, call.rows());
  call.Operand(6, dresidual, call.rows());
  call.Operand(7, gate, call.rows());
  rope.Read(call, 8);
  call.Operand(11, mean, call.per_row());
  call.Operand(12, rstd, call.per_row());
  call.Result(0, dx, call.rows());
  call.Result(1, dweight, Shape::kAsIs);
  call.Result(2, dbias, Shape::kAsIs);
  call.Result(3, dgate, call.rows());
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
  args.mean = mean.get();
  args.rstd = rstd.get();
  args.dx = dx.get();
  args.dweight = dweight.get();
  args.dbias = dbias.get();
  args.dgate = dgate.get();
  args.groups = call[kGroups];
  args.window = call[kWindow];
  args.executor = executor.get();
  args.rope = rope.Select(0);
  std::size_t size = 0;
  if (XLA_FFI_Error* const error = Checked(frame, isonorm_backward_workspace(&call.contract(), call.eps(), &args, &size))) {
    return error;
  }
  const auto workspace = size > 0 ? std::make_unique_for_overwrite<std::byte[]>(size) : nullptr;
  args.workspace = workspace.get();
  args.workspace_size = size;
  for (std::int64_t item = 0; item < call.items(); ++item) {
    for (Array* array :
         {&dy, &x, &weight, &bias, &residual, &residual_out, &dresidual, &gate, &mean, &rstd, &dx, &dweight, &dbias, &dgate}) {
      array->Select(item);
    }
    args.rope = rope.Select(item);
    if (XLA_FFI_Error* const error = Checked(frame, isonorm_backward(&call.contract(), call.eps(), &args))) return error;
  }
  return nullptr;
}

}  // namespace
}  // namespace isonorm_jax

ISONORM_HANDLER isonorm_jax_forward(XLA_FFI_CallFrame* frame) { return isonorm_jax::Run(isonorm_jax::Forward, frame); }
ISONORM_HANDLER isonorm_jax_backward(XLA_FFI_CallFrame* frame) { return isonorm_jax::Run(isonorm_jax::Backward, frame); }
