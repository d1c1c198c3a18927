// What `apply` reports about the values that it read and wrote.
#pragma once

#include <isonorm/isonorm.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace isonorm_cli {

struct TensorStats {
  double sum_squares = 0;  // of the finite values
  std::int64_t finite = 0;
  std::int64_t non_finite = 0;

  // Adds values of one type; `bytes` holds whole elements.
  void Add(std::span<const std::byte> bytes, isonorm::dtype type);
  // The RMS of the finite values; NaN if there are none.
  double Rms() const;
};

}  // namespace isonorm_cli
