// Memory for one tensor as a test wants it: any misalignment, space between rows, and a known pattern wherever no element is.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "golden.h"

namespace isonorm_cli {

class Buffer {
 public:
  // `ndim` 1 makes a vector of `cols` (rows is 1), 2 a matrix whose rows are cols + padding elements apart. The first element
  // lies `offset` elements behind a 64-byte boundary. All of it holds the pattern.
  Buffer(int ndim, int64_t rows, int64_t cols, Type type, int offset, int64_t padding);
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // Compact row-major bytes in.
  void Fill(const std::vector<uint8_t>& bytes);
  // Compact row-major bytes out.
  std::vector<uint8_t> Compact() const;
  Digest DigestOf() const;

  // Whether everything around the elements still holds the pattern.
  bool SurroundingsIntact() const;
  // Everything, elements and surroundings, to compare before and after.
  const std::vector<uint8_t>& Raw() const { return memory_; }

  isonorm_tensor* tensor() { return &tensor_; }

 private:
  size_t RowBytes() const { return static_cast<size_t>(cols_) * size_; }
  size_t RowStart(int64_t row) const { return start_ + static_cast<size_t>(row * stride_) * size_; }

  int64_t rows_, cols_, stride_;
  size_t size_, start_;
  std::vector<uint8_t> memory_;
  std::array<int64_t, 2> shape_, strides_;
  isonorm_tensor tensor_;
};

}  // namespace isonorm_cli
