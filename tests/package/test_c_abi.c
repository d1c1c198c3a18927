/* The C ABI from C11: layout, contracts, forward, backward, errors, introspection. Compiled with -std=c11 -pedantic -Werror. */
#include <isonorm/isonorm.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

static int failures = 0;

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      printf("%s:%d: %s is false\n", __FILE__, __LINE__, #condition); \
      printf("  last error: %s\n", isonorm_last_error());             \
      ++failures;                                                     \
    }                                                                 \
  } while (0)

/* The layout is a promise: DLPack's for tensors, and members are only ever added at the end of the others. */
_Static_assert(sizeof(isonorm_dtype) == 4, "DLDataType");
_Static_assert(sizeof(isonorm_device) == 8, "DLDevice");
_Static_assert(sizeof(isonorm_tensor) == 48, "DLTensor");
_Static_assert(offsetof(isonorm_tensor, device) == 8, "DLTensor");
_Static_assert(offsetof(isonorm_tensor, ndim) == 16, "DLTensor");
_Static_assert(offsetof(isonorm_tensor, dtype) == 20, "DLTensor");
_Static_assert(offsetof(isonorm_tensor, shape) == 24, "DLTensor");
_Static_assert(offsetof(isonorm_tensor, strides) == 32, "DLTensor");
_Static_assert(offsetof(isonorm_tensor, byte_offset) == 40, "DLTensor");
_Static_assert(sizeof(isonorm_contract) == 48, "contract");
_Static_assert(sizeof(isonorm_executor) == 32, "executor");
_Static_assert(sizeof(isonorm_quantization) == 40, "quantization");
_Static_assert(sizeof(isonorm_rope) == 48, "rope");
_Static_assert(sizeof(isonorm_forward_args) == 160, "forward");
_Static_assert(sizeof(isonorm_backward_args) == 192, "backward");
_Static_assert(sizeof(isonorm_double_backward_args) == 128, "double backward");
_Static_assert(sizeof(isonorm_rms_args) == 40, "RMS");
_Static_assert(sizeof(isonorm_rms_backward_args) == 48, "RMS, backward");
_Static_assert(sizeof(isonorm_rms_penalty_args) == 64, "penalty");
_Static_assert(sizeof(isonorm_shard) == 40, "shard");
_Static_assert(sizeof(isonorm_combine_args) == 64, "combination");

static isonorm_tensor vector_of(float* data, int64_t* size) {
  isonorm_tensor t = {data, {ISONORM_DEVICE_CPU, 0}, 1, ISONORM_F32, size, NULL, 0};
  return t;
}

static isonorm_tensor matrix_of(float* data, int64_t* shape) {
  isonorm_tensor t = {data, {ISONORM_DEVICE_CPU, 0}, 2, ISONORM_F32, shape, NULL, 0};
  return t;
}

/* Rows (3, 4) and (0, 0): mean squares 12.5 and 0. */
static void test_forward(void) {
  float x[4] = {3, 4, 0, 0}, y[4] = {9, 9, 9, 9}, w[2] = {2, -1}, rstd[2];
  int64_t shape[2] = {2, 2}, cols = 2, rows = 2;
  isonorm_tensor tx = matrix_of(x, shape), ty = matrix_of(y, shape), tw = vector_of(w, &cols), tr = vector_of(rstd, &rows);
  const isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  const isonorm_forward_args args = {.struct_size = sizeof args, .x = &tx, .weight = &tw, .y = &ty, .rstd = &tr};
  CHECK(isonorm_forward(&contract, 0.5, &args) == ISONORM_OK);
  const float r0 = (float)(1.0 / sqrt(13.0)), r1 = (float)(1.0 / sqrt(0.5));
  CHECK(rstd[0] == r0 && rstd[1] == r1);
  CHECK(y[0] == 3 * r0 * 2 && y[1] == -(4 * r0) && y[2] == 0 && y[3] == 0);
  const char* kernel = isonorm_last_kernel();
  CHECK(strncmp(kernel, "forward.", 8) == 0);
  CHECK(strchr(kernel, '@') != NULL && strcmp(strchr(kernel, '@') + 1, isonorm_target()) == 0);
}

