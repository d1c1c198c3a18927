#include "entry/self_test.h"

#include <cmath>

#include "cpu/fp_guard.h"
#include "entry/golden_data.h"

namespace isonorm {
namespace {

// Two cases of data/golden/public.tsv: tails, unequal leaves, both sides of the bf16 rounding.
struct Golden {
  Type type;
  uint64_t seed;
  uint64_t y, rstd;
};
constexpr int64_t kRows = 2, kCols = 769;
constexpr Golden kCases[] = {
    {Type::kF32, 36600, 0x7ce23ca01520698b, 0xd9cfdc2bfeda91ae},    // p066
    {Type::kBF16, 239526, 0xea808d611938b01e, 0x352c670faa737966},  // p067
};

void Fill(uint64_t seed, Type type, int64_t count, void* data) {
  for (int64_t i = 0; i < count; ++i) StoreScalar(PlainValue(seed, static_cast<uint64_t>(i)), data, type, i);
}

bool Passes(const Backend& backend, const Golden& golden) {
  alignas(64) float x[kRows * kCols], weight[kCols], y[kRows * kCols], rstd[kRows];
  Fill(golden.seed, golden.type, kRows * kCols, x);
  Fill(golden.seed + 1, golden.type, kCols, weight);
  const int64_t size = static_cast<int64_t>(SizeOf(golden.type));
  Call call;
  call.norm.eps = static_cast<double>(1e-6f);
  call.rows = kRows;
  call.cols = call.group_cols = call.window = call.norm.count = kCols;
  call.leading = 1;
  for (int64_t& stride : call.stride[0]) stride = 0;
  call.shape[0] = kRows;
  call.weight = weight;
  call.weight_type = golden.type;
  const auto set = [&call](RowTensor tensor, void* data, Type type, int64_t stride) {
    call.data[tensor] = static_cast<char*>(data);
    call.type[tensor] = type;
    call.stride[0][tensor] = stride;
  };
  set(kX, x, golden.type, kCols * size);
  set(kY, y, golden.type, kCols * size);
  set(kRstd, rstd, Type::kF32, sizeof(float));
  int kernel = 0;
  if (backend.Run(Operation::k_forward, call, &kernel) != ISONORM_OK) return false;
  return Digest(y, static_cast<size_t>(kRows * kCols * size)) == golden.y && Digest(rstd, sizeof(rstd)) == golden.rstd;
}

}  // namespace

bool PassesSelfTest(const Backend& backend) {
  const FpGuard guard;
  for (const Golden& golden : kCases) {
    if (!Passes(backend, golden)) return false;
  }
  return true;
}

}  // namespace isonorm
