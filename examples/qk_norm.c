/* Normalising the heads of q inside a packed projection [tokens, (q, k, v), heads, head_dim], in place, without a copy:
 * strides say where the heads lie. Each head is a row of its own. */
#include <isonorm/isonorm.h>
#include <stdio.h>

enum { TOKENS = 2, HEADS = 3, HEAD_DIM = 4 };

int main(void) {
  static float packed[TOKENS][3][HEADS][HEAD_DIM];
  float weight[HEAD_DIM] = {1, 1, 1, 1};
  int64_t cols = HEAD_DIM;
  int64_t shape[3] = {TOKENS, HEADS, HEAD_DIM};
  int64_t strides[3] = {3 * HEADS * HEAD_DIM, HEAD_DIM, 1}; /* in elements: the next token, the next head, the next value */
  float* values = &packed[0][0][0][0];
  for (int i = 0; i < TOKENS * 3 * HEADS * HEAD_DIM; ++i) values[i] = (float)(i % 7 + 1);

  const isonorm_tensor q = {packed, {ISONORM_DEVICE_CPU, 0}, 3, ISONORM_F32, shape, strides, 0};
  const isonorm_tensor w = {weight, {ISONORM_DEVICE_CPU, 0}, 1, ISONORM_F32, &cols, NULL, 0};
  const isonorm_contract contract = ISONORM_CONTRACT_LLAMA;
  const isonorm_forward_args args = {.struct_size = sizeof args, .x = &q, .weight = &w, .y = &q};
  if (isonorm_forward(&contract, 1e-6, &args) != ISONORM_OK) {
    fprintf(stderr, "%s\n", isonorm_last_error());
    return 1;
  }
  for (int h = 0; h < HEADS; ++h) {
    printf("q, head %d:", h);
    for (int j = 0; j < HEAD_DIM; ++j) printf(" %.6f", (double)packed[1][0][h][j]);
    printf("\n");
  }
  printf("k, untouched:");
  for (int j = 0; j < HEAD_DIM; ++j) printf(" %.6f", (double)packed[1][1][0][j]);
  printf("\n");
  return 0;
}
