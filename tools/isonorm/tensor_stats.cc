#include "tensor_stats.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "to_double.h"

namespace isonorm_cli {
namespace {

// Eight sums side by side, so that one addition need not wait for the one before.
template <class Values>
void AddValues(TensorStats& stats, std::span<const std::byte> bytes) {
  using T = typename Values::Raw;
  constexpr std::size_t kSums = 8;
  std::array<double, kSums> sums{};
  std::array<std::int64_t, kSums> finite{};
  const std::size_t count = bytes.size() / sizeof(T);
  const auto add = [&](std::size_t i, std::size_t lane) {
    T raw;
    std::memcpy(&raw, bytes.data() + i * sizeof(T), sizeof raw);
    const double v = Values::ToDouble(raw);
    const bool ok = std::abs(v) <= std::numeric_limits<double>::max();  // false for NaN
    sums[lane] += ok ? v * v : 0.0;
    finite[lane] += ok;
  };
  std::size_t i = 0;
  for (; i + kSums <= count; i += kSums) {
    for (std::size_t lane = 0; lane < kSums; ++lane) add(i + lane, lane);
  }
  for (; i < count; ++i) add(i, 0);
  std::int64_t total = 0;
  for (std::size_t lane = 0; lane < kSums; ++lane) {
    stats.sum_squares += sums[lane];
    total += finite[lane];
  }
  stats.finite += total;
  stats.non_finite += static_cast<std::int64_t>(count) - total;
}

}  // namespace

void TensorStats::Add(std::span<const std::byte> bytes, isonorm::dtype type) {
  // Quantised values mean nothing without their scales: QuantizedStats.
  if (isonorm::size_of(type) > 1) WithValues(type, [&]<class Values>() { AddValues<Values>(*this, bytes); });
}

double TensorStats::Rms() const {
  return finite > 0 ? std::sqrt(sum_squares / static_cast<double>(finite)) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace isonorm_cli