/* docs/numerics.md: dx is orthogonal to x where eps is 0, and dweight sums dy * x * rstd over the rows. */
static void test_backward(void) {
  float x[2] = {3, 4}, dy[2] = {1, 0}, w[2] = {1, 1}, dx[2] = {9, 9}, dw[2] = {9, 9}, db[2] = {9, 9};
  int64_t shape[2] = {1, 2}, cols = 2;
  isonorm_tensor tx = matrix_of(x, shape), tdy = matrix_of(dy, shape), tdx = matrix_of(dx, shape);
  isonorm_tensor tw = vector_of(w, &cols), tdw = vector_of(dw, &cols), tdb = vector_of(db, &cols);
  const isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  char workspace[4096];
  size_t bytes = 0;
  isonorm_backward_args args = {
      .struct_size = sizeof args, .dy = &tdy, .x = &tx, .weight = &tw, .dx = &tdx, .dweight = &tdw, .dbias = &tdb};
  CHECK(isonorm_backward_workspace(&contract, 0.0, &args, &bytes) == ISONORM_OK);
  CHECK(bytes <= sizeof workspace);
  args.workspace = workspace;
  args.workspace_size = bytes;
  CHECK(isonorm_backward(&contract, 0.0, &args) == ISONORM_OK);
  const float r = (float)(1.0 / sqrt(12.5)), c0 = 3 * r, c1 = 4 * r, f = c0 / 2;
  CHECK(dw[0] == c0 && dw[1] == 0 && db[0] == 1 && db[1] == 0);
  CHECK(dx[0] == r * fmaf(-c0, f, 1) && dx[1] == r * fmaf(-c1, f, 0));
}

/* docs/numerics.md, "Double backward": without eps, weight and ddweight, with one element in each lane. */
static void test_double_backward(void) {
  float x[2] = {3, 4}, dy[2] = {4, -3}, ddx[2] = {1, 0}, dx[2] = {9, 9}, ddy[2] = {9, 9};
  int64_t shape[2] = {1, 2};
  isonorm_tensor tx = matrix_of(x, shape), tdy = matrix_of(dy, shape), tddx = matrix_of(ddx, shape);
  isonorm_tensor tdx = matrix_of(dx, shape), tddy = matrix_of(ddy, shape);
  const isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  size_t bytes = 1;
  const isonorm_double_backward_args args = {
      .struct_size = sizeof args, .dy = &tdy, .x = &tx, .ddx = &tddx, .dx = &tdx, .ddy = &tddy};
  CHECK(isonorm_double_backward_workspace(&contract, 0.0, &args, &bytes) == ISONORM_OK && bytes == 0);
  CHECK(isonorm_double_backward(&contract, 0.0, &args) == ISONORM_OK);
  const float r = (float)(1.0 / sqrt(12.5)), c0 = 3 * r, c1 = 4 * r, p = r, b = p * c0 / 2, q = p * 4 / 2;
  const float a = (4 * c0 + -3 * c1) / 2, s = fmaf(-3.0f, a * b, q);
  CHECK(ddy[0] == fmaf(-c0, b, p) && ddy[1] == fmaf(-c1, b, 0));
  CHECK(dx[0] == fmaf(-c0, s, fmaf(-b, 4, -a * p)) * r && dx[1] == fmaf(-c1, s, fmaf(-b, -3, -a * 0)) * r);
}

static void test_errors(void) {
  float x[4] = {1, 2, 3, 4}, y[4] = {9, 9, 9, 9}, w[1] = {1};
  int64_t shape[2] = {2, 2}, one = 1;
  isonorm_tensor tx = matrix_of(x, shape), ty = matrix_of(y, shape), tw = vector_of(w, &one);
  isonorm_contract contract = ISONORM_CONTRACT_LLAMA;
  isonorm_forward_args args = {.struct_size = sizeof args, .x = &tx, .y = &ty};
  CHECK(isonorm_forward(NULL, 1e-6, &args) == ISONORM_ERROR_NULL);
  CHECK(isonorm_forward(&contract, -1.0, &args) == ISONORM_ERROR_EPS);
  CHECK(strstr(isonorm_last_error(), "eps") != NULL);
  contract.scaled_rounding = 0;
  CHECK(isonorm_forward(&contract, 1e-6, &args) == ISONORM_ERROR_CONTRACT);
  contract.scaled_rounding = ISONORM_ROUND_TO_X;
  args.weight = &tw;
  CHECK(isonorm_forward(&contract, 1e-6, &args) == ISONORM_ERROR_SHAPE);
  CHECK(strstr(isonorm_last_error(), "weight") != NULL);
  CHECK(y[0] == 9 && y[1] == 9 && y[2] == 9 && y[3] == 9);
  CHECK(isonorm_set_target("no such target") == ISONORM_ERROR_TARGET);
}

