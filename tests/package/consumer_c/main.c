#include <isonorm/isonorm.h>
#include <stdio.h>

int main(void) {
  float x[2] = {3, 4}, y[2] = {0, 0};
  int64_t cols = 2;
  const isonorm_tensor tx = {x, {ISONORM_DEVICE_CPU, 0}, 1, ISONORM_F32, &cols, NULL, 0};
  const isonorm_tensor ty = {y, {ISONORM_DEVICE_CPU, 0}, 1, ISONORM_F32, &cols, NULL, 0};
  const isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  const isonorm_forward_args args = {.struct_size = sizeof args, .x = &tx, .y = &ty};
  if (isonorm_forward(&contract, 0.0, &args) != ISONORM_OK) {
    printf("%s\n", isonorm_last_error());
    return 1;
  }
  printf("isonorm %s: %.9g %.9g\n", isonorm_version(), (double)y[0], (double)y[1]);
  return 0;
}
