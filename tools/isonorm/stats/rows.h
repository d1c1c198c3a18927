// The numbers of one row, in f64, and always in the same order: whichever thread takes a row finds the same bits.
#pragma once

#include <isonorm/isonorm.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace isonorm_cli {

// Magnitudes are counted in steps of half a power of two, over all of f32's. f64's beyond that go to the ends.
inline constexpr int kFirstBin = -2 * 150, kEndBin = 2 * 129;
using Bins = std::array<std::int64_t, kEndBin - kFirstBin>;

// Sums over many rows of what needs no order: integers.
struct ValueCounts {
  std::int64_t nan = 0, infinite = 0, zeros = 0, subnormal = 0;
  std::int64_t f16_overflow = 0, f16_subnormal = 0, f16_to_zero = 0;
  Bins before{}, rms_norm{}, layer_norm{};
  void Add(const ValueCounts& other);
};

struct RowFacts {
  std::int64_t finite = 0;
  double max_abs = 0;
  std::int64_t max_channel = -1;
  // Sums of v * 2^-exponent and of its square over the finite values. The exponent is 0 unless squares would not fit in f64.
  int exponent = 0;
  double sum = 0, squares = 0;
  double deviations = 0;    // the sum of squared distances from the mean, on the same scale, if it was asked for
  float plain_squares = 0;  // what a kernel without scaling has as its f32 sum
  // Sums over what RMSNorm (y) and LayerNorm (z) make of it, if all values are finite.
  double y = 0, yy = 0, z = 0, zz = 0, yz = 0;

  double Rms() const;
  double MeanOverRms() const;  // NaN for a row of zeros
};

void ScanRow(isonorm::dtype type, const std::byte* x, std::int64_t cols, RowFacts& row, ValueCounts& counts);
// The deviations of a row that was scanned and holds finite values only.
double Deviations(isonorm::dtype type, const std::byte* x, std::int64_t cols, const RowFacts& row);
// y and z are of the type that CompareType says.
void CompareRow(isonorm::dtype type, const std::byte* y, const std::byte* z, std::int64_t cols, RowFacts& row,
                ValueCounts& counts);
inline isonorm::dtype CompareType(isonorm::dtype type) {
  return type == isonorm::dtype::f64 ? isonorm::dtype::f64 : isonorm::dtype::f32;
}

// squares[i] += (x[i] * scale)^2; an x[i] that is not finite counts as missing.
void AddSquares(isonorm::dtype type, const std::byte* x, double scale, bool all_finite, std::span<double> squares,
                std::span<std::int64_t> missing);

}  // namespace isonorm_cli
