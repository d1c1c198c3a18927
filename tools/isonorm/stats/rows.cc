#include "stats/rows.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "to_double.h"

namespace isonorm_cli {
namespace {

constexpr std::size_t kLanes = 8;  // sums side by side, so that one addition need not wait for the one before

template <class Values>
typename Values::Raw Load(const std::byte* data, std::int64_t i) {
  typename Values::Raw raw;
  std::memcpy(&raw, data + i * static_cast<std::int64_t>(sizeof raw), sizeof raw);
  return raw;
}

bool IsFinite(double magnitude) { return magnitude <= std::numeric_limits<double>::max(); }  // false for NaN

// The bin of a positive magnitude; halves of a power of two meet at its square root.
std::size_t BinOf(double magnitude) {
  constexpr std::uint64_t kFraction = (std::uint64_t{1} << 52) - 1;
  constexpr std::uint64_t kRootTwo = std::bit_cast<std::uint64_t>(0x1.6a09e667f3bcdp0) & kFraction;
  const std::uint64_t bits = std::bit_cast<std::uint64_t>(magnitude);
  const int exponent = static_cast<int>(bits >> 52) - 1023;
  const int bin = 2 * exponent + ((bits & kFraction) >= kRootTwo ? 1 : 0);
  return static_cast<std::size_t>(std::clamp(bin, kFirstBin, kEndBin - 1) - kFirstBin);
}

void Count(Bins& bins, double magnitude) {
  if (magnitude > 0) ++bins[BinOf(magnitude)];
}

template <class T>
T Total(const std::array<T, kLanes>& lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

template <class Values>
void Scan(const std::byte* x, std::int64_t cols, RowFacts& row, ValueCounts& counts) {
  std::array<float, kLanes> plain{};
  for (std::int64_t i = 0; i < cols; ++i) {
    const double v = Values::ToDouble(Load<Values>(x, i));
    const double a = std::abs(v);
    const float narrow = static_cast<float>(v);
    plain[static_cast<std::size_t>(i) % kLanes] += narrow * narrow;
    if (!IsFinite(a)) {
      ++(std::isnan(a) ? counts.nan : counts.infinite);
      continue;
    }
    ++row.finite;
    if (a > row.max_abs || row.max_channel < 0) {
      row.max_abs = a;
      row.max_channel = i;
    }
    if (a == 0) {
      ++counts.zeros;
      continue;
    }
    counts.subnormal += a < Values::kMinNormal;
    counts.f16_overflow += a > 65504;
    counts.f16_subnormal += a < 0x1p-14;
    counts.f16_to_zero += a <= 0x1p-25;  // half of the smallest subnormal f16 goes to the even side, which is zero
    ++counts.before[BinOf(a)];
  }
  row.plain_squares = Total(plain);

  // Squares of f64 leave its range: then the whole row is scaled, exactly, by a power of two.
  const int exponent = row.max_abs > 0 ? std::ilogb(row.max_abs) : 0;
  row.exponent = std::abs(exponent) > 400 ? std::max(exponent, -1000) : 0;
  const double scale = std::ldexp(1.0, -row.exponent);
  std::array<double, kLanes> sums{}, squares{};
  for (std::int64_t i = 0; i < cols; ++i) {
    double v = Values::ToDouble(Load<Values>(x, i));
    v = IsFinite(std::abs(v)) ? v * scale : 0.0;
    sums[static_cast<std::size_t>(i) % kLanes] += v;
    squares[static_cast<std::size_t>(i) % kLanes] += v * v;
  }
  row.sum = Total(sums);
  row.squares = Total(squares);
}

template <class Values>
double DeviationsOf(const std::byte* x, std::int64_t cols, const RowFacts& row) {
  const double scale = std::ldexp(1.0, -row.exponent), mean = row.sum / static_cast<double>(cols);
  std::array<double, kLanes> squares{};
  for (std::int64_t i = 0; i < cols; ++i) {
    const double d = Values::ToDouble(Load<Values>(x, i)) * scale - mean;
    squares[static_cast<std::size_t>(i) % kLanes] += d * d;
  }
  return Total(squares);
}

template <class Values>
void Compare(const std::byte* y, const std::byte* z, std::int64_t cols, RowFacts& row, ValueCounts& counts) {
  std::array<double, kLanes> sum_y{}, sum_yy{}, sum_z{}, sum_zz{}, sum_yz{};
  for (std::int64_t i = 0; i < cols; ++i) {
    const auto lane = static_cast<std::size_t>(i) % kLanes;
    const double a = Values::ToDouble(Load<Values>(y, i)), b = Values::ToDouble(Load<Values>(z, i));
    sum_y[lane] += a;
    sum_yy[lane] += a * a;
    sum_z[lane] += b;
    sum_zz[lane] += b * b;
    sum_yz[lane] += a * b;
    Count(counts.rms_norm, std::abs(a));
    Count(counts.layer_norm, std::abs(b));
  }
  row.y = Total(sum_y);
  row.yy = Total(sum_yy);
  row.z = Total(sum_z);
  row.zz = Total(sum_zz);
  row.yz = Total(sum_yz);
}

template <class Values>
void Squares(const std::byte* x, double scale, bool all_finite, std::span<double> squares, std::span<std::int64_t> missing) {
  const auto cols = static_cast<std::int64_t>(squares.size());
  for (std::int64_t i = 0; i < cols; ++i) {
    const double v = Values::ToDouble(Load<Values>(x, i)) * scale;
    const bool use = all_finite || IsFinite(std::abs(v));
    squares[static_cast<std::size_t>(i)] += use ? v * v : 0.0;
    if (!all_finite) missing[static_cast<std::size_t>(i)] += !use;
  }
}

}  // namespace

void ValueCounts::Add(const ValueCounts& other) {
  nan += other.nan;
  infinite += other.infinite;
  zeros += other.zeros;
  subnormal += other.subnormal;
  f16_overflow += other.f16_overflow;
  f16_subnormal += other.f16_subnormal;
  f16_to_zero += other.f16_to_zero;
  for (std::size_t i = 0; i < before.size(); ++i) {
    before[i] += other.before[i];
    rms_norm[i] += other.rms_norm[i];
    layer_norm[i] += other.layer_norm[i];
  }
}

double RowFacts::Rms() const { return std::ldexp(std::sqrt(squares / static_cast<double>(finite)), exponent); }

double RowFacts::MeanOverRms() const {
  const auto count = static_cast<double>(finite);
  return squares > 0 ? (sum / count) / std::sqrt(squares / count) : std::numeric_limits<double>::quiet_NaN();
}

void ScanRow(isonorm::dtype type, const std::byte* x, std::int64_t cols, RowFacts& row, ValueCounts& counts) {
  WithValues(type, [&]<class Values>() { Scan<Values>(x, cols, row, counts); });
}

double Deviations(isonorm::dtype type, const std::byte* x, std::int64_t cols, const RowFacts& row) {
  return WithValues(type, [&]<class Values>() { return DeviationsOf<Values>(x, cols, row); });
}

void CompareRow(isonorm::dtype type, const std::byte* y, const std::byte* z, std::int64_t cols, RowFacts& row,
                ValueCounts& counts) {
  WithValues(type, [&]<class Values>() { Compare<Values>(y, z, cols, row, counts); });
}

void AddSquares(isonorm::dtype type, const std::byte* x, double scale, bool all_finite, std::span<double> squares,
                std::span<std::int64_t> missing) {
  WithValues(type, [&]<class Values>() { Squares<Values>(x, scale, all_finite, squares, missing); });
}

}  // namespace isonorm_cli