static void test_names(void) {
  isonorm_contract contract;
  const isonorm_contract gemma = ISONORM_CONTRACT_GEMMA;
  char version[32];
  CHECK(isonorm_contract_count() == 10 && isonorm_contract_name(isonorm_contract_count()) == NULL);
  for (size_t i = 0; i < isonorm_contract_count(); ++i) {
    CHECK(isonorm_contract_by_name(isonorm_contract_name(i), &contract, sizeof(contract)) == ISONORM_OK);
    CHECK(contract.struct_size == sizeof contract);
  }
  CHECK(isonorm_contract_by_name("gemma", &contract, sizeof(contract)) == ISONORM_OK);
  CHECK(memcmp(&contract, &gemma, sizeof gemma) == 0);
  CHECK(isonorm_contract_by_name("Gemma", &contract, sizeof(contract)) == ISONORM_ERROR_CONTRACT);
  snprintf(version, sizeof version, "%d.%d.%d", ISONORM_VERSION_MAJOR, ISONORM_VERSION_MINOR, ISONORM_VERSION_PATCH);
  CHECK(strcmp(isonorm_version(), version) == 0);
  CHECK(strcmp(isonorm_status_name(ISONORM_ERROR_EPS), "ISONORM_ERROR_EPS") == 0);
  CHECK(strcmp(isonorm_status_name((isonorm_status)12345), "unknown status") == 0);
  CHECK(isonorm_target_count() >= 1);
  CHECK(strcmp(isonorm_target_name(isonorm_target_count() - 1), "reference") == 0);
  CHECK(isonorm_target_name(isonorm_target_count()) == NULL && isonorm_kernel_name(isonorm_kernel_count()) == NULL);
  for (size_t i = 0; i < isonorm_target_count(); ++i) {
    CHECK(isonorm_set_target(isonorm_target_name(i)) == ISONORM_OK);
    CHECK(strcmp(isonorm_target(), isonorm_target_name(i)) == 0);
    test_forward();
    test_backward();
    test_double_backward();
  }
  CHECK(isonorm_set_target(NULL) == ISONORM_OK);
}

static void test_rms(void) {
  float x[2] = {3e30f, 4e30f}, rms[1], drms[1] = {1}, dx[2];
  int64_t cols = 2, one = 1;
  isonorm_tensor tx = vector_of(x, &cols), tr = vector_of(rms, &one), tdr = vector_of(drms, &one), tdx = vector_of(dx, &cols);
  const isonorm_rms_args args = {.struct_size = sizeof args, .x = &tx, .rms = &tr};
  CHECK(isonorm_rms(&args) == ISONORM_OK);
  CHECK(!(fabs(rms[0] / (5e30 / sqrt(2.0)) - 1) > 2e-7)); /* two roundings to f32 and the input's own */
  const isonorm_rms_backward_args back = {.struct_size = sizeof back, .x = &tx, .drms = &tdr, .dx = &tdx};
  CHECK(isonorm_rms_backward(&back) == ISONORM_OK);
  CHECK(dx[0] > 0 && dx[0] < dx[1] && dx[1] < 1);
  x[0] = x[1] = 2;
  const isonorm_rms_penalty_args penalty = {.struct_size = sizeof penalty, .x = &tx, .penalty = &tr, .dx = &tdx, .lambda = 0.5};
  CHECK(isonorm_rms_penalty(&penalty) == ISONORM_OK);
  CHECK(rms[0] == 2 && dx[0] == 1 && dx[1] == 1);
}

/* One rank, whose row is the whole one; and a gradient of two parts. */
static void test_parallel(void) {
  float x[2] = {3, 4}, y[2] = {9, 9}, partial[1], statistic[4], parts[4] = {1, 2, 30, 40}, sum[2];
  int64_t shape[2] = {1, 2}, one[2] = {1, 1}, of_gathered[3] = {1, 1, 1}, four[2] = {1, 4}, two[2] = {2, 2}, cols = 2;
  int32_t round = 0;
  isonorm_tensor tx = matrix_of(x, shape), ty = matrix_of(y, shape), tp = matrix_of(partial, one),
                 ts = matrix_of(statistic, four);
  isonorm_tensor tg = {partial, {ISONORM_DEVICE_CPU, 0}, 3, ISONORM_F32, of_gathered, NULL, 0};
  const isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  const isonorm_forward_args args = {.struct_size = sizeof args, .x = &tx, .y = &ty};
  const isonorm_shard shard = {.struct_size = sizeof shard, .ranks = 1, .partial = &tp, .gathered = &tg, .statistic = &ts};
  CHECK(isonorm_forward_partial(&contract, 0.5, &args, &shard, round) == ISONORM_OK);
  CHECK(partial[0] == 25 && y[0] == 9);
  CHECK(isonorm_forward_finish(&contract, 0.5, &args, &shard, &round) == ISONORM_OK);
  CHECK(round == 0 && statistic[1] == 25);
  CHECK(y[0] == 3 * (float)(1.0 / sqrt(13.0)) && y[1] == 4 * (float)(1.0 / sqrt(13.0)));
  isonorm_tensor tparts = matrix_of(parts, two), tsum = vector_of(sum, &cols);
  const isonorm_combine_args combine = {
      .struct_size = sizeof combine, .parts = &tparts, .gradient = &tsum, .rows = 50, .part_rows = 32};
  CHECK(isonorm_combine_gradients(&combine) == ISONORM_OK);
  CHECK(sum[0] == 31 && sum[1] == 42);
  CHECK(isonorm_max_ranks(4096) == 8);
}

int main(void) {
  test_names();
  test_errors();
  test_rms();
  test_parallel();
  if (failures == 0) printf("The C ABI works from C11.\n");
  return failures != 0;
}
