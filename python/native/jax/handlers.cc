// What XLA calls, by the names that python/isonorm/jax/_library.py registers.
#include "frame.h"

namespace isonorm_jax {
namespace {

XLA_FFI_Error* Forward(const XLA_FFI_CallFrame& frame) {
  Call call(frame);
  isonorm_base::ForwardInputs<Array> in;
  isonorm_base::ForwardOutputs<Array> out;
  Array scale;
  Rope rope;
  Read(call, in);
  rope.Read(call, 5);
  call.Result(0, out.y, call.rows());
  call.Result(1, out.residual_out, call.rows());
  call.Result(2, scale, call.per_scale());
  call.Result(3, out.mean, call.per_row());
  call.Result(4, out.rstd, call.per_row());
  const Quantization quantization(call);
  const Executor executor(frame, in.x.bytes());
  auto args = Sized<isonorm_forward_args>();
  in.GiveTo(args);
  out.GiveTo(args);
  args.groups = call[kGroups];
  args.window = call[kWindow];
  args.quantization = quantization.get();
  args.executor = executor.get();
  for (std::int64_t item = 0; item < call.items(); ++item) {
    for (Array* array :
         {&in.x, &in.weight, &in.bias, &in.residual, &in.gate, &out.y, &out.residual_out, &scale, &out.mean, &out.rstd}) {
      array->Select(item);
    }
    args.rope = rope.Select(item);
    args.scale = scale.get() != nullptr ? scale.get() : quantization.scale();
    if (XLA_FFI_Error* const error = Checked(frame, isonorm_forward(&call.contract(), call.eps(), &args))) return error;
  }
  return nullptr;
}

XLA_FFI_Error* Backward(const XLA_FFI_CallFrame& frame) {
  Call call(frame);
  isonorm_base::BackwardInputs<Array> in;
  isonorm_base::BackwardOutputs<Array> out;
  Array mean, rstd;
  Rope rope;
  Read(call, in);
  rope.Read(call, 8);
  call.Operand(11, mean, call.per_row());
  call.Operand(12, rstd, call.per_row());
  call.Result(0, out.dx, call.rows());
  call.Result(1, out.dweight, Shape::kAsIs);
  call.Result(2, out.dbias, Shape::kAsIs);
  call.Result(3, out.dgate, call.rows());
  const Executor executor(frame, in.dy.bytes());
  auto args = Sized<isonorm_backward_args>();
  in.GiveTo(args);
  out.GiveTo(args);
  args.mean = mean.get();
  args.rstd = rstd.get();
  args.groups = call[kGroups];
  args.window = call[kWindow];
  args.executor = executor.get();
  args.rope = rope.Select(0);
  const auto each_item = [&](const isonorm_contract* contract, double eps, isonorm_backward_args* own) {
    isonorm_status status = ISONORM_OK;
    for (std::int64_t item = 0; item < call.items() && status == ISONORM_OK; ++item) {
      for (Array* array : {&in.dy, &in.x, &in.weight, &in.bias, &in.residual, &in.residual_out, &in.dresidual, &in.gate, &mean,
                           &rstd, &out.dx, &out.dweight, &out.dbias, &out.dgate}) {
        array->Select(item);
      }
      own->rope = rope.Select(item);
      status = isonorm_backward(contract, eps, own);
    }
    return status;
  };
  return Checked(frame, isonorm_base::WithWorkspace(call.contract(), call.eps(), args, isonorm_backward_workspace, each_item));
}

}  // namespace
}  // namespace isonorm_jax

ISONORM_HANDLER isonorm_jax_forward(XLA_FFI_CallFrame* frame) { return isonorm_jax::Run(isonorm_jax::Forward, frame); }
ISONORM_HANDLER isonorm_jax_backward(XLA_FFI_CallFrame* frame) { return isonorm_jax::Run(isonorm_jax::Backward, frame); }
