// RMS of vectors, its gradient, and the penalty.
#include "frame.h"

namespace isonorm_jax {
namespace {

XLA_FFI_Error* Rms(const XLA_FFI_CallFrame& frame) {
  Call call(frame);
  Array x, rms;
  call.Operand(0, x, Shape::kRows);
  call.Result(0, rms, Shape::kPerRow);
  const Executor executor(frame, x.bytes());
  auto args = Sized<isonorm_rms_args>();
  args.x = x.get();
  args.rms = rms.get();
  args.executor = executor.get();
  return Checked(frame, isonorm_rms(&args));
}

XLA_FFI_Error* RmsBackward(const XLA_FFI_CallFrame& frame) {
  Call call(frame);
  Array x, drms, dx;
  call.Operand(0, x, Shape::kRows);
  call.Operand(1, drms, Shape::kPerRow);
  call.Result(0, dx, Shape::kRows);
  const Executor executor(frame, x.bytes());
  auto args = Sized<isonorm_rms_backward_args>();
  args.x = x.get();
  args.drms = drms.get();
  args.dx = dx.get();
  args.executor = executor.get();
  return Checked(frame, isonorm_rms_backward(&args));
}

XLA_FFI_Error* RmsPenalty(const XLA_FFI_CallFrame& frame) {
  Call call(frame);
  Array x, penalty, dx;
  call.Operand(0, x, Shape::kRows);
  call.Result(0, penalty, Shape::kPerRow);
  call.Result(1, dx, Shape::kRows);
  const Executor executor(frame, x.bytes());
  auto args = Sized<isonorm_rms_penalty_args>();
  args.x = x.get();
  args.penalty = penalty.get();
  args.dx = dx.get();
  args.lambda = call[kLambda];
  args.executor = executor.get();
  return Checked(frame, isonorm_rms_penalty(&args));
}

}  // namespace
}  // namespace isonorm_jax

ISONORM_HANDLER isonorm_jax_rms(XLA_FFI_CallFrame* frame) { return isonorm_jax::Run(isonorm_jax::Rms, frame); }
ISONORM_HANDLER isonorm_jax_rms_backward(XLA_FFI_CallFrame* frame) { return isonorm_jax::Run(isonorm_jax::RmsBackward, frame); }
ISONORM_HANDLER isonorm_jax_rms_penalty(XLA_FFI_CallFrame* frame) { return isonorm_jax::Run(isonorm_jax::RmsPenalty, frame); }
