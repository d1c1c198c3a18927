// Memory for one tensor, anywhere and with any strides, and with something around it that notices a stray access.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "problem.h"

namespace core_test {

enum class Guard {
  kPattern,      // known bytes all around, checked afterwards
  kPageBehind,   // an inaccessible page starts right behind the last element: a stray read or write crashes
  kPageInFront,  // an inaccessible page ends right before the first element
};

class Memory {
 public:
  // strides: of all dimensions in elements, also 0 or negative; empty: compact. offset: elements behind a 64-byte boundary, and
  // bytes, which may leave them unaligned, behind that.
  Memory(std::vector<int64_t> shape, std::vector<int64_t> strides, Type type, int offset = 0, Guard guard = Guard::kPattern,
         int bytes = 0);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void Fill(const Bytes& compact);
  Bytes Compact() const;
  Bytes All() const { return Bytes(base_, base_ + size_); }  // elements and what is around them
  bool SurroundingsIntact() const;

  isonorm_tensor* tensor() { return &tensor_; }

 private:
  int64_t rows() const;
  uint8_t* Row(int64_t index) const;  // by its number in row-major order
  size_t RowBytes() const { return static_cast<size_t>(shape_.back()) * SizeOf(type_); }
  bool repeats() const { return strides_.back() == 0; }  // one value stands for a row

  std::vector<int64_t> shape_, strides_;
  Type type_;
  uint8_t* mapping_ = nullptr;  // with the inaccessible pages
  size_t mapped_ = 0;
  uint8_t* base_ = nullptr;  // accessible bytes
  size_t size_ = 0;
  uint8_t* first_ = nullptr;  // the first element
  isonorm_tensor tensor_ = {};
};

}  // namespace core_test
