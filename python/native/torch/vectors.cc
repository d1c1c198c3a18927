// rms, rms_backward, rms_penalty.
#include "call.h"
#include "kernels.h"

namespace isonorm_torch {

void Rms(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  const Handle x_handle = a.Tensor();
  Input x;
  x.Read(x_handle, Fold::kRows);
  Output rms;
  rms.PerRow(x, 0, ComputeDtype(x.dtype()));
  const Executor executor;
  auto args = Sized<isonorm_rms_args>();
  args.x = x.get();
  args.rms = rms.get();
  args.executor = executor.get();
  Check(isonorm_rms(&args));
  stack[0] = rms.Release();
}

void RmsBackward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  const Handle x_handle = a.Tensor(), drms_handle = a.Tensor();
  Input x, drms;
  x.Read(x_handle, Fold::kRows);
  drms.ReadPerRow(drms_handle, x, 0);
  Output dx;
  dx.Like(x, x.dtype());
  const Executor executor;
  auto args = Sized<isonorm_rms_backward_args>();
  args.x = x.get();
  args.drms = drms.get();
  args.dx = dx.get();
  args.executor = executor.get();
  Check(isonorm_rms_backward(&args));
  stack[0] = dx.Release();
}

// The gradient is in the compute type: it still has to be multiplied by that of the penalty.
void RmsPenalty(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  const Handle x_handle = a.Tensor();
  const double lambda = a.Double();
  const bool want_penalty = a.Bool(), want_gradient = a.Bool();
  Input x;
  x.Read(x_handle, Fold::kRows);
  Output penalty, dx;
  if (want_penalty) penalty.PerRow(x, 0, ComputeDtype(x.dtype()));
  if (want_gradient) dx.Like(x, ComputeDtype(x.dtype()));
  const Executor executor;
  auto args = Sized<isonorm_rms_penalty_args>();
  args.x = x.get();
  args.penalty = penalty.get();
  args.dx = dx.get();
  args.lambda = lambda;
  args.executor = executor.get();
  Check(isonorm_rms_penalty(&args));
  stack[0] = penalty.Release();
  stack[1] = dx.Release();
}

}  // namespace isonorm_torch
