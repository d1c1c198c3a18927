// A problem of the core tests: one call as data, and random ones that reach every combination the C ABI allows.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "golden/data.h"
#include "isonorm/isonorm.h"

namespace core_test {

using isonorm_cli::DataKind;
using isonorm_cli::NameOf;
using isonorm_cli::SizeOf;
using isonorm_cli::Type;

// Every tensor of all structures. mean, rstd and residual_out are outputs of forward and inputs of backward.
enum Slot {
  kX,
  kWeight,
  kBias,
  kResidual,
  kGate,
  kDy,
  kDresidual,
  kDdx,
  kDdweight,
  kResidualOut,
  kRstd,
  kMean,
  kY,
  kDx,
  kDweight,
  kDbias,
  kDgate,
  kDdy,
  kScale,  // of a quantised y: an input where it is static
  kCos,    // of a rotated y, with kSin and kPositions, which has one for each row
  kSin,
  kPositions,
  kSlots
};
const char* NameOf(Slot slot);

using Bytes = std::vector<uint8_t>;
using Values = std::array<Bytes, kSlots>;  // compact and row-major; empty where there is none

// How heads are rotated: pairs of a head, and rows of the tables.
struct Rotation {
  int32_t style = 0;  // 0: they are not
  int64_t half = 0, table = 0;
};

struct Problem {
  isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  double eps = 1e-6;
  isonorm_quantization quantization = {};  // struct_size 0: none
  Rotation rotation = {};
  std::array<Type, kSlots> type = {};  // kNone: the tensor is not passed
  int64_t rows = 1, cols = 1, groups = 1, window = 0;
  DataKind kind = DataKind::kPlain;
  uint64_t seed = 1;
  unsigned odd = 0;  // bit s: NaN with payloads, infinities, subnormals and the like are put into the input in slot s

  bool has(Slot slot) const { return type[slot] != Type::kNone; }
  Type compute() const { return type[kX] == Type::kF64 || type[kDx] == Type::kF64 ? Type::kF64 : Type::kF32; }
  // What a slot has in place of leading dimensions and columns.
  bool is_vector(Slot slot) const {
    return slot == kWeight || slot == kBias || slot == kDdweight || slot == kDweight || slot == kDbias ||
           (slot == kScale && has_static_scale()) || is_table(slot);
  }
  bool is_statistic(Slot slot) const { return slot == kRstd || slot == kMean; }  // one for each group of a row
  bool is_table(Slot slot) const { return slot == kCos || slot == kSin; }
  bool rotates() const { return rotation.style != 0; }
  bool quantizes() const { return quantization.struct_size != 0; }
  bool has_static_scale() const { return quantization.scale_kind == ISONORM_SCALE_STATIC; }
  int64_t scales() const { return quantization.group_cols == 0 ? 1 : cols / quantization.group_cols; }  // of a row
  int64_t rows_of(Slot slot) const { return is_table(slot) ? rotation.table : is_vector(slot) ? 1 : rows; }
  int64_t cols_of(Slot slot) const {
    if (is_table(slot)) return rotation.half;
    return is_statistic(slot) ? groups : slot == kScale ? scales() : slot == kPositions ? 1 : cols;
  }
};
std::string ToString(const Problem& problem);  // all of it, in one line

// x, weight and y of one type.
Problem Simple(Type type, int64_t rows, int64_t cols);

// A valid problem with all inputs of both directions: anything the C ABI allows, chosen by `seed`.
Problem Random(uint64_t seed, int64_t rows, int64_t cols);

// Its y quantised in one of all ways, chosen by `seed`, with the scale in its slot. f64 problems stay as they are.
void Quantize(uint64_t seed, Problem* problem);

// Its heads rotated in one of all ways, chosen by `seed`, where a problem may be; otherwise it stays as it is.
void Rotate(uint64_t seed, Problem* problem);
void Unrotate(Problem* problem);

// The forward call on the problem's inputs, with every output wanted, and a backward call with every output wanted.
Problem ForwardOf(const Problem& problem);
enum class Sum { kFromPair, kFromStored };  // x and residual, or residual_out
enum class Rstd { kSaved, kRecomputed };    // with the mean of LayerNorm
Problem BackwardOf(const Problem& problem, Rstd rstd, Sum sum = Sum::kFromPair);
bool MayUseStoredSum(const Problem& problem);

// The bytes of the inputs, but for mean, rstd and residual_out.
Values MakeInputs(const Problem& problem);

// A counter-based generator: the same numbers on every machine.
uint64_t Mix(uint64_t value);

}  // namespace core_test
