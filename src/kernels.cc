#include "kernels.h"

namespace isonorm {
namespace {

// A row of the table as data; types are kNone for "none" and for "any", which a general kernel does not look at.
struct Row {
  Operation operation;
  bool tuned;
  bool wide;
  Type x, weight, out;
};

constexpr Type f32 = Type::kF32, bf16 = Type::kBF16, f16 = Type::kF16, f64 = Type::kF64, none = Type::kNone, any = Type::kNone;

constexpr Row kRows[] = {
#define ISONORM_TUNED(operation, x, weight, out) {Operation::k_##operation, true, false, x, weight, out},
#define ISONORM_KERNEL(operation, source, sink, x, weight, out) {Operation::k_##operation, false, x == f64, x, weight, out},
#include "kernels.inc"
};

constexpr const char* kNames[] = {
#define ISONORM_KERNEL(operation, source, sink, x, weight, out) #operation "." #source "." #sink "." #x "." #weight "." #out,
#include "kernels.inc"
};

// A tuned loop has no residual, gate, bias, groups, window or LayerNorm, and one rounding of x * rstd at most.
bool FitsTuned(const Row& row, const Call& call) {
  if (call.layer || call.groups != 1 || call.window != call.cols || call.bias_type != Type::kNone || call.gate != Gate::kNone ||
      call.has(kResidual) || call.has(kDresidual) || call.weight_type != row.weight || call.type[kX] != row.x) {
    return false;
  }
  if (call.scaled_type != Type::kNone && call.scaled_type != row.x && call.scaled_type != row.weight) return false;
  if (!call.backward) return call.has(kY) && call.type[kY] == row.out;
  return call.type[kDy] == row.out && (!call.has(kDx) || call.type[kDx] == row.out) && call.dbias == nullptr;
}

}  // namespace

const char* KernelName(int id) { return kNames[id]; }

int FindKernel(const Backend& backend, Operation operation, const Call& call) {
  for (int id = 0; id < kKernels; ++id) {
    const Row& row = kRows[id];
    if (row.operation != operation || backend.kernels[id] == nullptr) continue;
    if (row.tuned ? !call.wide && FitsTuned(row, call) : row.wide == call.wide) return id;
  }
  return kKernels;
}

}  // namespace isonorm
