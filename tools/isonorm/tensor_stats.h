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

// FNV-1a with 64 bits, the digest of the golden files.
class Digest {
 public:
  void Add(std::span<const std::byte> bytes);
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

}  // namespace isonorm_cli
