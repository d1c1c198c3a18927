#include "table/kernels.h"

#include <limits>

namespace isonorm {
namespace {

// A row of the table as data; types are kNone for "none" and for "any", which a general kernel does not look at.
struct Row {
  Operation operation;
  enum : uint8_t { kGeneral, kTuned, kRope, k_residual_cast, k_plain_quantize, k_plain_gate } kind;
  bool wide;
  Type x, weight, out;
};

constexpr Type i8 = Type::kI8, e4m3 = Type::kE4M3, e5m2 = Type::kE5M2;
constexpr Type f32 = Type::kF32, bf16 = Type::kBF16, f16 = Type::kF16, f64 = Type::kF64, none = Type::kNone, any = Type::kNone;

constexpr Row kRows[] = {
#define ISONORM_TUNED(operation, x, weight, out) {Operation::k_##operation, Row::kTuned, false, x, weight, out},
#define ISONORM_TUNED_ROPE(operation, x, weight, out) {Operation::k_##operation, Row::kRope, false, x, weight, out},
#define ISONORM_FUSED(operation, source, sink, x, weight, out) \
  {Operation::k_##operation, Row::k_##source##_##sink, false, x, weight, out},
#define ISONORM_KERNEL(operation, source, sink, x, weight, out) \
  {Operation::k_##operation, Row::kGeneral, x == f64, x, weight, out},
#include "table/kernels.inc"
};

constexpr const char* kNames[] = {
#define ISONORM_KERNEL(operation, source, sink, x, weight, out) #operation "." #source "." #sink "." #x "." #weight "." #out,
#include "table/kernels.inc"
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
  return call.layer || call.groups != 1 || call.window != call.cols || call.bias_type != Type::kNone || call.has(kDresidual) ||
         call.dbias != nullptr;
}

// And at most one rounding of x * rstd.
bool FitsTuned(const Call& call) {
  if (!call.plain && HasMore(call)) return false;
  // The loops round to the type that has 16 bits among x's and the weight's; to x's if both have.
  if (call.scaled_type == Type::kNone || call.scaled_type == call.type[kX]) return true;
  return call.scaled_type == call.weight_type && SizeOf(call.type[kX]) == 4;
}

// All of a head of a multiple of 64 columns is rotated, and x * rstd is rounded only where what leaves the norm is.
bool FitsTunedRope(const Call& call) {
  if (HasMore(call) || call.quantizer.on || call.has(kResidual) || call.gate != Gate::kNone) return false;
  if (call.cols % 64 != 0 || 2 * call.rope.half != call.cols) return false;
  return call.scaled_type == Type::kNone || call.scaled_type == call.rope.rounded_to;
}

// The row for a call that has one more part than x, weight and y; kKernels where the table has none.
int FindFused(const Backend& backend, Operation operation, const Call& call) {
  const Type x = call.type[kX], out = call.type[operation == Operation::k_forward ? kY : kDy];
  const bool residual = call.has(kResidual), quantizes = call.quantizer.on, gated = call.gate != Gate::kNone;
  if (residual + quantizes + gated != 1 || call.cols * static_cast<int64_t>(SizeOf(x)) > kMostBuffered) return kKernels;
  if (residual && (call.type[kResidual] != x || (SizeOf(x) == 2 && call.sum_type != x))) return kKernels;
  const bool in_f32 = !residual || call.weight_type != x || call.weight_offset != 0;
  if (in_f32 && call.cols > kMostColumns) return kKernels;
  if (gated && call.type[kGate] != x) return kKernels;
  // Least scales have a finite reciprocal; a static one that has none makes NaN of 0, for which the loops do not look.
  const Quantizer& quantizer = call.quantizer;
  if (quantizer.rounded_to != Type::kNone || !(quantizer.multiplier <= std::numeric_limits<float>::max())) return kKernels;
  if (!residual && call.scaled_type != Type::kNone && call.scaled_type != x) return kKernels;
  const auto kind = residual ? Row::k_residual_cast : quantizes ? Row::k_plain_quantize : Row::k_plain_gate;
  for (int id = 0; id < kKernels; ++id) {
    const Row& row = kRows[id];
    if (row.operation == operation && row.kind == kind && row.x == x && row.out == out &&
        (!residual || row.weight == call.weight_type) && backend.kernels[id] != nullptr) {
      return id;
    }
  }
  return kKernels;
}

// The tuned row; kKernels where the table has none.
int FindTuned(const Backend& backend, Operation operation, const Call& call) {
  const bool forward = operation == Operation::k_forward;
  if (forward ? !call.has(kY) : operation != Operation::k_backward) return kKernels;
  const Type x = call.type[kX], out = call.type[forward ? kY : kDy];
  if (!forward && call.has(kDx) && call.type[kDx] != out) return kKernels;
  if (call.rope.on) return forward && FitsTunedRope(call) ? kTunedRope.Of(operation, x, call.weight_type, out) : kKernels;
  if (!FitsTuned(call)) return kKernels;
  const bool fused = !call.plain && (call.has(kResidual) || call.quantizer.on || call.gate != Gate::kNone);
  return fused ? FindFused(backend, operation, call) : kTuned.Of(operation, x, call.weight_type, out);
}

}  // namespace

const char* KernelName(int id) { return kNames[id]; }

int FindKernel(const Backend& backend, Operation operation, const Call& call) {
  const int tuned = FindTuned(backend, operation, call);
  if (tuned != kKernels && backend.kernels[tuned] != nullptr) return tuned;
  for (int id = 0; id < kKernels; ++id) {
    const Row& row = kRows[id];
    if (row.kind == Row::kGeneral && row.operation == operation && row.wide == call.wide && backend.kernels[id] != nullptr)
      return id;
  }
  return kKernels;
}

}  // namespace isonorm
