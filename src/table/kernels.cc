#include "table/kernels.h"

namespace isonorm {
namespace {

// A row of the table as data; types are kNone for "none" and for "any", which a kernel does not look at.
struct Row {
  bool tuned;
  Operation operation;
  Source source;
  Sink sink;
  Type x, weight, out;
};

constexpr Type i8 = Type::kI8, e4m3 = Type::kE4M3, e5m2 = Type::kE5M2;
constexpr Type f64 = Type::kF64, none = Type::kNone, any = Type::kNone;
#define ISONORM_CASE(name, kind, storage) constexpr Type name = Type::kind;
ISONORM_NARROW_TYPES(ISONORM_CASE)
#undef ISONORM_CASE

constexpr Row kRows[] = {
#define ISONORM_TUNED(operation, source, sink, x, weight, out) \
  {true, Operation::k_##operation, Source::k_##source, Sink::k_##sink, x, weight, out},
#define ISONORM_KERNEL(operation, source, sink, x, weight, out) \
  {false, Operation::k_##operation, Source::k_##source, Sink::k_##sink, x, weight, out},
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
constexpr size_t kOperations = At(Operation::k_backward_partial) + 1;  // the others have no loops of their own
constexpr size_t kSources = At(Source::k_centred) + 1, kSinks = At(Sink::k_sum) + 1;
constexpr size_t kTypes = At(Type::kF64) + 1, kOutTypes = At(Type::kE5M2) + 1;

// The rows by what they are, so that a call finds its own without a search.
struct Index {
  constexpr Index() {
    for (auto& of_operation : tuned)
      for (auto& of_source : of_operation)
        for (auto& of_sink : of_source)
          for (auto& of_x : of_sink)
            for (auto& of_weight : of_x)
              for (auto& entry : of_weight) entry = kKernels;
    for (uint8_t i = 0; i < kKernels; ++i) {
      const Row& row = kRows[i];
      if (row.tuned) {
        tuned[At(row.operation)][At(row.source)][At(row.sink)][At(row.x)][At(row.weight)][At(row.out)] = i;
      } else {
        general[At(row.operation)][row.x == f64] = i;
      }
    }
  }
  uint8_t tuned[kOperations][kSources][kSinks][kTypes][kTypes][kOutTypes];
  uint8_t general[At(Operation::kCount)][2] = {};
};
constexpr Index kIndex;
static_assert(kKernels <= UINT8_MAX);

constexpr bool EveryOperationHasGeneralRows() {
  for (size_t i = 0; i < At(Operation::kCount); ++i) {
    for (int wide = 0; wide < 2; ++wide) {
      const Row& row = kRows[kIndex.general[i][wide]];
      if (row.tuned || At(row.operation) != i || (row.x == f64) != (wide != 0)) return false;
    }
  }
  return true;
}
static_assert(EveryOperationHasGeneralRows());

// Each tuned row is found by what it is: "none" and "any" must not be two rows for one call.
constexpr bool EveryTunedRowIsFound() {
  for (int i = 0; i < kKernels; ++i) {
    const Row& row = kRows[i];
    if (row.tuned && kIndex.tuned[At(row.operation)][At(row.source)][At(row.sink)][At(row.x)][At(row.weight)][At(row.out)] != i)
      return false;
  }
  return true;
}
static_assert(EveryTunedRowIsFound());

}  // namespace

const char* KernelName(int id) { return kNames[id]; }

int FindRow(Operation operation, Source source, Sink sink, Type x, Type weight, Type out) {
  return kIndex.tuned[At(operation)][At(source)][At(sink)][At(x)][At(weight)][At(out)];
}

int FindGeneralRow(Operation operation, bool wide) { return kIndex.general[At(operation)][wide]; }

}  // namespace isonorm
