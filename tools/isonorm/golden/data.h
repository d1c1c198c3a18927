// The data that a line of a golden file stands for. Every value is exact arithmetic on a counter-based generator, so that
// any machine makes the same bytes: docs/numerics.md, "Golden files".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "isonorm/isonorm.h"

namespace isonorm_cli {

enum class Type { kNone, kF32, kBf16, kF16, kF64, kI8, kE4M3, kE5M2, kE8M0, kI32, kI64 };

// The last step of splitmix64: all 64 bits of the result depend on all of z.
uint64_t SplitMix(uint64_t z);

// The bytes of one element; 0 for kNone.
size_t SizeOf(Type type);
// "f32" and so on; "-" for kNone.
const char* NameOf(Type type);
std::optional<Type> TypeOf(std::string_view name);
isonorm_dtype DtypeOf(Type type);

// How x and ddx are distributed. All other tensors are kPlain, but for the gate, and dy of kLeast, see ValueAt().
enum class DataKind {
  kPlain,    // sums of four uniform values, in (-4, 4)
  kWide,     // exponents spread over 2^-30 to 2^30
  kTiny,     // squares underflow: rows need scaling when eps is 0
  kHuge,     // squares overflow: rows need scaling
  kFaint,    // sums of squares just above and below the scaling threshold
  kFlat,     // constant rows, up to near overflow
  kFar,      // f64 only: squares leave its range
  kEdge,     // sums of squares just below and above overflow
  kOver,     // f16: sums overflow, some elements are infinite
  kRows,     // every row another scale
  kSpike,    // outliers
  kMean,     // a large mean
  kSpecial,  // zeros, negative zeros, infinities, NaN
  kLeast,    // f32 only: products of x and dy round to -0
};
inline constexpr int kDataKinds = 14;
std::optional<DataKind> DataKindOf(std::string_view name);

// The tensors that a case reads. The number is what the tensor adds to the case's seed.
enum class Role { kX, kWeight, kResidual, kBias, kDy, kDresidual, kGate, kDdx, kDdweight, kAngle, kPosition };

// Element `index` = row * cols + col of a tensor, before it is rounded to its storage type. For vectors, row is 0.
double ValueAt(Role role, DataKind kind, uint64_t seed, uint64_t index, int64_t row);

// Rounds once to `type`, nearest even with subnormals kept and every NaN canonical, and writes SizeOf(type) bytes.
void Store(double value, Type type, uint8_t* out);

// The whole tensor as compact row-major bytes.
std::vector<uint8_t> MakeData(Role role, DataKind kind, uint64_t seed, int64_t rows, int64_t cols, Type type);

// Tables of cosines and sines, [rows, pairs]: of the angles whose half has a plain value as its tangent, which needs no
// library.
enum class Table { kCos, kSin };
std::vector<uint8_t> MakeTable(Table table, uint64_t seed, int64_t rows, int64_t pairs, Type type);

// Rows of a table, one for each token.
std::vector<uint8_t> MakePositions(uint64_t seed, int64_t tokens, int64_t table_rows, Type type);

}  // namespace isonorm_cli
