/* A program of version 0.2.0: compiled with the headers beside it, whose copy is frozen, and linked with today's library. It uses
 * every structure and every function that takes one. Compiled once more with ISONORM_NEWER, whose headers have a field behind the
 * others of each structure, it is a program of a later version than the library. */
#include <isonorm/isonorm.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

static int failures = 0;

#define CHECK(condition)                                                                      \
  do {                                                                                        \
    if (condition) break;                                                                     \
    printf("%s:%d: %s is false; %s\n", __FILE__, __LINE__, #condition, isonorm_last_error()); \
    ++failures;                                                                               \
  } while (0)

/* A call that is right while the newer field is 0, and refused, by the name of the structure, where it is not. */
#ifdef ISONORM_NEWER
#define RUN(name, structure, call)                      \
  do {                                                  \
    (structure).newer = &failures;                      \
    CHECK((call) == ISONORM_ERROR_STRUCT_SIZE);         \
    CHECK(strstr(isonorm_last_error(), #name) != NULL); \
    (structure).newer = NULL;                           \
    CHECK((call) == ISONORM_OK);                        \
  } while (0)
#else
#define RUN(name, structure, call) CHECK((call) == ISONORM_OK)
#endif

static isonorm_tensor tensor_of(void* data, isonorm_dtype dtype, int32_t ndim, int64_t* shape) {
  isonorm_tensor t = {data, {ISONORM_DEVICE_CPU, 0}, ndim, dtype, shape, NULL, 0};
  return t;
}

static void one_by_one(void* context, int64_t count, void (*task)(void* task_context, int64_t index), void* task_context) {
  (void)context;
  for (int64_t i = 0; i < count; ++i) task(task_context, i);
}

static int64_t shape[2] = {1, 2}, cols = 2, one = 1;
static isonorm_executor executor = {.struct_size = sizeof(isonorm_executor), .concurrency = 2, .parallel_for = one_by_one};

/* The row (3, 4), whose mean square is 12.5, turned by no angle, twice in one call. */
static void forward(isonorm_contract* contract) {
  float x[2] = {3, 4}, y[2], y2[2], rstd[1], cosine[1] = {1}, sine[1] = {0};
  isonorm_tensor tx = tensor_of(x, ISONORM_F32, 2, shape), ty = tensor_of(y, ISONORM_F32, 2, shape);
  isonorm_tensor ty2 = tensor_of(y2, ISONORM_F32, 2, shape), tr = tensor_of(rstd, ISONORM_F32, 1, &one);
  int64_t table[2] = {1, 1};
  isonorm_tensor tc = tensor_of(cosine, ISONORM_F32, 2, table), ts = tensor_of(sine, ISONORM_F32, 2, table);
  isonorm_rope rope = {.struct_size = sizeof rope, .style = ISONORM_ROPE_HALF, .cos = &tc, .sin = &ts};
  isonorm_forward_args also = {.struct_size = sizeof also, .x = &tx, .y = &ty2, .rstd = &tr};
  isonorm_forward_args args = {
      .struct_size = sizeof args, .x = &tx, .rope = &rope, .y = &ty, .executor = &executor, .also = &also};
  size_t bytes = 1;
  RUN(isonorm_forward_args, args, isonorm_forward_workspace(contract, 0.0, &args, &bytes));
  CHECK(bytes == 0);
  RUN(isonorm_forward_args, args, isonorm_forward(contract, 0.0, &args));
  RUN(isonorm_forward_args, also, isonorm_forward(contract, 0.0, &args));
  RUN(isonorm_contract, *contract, isonorm_forward(contract, 0.0, &args));
  RUN(isonorm_executor, executor, isonorm_forward(contract, 0.0, &args));
  RUN(isonorm_rope, rope, isonorm_forward(contract, 0.0, &args));
  const float r = (float)(1.0 / sqrt(12.5));
  CHECK(rstd[0] == r && y[0] == 3 * r && y[1] == 4 * r && y2[0] == y[0] && y2[1] == y[1]);
}

static void quantized(const isonorm_contract* contract) {
  float x[2] = {3, -3}, scale[1];
  int8_t y[2];
  isonorm_tensor tx = tensor_of(x, ISONORM_F32, 2, shape), ty = tensor_of(y, ISONORM_I8, 2, shape);
  isonorm_tensor ts = tensor_of(scale, ISONORM_F32, 1, &one);
  isonorm_quantization quantization = {.struct_size = sizeof quantization, .scale_kind = ISONORM_SCALE_DYNAMIC};
  const isonorm_forward_args args = {
      .struct_size = sizeof args, .x = &tx, .quantization = &quantization, .scale = &ts, .y = &ty};
  RUN(isonorm_quantization, quantization, isonorm_forward(contract, 0.0, &args));
  CHECK(y[0] == 127 && y[1] == -127);
}

static void backward(const isonorm_contract* contract) {
  float x[2] = {3, 4}, dy[2] = {1, 0}, w[2] = {1, 1}, dx[2], dw[2], db[2], ddx[2] = {1, 0}, ddy[2];
  isonorm_tensor tx = tensor_of(x, ISONORM_F32, 2, shape), tdy = tensor_of(dy, ISONORM_F32, 2, shape);
  isonorm_tensor tdx = tensor_of(dx, ISONORM_F32, 2, shape), tw = tensor_of(w, ISONORM_F32, 1, &cols);
  isonorm_tensor tdw = tensor_of(dw, ISONORM_F32, 1, &cols), tdb = tensor_of(db, ISONORM_F32, 1, &cols);
  isonorm_tensor tddx = tensor_of(ddx, ISONORM_F32, 2, shape), tddy = tensor_of(ddy, ISONORM_F32, 2, shape);
  char workspace[4096];
  isonorm_backward_args args = {
      .struct_size = sizeof args, .dy = &tdy, .x = &tx, .weight = &tw, .dx = &tdx, .dweight = &tdw, .dbias = &tdb};
  args.workspace = workspace;
  RUN(isonorm_backward_args, args, isonorm_backward_workspace(contract, 0.0, &args, &args.workspace_size));
  CHECK(args.workspace_size <= sizeof workspace);
  RUN(isonorm_backward_args, args, isonorm_backward(contract, 0.0, &args));
  const float r = (float)(1.0 / sqrt(12.5)), c0 = 3 * r, c1 = 4 * r, b = r * c0 / 2;
  CHECK(dw[0] == c0 && dw[1] == 0 && db[0] == 1 && db[1] == 0);
  isonorm_double_backward_args twice = {.struct_size = sizeof twice, .dy = &tdy, .x = &tx, .ddx = &tddx, .ddy = &tddy};
  RUN(isonorm_double_backward_args, twice, isonorm_double_backward_workspace(contract, 0.0, &twice, &twice.workspace_size));
  RUN(isonorm_double_backward_args, twice, isonorm_double_backward(contract, 0.0, &twice));
  CHECK(ddy[0] == fmaf(-c0, b, r) && ddy[1] == fmaf(-c1, b, 0));
}

static void rms_of_vectors(void) {
  float x[2] = {2, 2}, rms[1], dx[2], drms[1] = {1};
  isonorm_tensor tx = tensor_of(x, ISONORM_F32, 1, &cols), tdx = tensor_of(dx, ISONORM_F32, 1, &cols);
  isonorm_tensor tr = tensor_of(rms, ISONORM_F32, 1, &one), tdr = tensor_of(drms, ISONORM_F32, 1, &one);
  isonorm_rms_args args = {.struct_size = sizeof args, .x = &tx, .rms = &tr};
  RUN(isonorm_rms_args, args, isonorm_rms(&args));
  CHECK(rms[0] == 2);
  isonorm_rms_backward_args back = {.struct_size = sizeof back, .x = &tx, .drms = &tdr, .dx = &tdx};
  RUN(isonorm_rms_backward_args, back, isonorm_rms_backward(&back));
  CHECK(dx[0] == 0.5f && dx[1] == 0.5f);
  isonorm_rms_penalty_args penalty = {.struct_size = sizeof penalty, .x = &tx, .penalty = &tr, .dx = &tdx, .lambda = 0.5};
  RUN(isonorm_rms_penalty_args, penalty, isonorm_rms_penalty(&penalty));
  CHECK(rms[0] == 2 && dx[0] == 1 && dx[1] == 1);
}

/* One rank, whose row is the whole one; and a gradient of two parts. */
static void parallel(const isonorm_contract* contract) {
  float x[2] = {3, 4}, y[2] = {9, 9}, dy[2] = {1, 0}, dx[2], partial[1], statistic[4], parts[4] = {1, 2, 30, 40}, sum[2];
  int64_t ones[3] = {1, 1, 1}, four[2] = {1, 4}, two[2] = {2, 2};
  int32_t round = 0;
  isonorm_tensor tx = tensor_of(x, ISONORM_F32, 2, shape), ty = tensor_of(y, ISONORM_F32, 2, shape);
  isonorm_tensor tdy = tensor_of(dy, ISONORM_F32, 2, shape), tdx = tensor_of(dx, ISONORM_F32, 2, shape);
  isonorm_tensor tp = tensor_of(partial, ISONORM_F32, 2, ones), tg = tensor_of(partial, ISONORM_F32, 3, ones);
  isonorm_tensor ts = tensor_of(statistic, ISONORM_F32, 2, four);
  const isonorm_forward_args args = {.struct_size = sizeof args, .x = &tx, .y = &ty};
  const isonorm_backward_args back = {.struct_size = sizeof back, .dy = &tdy, .x = &tx, .dx = &tdx};
  isonorm_shard shard = {.struct_size = sizeof shard, .ranks = 1, .partial = &tp, .gathered = &tg, .statistic = &ts};
  RUN(isonorm_shard, shard, isonorm_forward_partial(contract, 0.0, &args, &shard, round));
  CHECK(partial[0] == 25 && y[0] == 9);
  RUN(isonorm_shard, shard, isonorm_forward_finish(contract, 0.0, &args, &shard, &round));
  CHECK(round == 0 && y[0] == 3 * (float)(1.0 / sqrt(12.5)));
  RUN(isonorm_shard, shard, isonorm_backward_partial(contract, 0.0, &back, &shard));
  RUN(isonorm_shard, shard, isonorm_backward_finish(contract, 0.0, &back, &shard));
  isonorm_tensor tparts = tensor_of(parts, ISONORM_F32, 2, two), tsum = tensor_of(sum, ISONORM_F32, 1, &cols);
  isonorm_combine_args combine = {
      .struct_size = sizeof combine, .parts = &tparts, .gradient = &tsum, .rows = 50, .part_rows = 32};
  RUN(isonorm_combine_args, combine, isonorm_combine_gradients(&combine));
  CHECK(sum[0] == 31 && sum[1] == 42);
}

int main(void) {
  isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  for (size_t i = 0; i < isonorm_target_count(); ++i) {
    CHECK(isonorm_set_target(isonorm_target_name(i)) == ISONORM_OK);
    forward(&contract);
    quantized(&contract);
    backward(&contract);
    rms_of_vectors();
    parallel(&contract);
    CHECK(isonorm_contract_by_name("torch", &contract, sizeof contract) == ISONORM_OK);
    CHECK(contract.struct_size == sizeof contract);
  }
  return failures != 0;
}
