// No call allocates: this program's malloc counts. A program of its own, because it replaces malloc for all of it.
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

#include "isonorm/isonorm.h"
#include "support/rms.h"

namespace {

std::atomic<long> g_allocations = 0;
void Count() { g_allocations.fetch_add(1, std::memory_order_relaxed); }

}  // namespace

// glibc's own names for what it would otherwise be asked for. operator new ends here too.
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  Count();
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  Count();
  return __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) {
  Count();
  return __libc_realloc(memory, size);
}
void* memalign(size_t alignment, size_t size) {
  Count();
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  Count();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, size_t alignment, size_t size) {
  Count();
  *memory = __libc_memalign(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}
}

namespace {

constexpr int64_t kRows = 300, kCols = 200;

isonorm_tensor Matrix(void* data, int64_t* shape) { return {data, {ISONORM_DEVICE_CPU, 0}, 2, ISONORM_F32, shape, nullptr, 0}; }
isonorm_tensor Vector(void* data, int64_t* shape) { return {data, {ISONORM_DEVICE_CPU, 0}, 1, ISONORM_F32, shape, nullptr, 0}; }

// Runs its tasks in order, without allocating.
void InOrder(void* used, int64_t count, void (*task)(void*, int64_t), void* context) {
  *static_cast<int64_t*>(used) = count;
  for (int64_t i = 0; i < count; ++i) task(context, i);
}

// Everything the library does in a program's daily work, failures included. Returns how much of it went as expected.
int DailyWork(const isonorm_executor* executor) {
  static float x[kRows * kCols], y[kRows * kCols], dy[kRows * kCols], weight[kCols], dweight[kCols], dbias[kCols], rstd[kRows];
  static unsigned char workspace[1 << 20];
  int64_t shape[2] = {kRows, kCols}, cols[1] = {kCols}, rows[1] = {kRows};
  for (int64_t i = 0; i < kRows * kCols; ++i) {
    x[i] = static_cast<float>(i % 17) - 8.0f;
    dy[i] = static_cast<float>(i % 13) - 6.0f;
  }
  x[5] = 3e38f;  // a row that is done again scaled
  for (float& w : weight) w = 1.5f;
  const isonorm_tensor tx = Matrix(x, shape), ty = Matrix(y, shape), tdy = Matrix(dy, shape), tw = Vector(weight, cols),
                       tdw = Vector(dweight, cols), tdb = Vector(dbias, cols), tr = Vector(rstd, rows);
  const isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  int done = 0;
  isonorm_forward_args forward = {};
  forward.struct_size = sizeof(forward);
  forward.x = &tx;
  forward.weight = &tw;
  forward.y = &ty;
  forward.rstd = &tr;
  forward.executor = executor;
  done += isonorm_forward(&contract, 1e-6, &forward) == ISONORM_OK;
  done += isonorm_forward(&contract, -1.0, &forward) == ISONORM_ERROR_EPS;
  done += isonorm_last_error()[0] != '\0';
  done += isonorm_last_kernel()[0] != '\0';
  isonorm_backward_args backward = {};
  backward.struct_size = sizeof(backward);
  backward.dy = &tdy;
  backward.x = &tx;
  backward.weight = &tw;
  backward.dx = &ty;
  backward.dweight = &tdw;
  backward.dbias = &tdb;
  backward.executor = executor;
  done += isonorm_backward_workspace(&contract, 1e-6, &backward, &backward.workspace_size) == ISONORM_OK;
  backward.workspace = workspace;
  done += backward.workspace_size <= sizeof(workspace);
  done += isonorm_backward(&contract, 1e-6, &backward) == ISONORM_OK;
  isonorm_double_backward_args twice = {};
  twice.struct_size = sizeof(twice);
  twice.dy = &tdy;
  twice.x = &tx;
  twice.weight = &tw;
  twice.ddx = &tdy;
  twice.ddweight = &tw;
  twice.dx = &ty;
  twice.dweight = &tdw;
  twice.executor = executor;
  done += isonorm_double_backward_workspace(&contract, 1e-6, &twice, &twice.workspace_size) == ISONORM_OK;
  twice.workspace = workspace;
  done += isonorm_double_backward(&contract, 1e-6, &twice) == ISONORM_OK;
  done += isonorm_test::Rms(&tx, &tr, executor) == ISONORM_OK;
  done += isonorm_test::RmsBackward(&tx, &tr, &ty, executor) == ISONORM_OK;
  done += isonorm_test::RmsPenalty(&tx, 0.5, &tr, &ty, 0, executor) == ISONORM_OK;
  return done;
}

TEST(AllocationTest, NoCallAllocates) {
  int64_t tasks = 0;
  const isonorm_executor executor = {sizeof(executor), 8, 0, &tasks, InOrder};
  for (size_t i = 0; i < isonorm_target_count(); ++i) {
    ASSERT_EQ(isonorm_set_target(isonorm_target_name(i)), ISONORM_OK);
    for (const isonorm_executor* each : {static_cast<const isonorm_executor*>(nullptr), &executor}) {
      tasks = 0;
      const long before = g_allocations;
      const int done = DailyWork(each);
      const long after = g_allocations;
      EXPECT_EQ(done, 12) << isonorm_target_name(i) << ": " << isonorm_last_error();
      EXPECT_EQ(after - before, 0) << isonorm_target_name(i)
                                   << (each == nullptr ? " on the calling thread" : " on an executor");
      EXPECT_EQ(tasks > 1, each != nullptr) << "the executor was not used";
    }
  }
}

TEST(AllocationGate, TheCounterCounts) {
  const long before = g_allocations;
  int* volatile number = new int(1);
  void* volatile block = std::malloc(10);
  void* volatile aligned = std::aligned_alloc(64, 64);
  EXPECT_GE(g_allocations - before, 3);
  delete number;
  std::free(block);
  std::free(aligned);
}

}  // namespace
