#include "kernels.h"

namespace isonorm {
namespace {

// A row of the table as data; types are kNone for "none" and for "any", which a general kernel does not look at.
struct Row {
  Operation operation;
  enum : uint8_t { kGeneral, kTuned, kRope, k_residual_cast, k_plain_quantize } kind;
  bool wide;
  Type x, weight, out;
};

constexpr Type i8 = Type::kI8, e4m3 = Type::kE4M3, e5m2 = Type::kE5M2;
constexpr Type f32 = Type::kF32, bf16 = Type::kBF16, f16 = Type::kF16, f64 = Type::kF64, none = Type::kNone, any = Type::kNone;

constexpr Row kRows[] = {
#define ISONORM_TUNED(operation, x, weight, out) {Operation::k_##operation, Row::kTuned, false, x, weight, out},
#define ISONORM_TUNED_ROPE(operation, x, weight, out) {Operation::k_##operation, Row::kRope, false, x, weight, out},
#define ISONORM_FUSED(source, sink, x, weight, out) {Operation::k_forward, Row::k_##source##_##sink, false, x, weight, out},
#define ISONORM_KERNEL(operation, source, sink, x, weight, out) \
  {Operation::k_##operation, Row::kGeneral, x == f64, x, weight, out},
#include "kernels.inc"
};

constexpr const char* kNames[] = {
#define ISONORM_KERNEL(operation, source, sink, x, weight, out) #operation "." #source "." #sink "." #x "." #weight "." #out,
#include "kernels.inc"
};

constexpr size_t kTypes = 5;  // up to f64: a tuned row has no type of 8 bits
static_assert(kTypes == static_cast<size_t>(Type::kF64) + 1);

// The tuned row for an operation and three storage types; kKernels where the table has none.
struct TunedIds {
  explicit constexpr TunedIds(bool rotates) {
    for (auto& of_x : id)
      for (auto& of_weight : of_x)
        for (auto& of_out : of_weight)
          for (auto& entry : of_out) entry = kKernels;
    for (int i = 0; i < kKernels; ++i) {
      const Row& row = kRows[i];
      if (row.kind == (rotates ? Row::kRope : Row::kTuned))
        id[Index(row.operation)][Index(row.x)][Index(row.weight)][Index(row.out)] = static_cast<uint8_t>(i);
    }
  }
  template <class Enum>
  static constexpr size_t Index(Enum value) {
    return static_cast<size_t>(value);
  }
  int Of(Operation operation, Type x, Type weight, Type out) const {
    return id[Index(operation)][Index(x)][Index(weight)][Index(out)];
  }
  uint8_t id[static_cast<size_t>(Operation::kCount)][kTypes][kTypes][kTypes];
};
constexpr TunedIds kTuned(false), kTunedRope(true);

// No tuned loop has any of these.
bool HasMore(const Call& call) {
  return call.layer || call.groups != 1 || call.window != call.cols || call.bias_type != Type::kNone ||
         call.gate != Gate::kNone || call.has(kDresidual) || call.dbias != nullptr;
}

// And at most one rounding of x * rstd.
bool FitsTuned(const Call& call) {
  if (!call.plain && (call.rope.on || HasMore(call))) return false;
  // The loops round to the type that has 16 bits among x's and the weight's; to x's if both have.
  if (call.scaled_type == Type::kNone || call.scaled_type == call.type[kX]) return true;
  return call.scaled_type == call.weight_type && SizeOf(call.type[kX]) == 4;
}

// All of a head of a multiple of 64 columns is rotated, and x * rstd is rounded only where what leaves the norm is.
bool FitsTunedRope(const Call& call) {
  if (HasMore(call) || call.quantizer.on || call.has(kResidual)) return false;
  if (call.cols % 64 != 0 || 2 * call.rope.half != call.cols) return false;
  return call.scaled_type == Type::kNone || call.scaled_type == call.rope.rounded_to;
}

// The row for a forward call that has one more part than x, weight and y; kKernels where the table has none.
int FindFused(const Backend& backend, const Call& call) {
  const Type x = call.type[kX];
  const bool residual = call.has(kResidual), quantizes = call.quantizer.on;
  if (residual == quantizes || !call.has(kY) || call.cols * static_cast<int64_t>(SizeOf(x)) > kMostBuffered) return kKernels;
  if (residual && (call.type[kResidual] != x || (SizeOf(x) == 2 && call.sum_type != x))) return kKernels;
  for (int id = 0; id < kKernels; ++id) {
    const Row& row = kRows[id];
    if (row.kind == (residual ? Row::k_residual_cast : Row::k_plain_quantize) && row.x == x && row.weight == call.weight_type &&
        row.out == call.type[kY] && backend.kernels[id] != nullptr) {
      return id;
    }
  }
  return kKernels;
}

}  // namespace

const char* KernelName(int id) { return kNames[id]; }

int FindKernel(const Backend& backend, Operation operation, const Call& call) {
  const bool forward = operation == Operation::k_forward;
  if (forward && !call.plain && (call.has(kResidual) || call.quantizer.on)) {
    const int id = FitsTuned(call) ? FindFused(backend, call) : kKernels;
    if (id != kKernels) return id;
  } else if ((forward ? call.has(kY) : operation == Operation::k_backward) && !call.has(kResidual) && FitsTuned(call)) {
    const Type out = call.type[forward ? kY : kDy];
    const int id = kTuned.Of(operation, call.type[kX], call.weight_type, out);
    const bool same_dx = forward || !call.has(kDx) || call.type[kDx] == out;
    if (id != kKernels && same_dx && backend.kernels[id] != nullptr) return id;
  }
  if (forward && call.rope.on && call.has(kY) && FitsTunedRope(call)) {
    const int id = kTunedRope.Of(operation, call.type[kX], call.weight_type, call.type[kY]);
    if (id != kKernels && backend.kernels[id] != nullptr) return id;
  }
  for (int id = 0; id < kKernels; ++id) {
    const Row& row = kRows[id];
    if (row.kind == Row::kGeneral && row.operation == operation && row.wide == call.wide && backend.kernels[id] != nullptr)
      return id;
  }
  return kKernels;
}

}  // namespace isonorm
