#include "table/kernels.h"

namespace isonorm {
namespace {

// A row of the table as data; types are kNone for "none" and for "any", which a kernel does not look at.
struct Row {
  Operation operation;
  Parts parts;
  bool wide;
  Type x, weight, out;
};

constexpr Type i8 = Type::kI8, e4m3 = Type::kE4M3, e5m2 = Type::kE5M2;
constexpr Type f32 = Type::kF32, bf16 = Type::kBF16, f16 = Type::kF16, f64 = Type::kF64, none = Type::kNone, any = Type::kNone;
constexpr Parts k_residual_cast = Parts::kResidual, k_plain_quantize = Parts::kQuantize, k_plain_gate = Parts::kGate;

constexpr Row kRows[] = {
#define ISONORM_TUNED(operation, x, weight, out) {Operation::k_##operation, Parts::kPlain, false, x, weight, out},
#define ISONORM_TUNED_ROPE(operation, x, weight, out) {Operation::k_##operation, Parts::kRope, false, x, weight, out},
#define ISONORM_FUSED(operation, source, sink, x, weight, out) \
  {Operation::k_##operation, k_##source##_##sink, false, x, weight, out},
#define ISONORM_KERNEL(operation, source, sink, x, weight, out) \
  {Operation::k_##operation, Parts::kGeneral, x == f64, x, weight, out},
#include "table/kernels.inc"
};

constexpr const char* kNames[] = {
#define ISONORM_KERNEL(operation, source, sink, x, weight, out) #operation "." #source "." #sink "." #x "." #weight "." #out,
#include "table/kernels.inc"
};

template <class Enum>
constexpr size_t At(Enum value) {
  return static_cast<size_t>(value);
}
constexpr size_t kOperations = At(Operation::k_backward) + 1;  // the others have no loops of their own
constexpr size_t kTypes = At(Type::kF64) + 1, kOutTypes = At(Type::kE5M2) + 1;

// The rows by what they are, so that a call finds its own without a search.
struct Index {
  constexpr Index() {
    for (auto& of_parts : loops)
      for (auto& of_operation : of_parts)
        for (auto& of_x : of_operation)
          for (auto& of_weight : of_x)
            for (auto& entry : of_weight) entry = kKernels;
    for (uint8_t i = 0; i < kKernels; ++i) {
      const Row& row = kRows[i];
      if (row.parts == Parts::kGeneral) {
        general[At(row.operation)][row.wide] = i;
      } else {
        loops[At(row.parts)][At(row.operation)][At(row.x)][At(row.weight)][At(row.out)] = i;
      }
    }
  }
  uint8_t loops[At(Parts::kGeneral)][kOperations][kTypes][kTypes][kOutTypes];
  uint8_t general[At(Operation::kCount)][2] = {};
};
constexpr Index kIndex;
static_assert(kKernels <= UINT8_MAX);

constexpr bool EveryOperationHasGeneralRows() {
  for (size_t i = 0; i < At(Operation::kCount); ++i) {
    for (int wide = 0; wide < 2; ++wide) {
      const Row& row = kRows[kIndex.general[i][wide]];
      if (row.parts != Parts::kGeneral || At(row.operation) != i || row.wide != (wide != 0)) return false;
    }
  }
  return true;
}
static_assert(EveryOperationHasGeneralRows());

}  // namespace

const char* KernelName(int id) { return kNames[id]; }

int FindRow(Parts parts, Operation operation, Type x, Type weight, Type out) {
  return kIndex.loops[At(parts)][At(operation)][At(x)][At(weight)][At(out)];
}

int FindGeneralRow(Operation operation, bool wide) { return kIndex.general[At(operation)][wide]; }

}  // namespace isonorm
