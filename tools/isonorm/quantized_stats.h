// What `apply` reports about quantised values and their scales.
#pragma once

#include <isonorm/isonorm.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "tensor_stats.h"

namespace isonorm_cli {

struct QuantizedStats {
  std::int64_t at_limit = 0;  // values that are the largest or least of their type
  std::int64_t zeros = 0;
  double smallest_scale = std::numeric_limits<double>::quiet_NaN();  // NaN if there is none
  double largest_scale = std::numeric_limits<double>::quiet_NaN();
};

// Reads values of type i8, e4m3 or e5m2 with scales of type f32 or e8m0, by tables of a byte's meanings.
class QuantizedCounter {
 public:
  QuantizedCounter(isonorm::dtype type, isonorm::dtype scale_type);

  // Adds values with one scale for each run of `cols`; to `dequantized` goes value times scale.
  void Add(std::span<const std::byte> values, std::span<const std::byte> scales, std::int64_t cols, TensorStats& dequantized,
           QuantizedStats& stats) const;

 private:
  double Scale(std::span<const std::byte> scales, std::size_t index) const;

  isonorm::dtype scale_type_;
  std::array<double, 256> squares_{};      // 0 for NaN
  std::array<std::uint8_t, 256> kinds_{};  // one of the constants in the .cc file
};

}  // namespace isonorm_cli
