// Memory for one tensor as a test wants it: any misalignment, space between rows, and a known pattern wherever no element is.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "golden/golden.h"

namespace isonorm_cli {

// What the library sees of a buffer, or of a part of it. It points into itself.
struct View {
  View() = default;
  View(const View&) = delete;
  View& operator=(const View&) = delete;
  isonorm_tensor tensor = {};
  std::array<int64_t, 3> shape = {}, strides = {};
};

class Buffer {
 public:
  // 1 to 3 dimensions. Of more than one, rows are `padding` elements apart from each other. The first element lies `offset`
  // elements behind a 64-byte boundary. All of it holds the pattern.
  Buffer(const std::vector<int64_t>& shape, Type type, int offset, int64_t padding);

  // Compact row-major bytes in.
  void Fill(const std::vector<uint8_t>& bytes);
  // Compact row-major bytes out.
  std::vector<uint8_t> Compact() const;

  // Whether everything around the elements still holds the pattern.
  bool SurroundingsIntact() const;
  // Everything, elements and surroundings, to compare before and after.
  const std::vector<uint8_t>& Raw() const { return memory_; }

  isonorm_tensor* tensor() { return &whole_.tensor; }
  // The columns from `first` on of a vector or matrix; rows of a matrix; what lies at an index of the first dimension.
  void Columns(int64_t first, int64_t count, View* view) const;
  void Rows(int64_t first, int64_t count, View* view) const;
  void At(int64_t index, View* view) const;

 private:
  size_t RowBytes() const { return static_cast<size_t>(cols_) * size_; }
  size_t RowStart(int64_t row) const { return start_ + static_cast<size_t>(row * stride_) * size_; }
  // All of it, beginning so many elements later.
  void Copy(int64_t skipped, View* view) const;

  int64_t rows_, cols_, stride_;
  size_t size_, start_;
  std::vector<uint8_t> memory_;
  View whole_;
};

}  // namespace isonorm_cli
