// A tensor of the tests: values go in and out as long double, rounded once to the storage type.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "support/storage.h"

namespace isonorm_test {

class Tensor {
 public:
  Tensor() = default;  // absent: abi() is null
  Tensor(Type type, std::vector<int64_t> shape) : type_(type), shape_(std::move(shape)), present_(true) {
    int64_t count = 1;
    for (int64_t size : shape_) count *= size;
    bytes_.resize(static_cast<size_t>(count) * FormatOf(type).bytes);
  }
  // A vector.
  static Tensor Of(Type type, const std::vector<long double>& values) {
    Tensor tensor(type, std::vector<int64_t>{static_cast<int64_t>(values.size())});
    return tensor.Fill([&](int64_t i) { return values[static_cast<size_t>(i)]; });
  }

  // Every element from its index.
  Tensor& Fill(const std::function<long double(int64_t)>& value) {
    for (int64_t i = 0; i < size(); ++i) Set(i, value(i));
    return *this;
  }
  void Set(int64_t index, long double value) { Put(type_, value, bytes_.data() + Offset(index)); }
  long double operator[](int64_t index) const { return Get(type_, bytes_.data() + Offset(index)); }

  bool present() const { return present_; }
  Type type() const { return type_; }
  int64_t size() const { return static_cast<int64_t>(bytes_.size() / FormatOf(type_).bytes); }
  int64_t cols() const { return shape_.back(); }
  const std::vector<int64_t>& shape() const { return shape_; }
  std::vector<uint8_t>& bytes() { return bytes_; }
  const std::vector<uint8_t>& bytes() const { return bytes_; }
  std::vector<long double> values() const {
    std::vector<long double> all(static_cast<size_t>(size()));
    for (int64_t i = 0; i < size(); ++i) all[static_cast<size_t>(i)] = (*this)[i];
    return all;
  }

  // Valid until this object is moved, copied over or destroyed.
  const isonorm_tensor* abi() {
    if (!present_) return nullptr;
    tensor_ = {
        bytes_.data(), {ISONORM_DEVICE_CPU, 0}, static_cast<int32_t>(shape_.size()), DtypeOf(type_), shape_.data(), nullptr, 0};
    return &tensor_;
  }

 private:
  size_t Offset(int64_t index) const { return static_cast<size_t>(index) * FormatOf(type_).bytes; }

  Type type_ = Type::kF32;
  std::vector<int64_t> shape_;
  std::vector<uint8_t> bytes_;
  isonorm_tensor tensor_{};
  bool present_ = false;
};

}  // namespace isonorm_test
