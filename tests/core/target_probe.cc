// Prints what a program sees of the target that ISONORM_TARGET names: the target, the status of each computation, the kernel
// that ran, and whether an output was written. target_test.cc starts it with several values.
#include <cstdio>

#include "isonorm/isonorm.h"
#include "support/rms.h"

int main() {
  float x[4] = {1, 2, 3, 4}, y[4] = {-7, -7, -7, -7}, rms[1] = {-7};
  unsigned char workspace[256];
  int64_t shape[2] = {1, 4}, rows[1] = {1};
  const isonorm_tensor tx = {x, {ISONORM_DEVICE_CPU, 0}, 2, ISONORM_F32, shape, nullptr, 0};
  const isonorm_tensor ty = {y, {ISONORM_DEVICE_CPU, 0}, 2, ISONORM_F32, shape, nullptr, 0};
  const isonorm_tensor trms = {rms, {ISONORM_DEVICE_CPU, 0}, 1, ISONORM_F32, rows, nullptr, 0};
  const isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  isonorm_forward_args forward = {};
  forward.struct_size = sizeof(forward);
  forward.x = &tx;
  forward.y = &ty;
  isonorm_backward_args backward = {};
  backward.struct_size = sizeof(backward);
  backward.dy = &tx;
  backward.x = &tx;
  backward.dx = &ty;
  backward.workspace = workspace;
  backward.workspace_size = sizeof(workspace);
  const isonorm_status statuses[] = {isonorm_forward(&contract, 1e-6, &forward), isonorm_backward(&contract, 1e-6, &backward),
                                     isonorm_test::Rms(&tx, &trms), isonorm_test::RmsBackward(&tx, &trms, &ty),
                                     isonorm_test::RmsPenalty(&tx, 1.0, &trms, &ty)};
  std::printf("%s|", isonorm_target());
  for (const isonorm_status status : statuses) std::printf("%s ", isonorm_status_name(status));
  const bool written = y[0] != -7 || y[3] != -7 || rms[0] != -7;
  std::printf("|%s|%s|%s", isonorm_last_kernel(), written ? "written" : "untouched", isonorm_last_error());
  return 0;
}
