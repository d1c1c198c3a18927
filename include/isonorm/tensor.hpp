// Views that carry their shape and type, and the exception that the C++ face throws. isonorm.hpp includes it.
#pragma once

#include <isonorm/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace isonorm {

// ------------------------------------------------------------------------------------------------------------- errors

using status = isonorm_status;

class error : public std::runtime_error {
 public:
  error(isonorm_status code, const std::string& message) : std::runtime_error(message), status_(code) {}
  isonorm_status status() const noexcept { return status_; }

 private:
  isonorm_status status_;
};

namespace detail {
inline void check(isonorm_status code) {
  if (code != ISONORM_OK) throw error(code, isonorm_last_error());
}
}  // namespace detail

// -------------------------------------------------------------------------------------------------------------- dtypes

// Behind f64: for quantised outputs and their scales, and for positions.
enum class dtype { f32, bf16, f16, f64, i8, e4m3, e5m2, e8m0, i32, i64 };

constexpr isonorm_dtype to_c(dtype type) {
  switch (type) {
    case dtype::f32: return ISONORM_F32;
    case dtype::bf16: return ISONORM_BF16;
    case dtype::f16: return ISONORM_F16;
    case dtype::f64: return ISONORM_F64;
    case dtype::i8: return ISONORM_I8;
    case dtype::e4m3: return ISONORM_E4M3;
    case dtype::e5m2: return ISONORM_E5M2;
    case dtype::e8m0: return ISONORM_E8M0;
    case dtype::i32: return ISONORM_I32;
    case dtype::i64: return ISONORM_I64;
  }
  return {};
}

constexpr std::int64_t size_of(dtype type) { return to_c(type).bits / 8; }

// Which dtype a C++ type holds. Specialise it for the bf16 and f16 types of your program:
//   template <> struct isonorm::dtype_of<my::bfloat16> { static constexpr isonorm::dtype value = isonorm::dtype::bf16; };
template <class T>
struct dtype_of {};
template <>
struct dtype_of<float> {
  static constexpr dtype value = dtype::f32;
};
template <>
struct dtype_of<double> {
  static constexpr dtype value = dtype::f64;
};
template <>
struct dtype_of<std::int8_t> {
  static constexpr dtype value = dtype::i8;
};
template <>
struct dtype_of<std::int32_t> {
  static constexpr dtype value = dtype::i32;
};
template <>
struct dtype_of<std::int64_t> {
  static constexpr dtype value = dtype::i64;
};

// A contiguous run of a type that isonorm knows: std::span, std::vector, std::array, ...
template <class R>
concept values = std::ranges::contiguous_range<R> && std::ranges::sized_range<R> && requires {
  dtype_of<std::remove_cv_t<std::ranges::range_value_t<R>>>::value;
};

template <class R>
concept mutable_values = values<R> && !std::is_const_v<std::remove_reference_t<std::ranges::range_reference_t<R>>>;

// ------------------------------------------------------------------------------------------------------------- tensors

// Sizes, or strides in elements, of up to 7 dimensions; the last one is the normalised one.
class dims {
 public:
  dims(std::initializer_list<std::int64_t> sizes) : dims(std::span(sizes.begin(), sizes.size())) {}
  dims(std::span<const std::int64_t> sizes) : count_(static_cast<int>(sizes.size())) {
    if (sizes.size() > values_.size()) {
      throw error(ISONORM_ERROR_RANK, "a tensor has " + std::to_string(sizes.size()) + " dimensions; 1 to 7 are allowed");
    }
    for (std::size_t i = 0; i < sizes.size(); ++i) values_[i] = sizes[i];
  }
  int count() const { return count_; }
  const std::int64_t* data() const { return values_.data(); }

 private:
  std::array<std::int64_t, 7> values_{};
  int count_;
};

// A view of values that a call reads. It owns its shape and not its data.
class const_tensor {
 public:
  // A vector [size].
  template <values R>
  const_tensor(const R& data) : const_tensor(data, dims{static_cast<std::int64_t>(std::ranges::size(data))}) {}

  // Compact row-major; data must hold exactly rows * cols values.
  template <values R>
  const_tensor(const R& data, std::int64_t rows, std::int64_t cols) : const_tensor(data, dims{rows, cols}) {}

  template <values R>
  const_tensor(const R& data, const dims& shape)
      : const_tensor(std::ranges::data(data), dtype_of<std::remove_cv_t<std::ranges::range_value_t<R>>>::value, shape) {
    check_size(static_cast<std::int64_t>(std::ranges::size(data)));
  }

  // Any memory: `strides` in elements, the last one 1; without them compact row-major.
  const_tensor(const void* data, dtype type, const dims& shape, const std::optional<dims>& strides = std::nullopt)
      : data_(const_cast<void*>(data)), type_(type), shape_(shape), strides_(strides) {
    if (strides && strides->count() != shape.count()) {
      throw error(ISONORM_ERROR_RANK, "a tensor has " + std::to_string(shape.count()) + " dimensions and " +
                                          std::to_string(strides->count()) + " strides; as many strides are needed");
    }
  }

  dtype type() const { return type_; }
  const dims& shape() const { return shape_; }

  // What the C ABI reads. It points into this view, which must outlive it.
  isonorm_tensor c_tensor() const {
    return {data_,
            {ISONORM_DEVICE_CPU, 0},
            shape_.count(),
            to_c(type_),
            const_cast<std::int64_t*>(shape_.data()),
            strides_ ? const_cast<std::int64_t*>(strides_->data()) : nullptr,
            0};
  }

 private:
  void check_size(std::int64_t size) const {
    std::int64_t product = 1;
    for (int i = 0; i < shape_.count(); ++i) {
      const std::int64_t n = shape_.data()[i];
      if (n < 0) throw error(ISONORM_ERROR_SHAPE, "a tensor has a dimension of size " + std::to_string(n) + "; 0 is the least");
      if (n != 0 && product > std::numeric_limits<std::int64_t>::max() / n) {
        throw error(ISONORM_ERROR_OVERFLOW, "the number of elements of a tensor does not fit in int64");
      }
      product *= n;
    }
    if (product != size) {
      throw error(ISONORM_ERROR_SHAPE, "a tensor's shape asks for " + std::to_string(product) + " values and its data has " +
                                           std::to_string(size) + "; the two must be equal");
    }
  }

  void* data_;
  dtype type_;
  dims shape_;
  std::optional<dims> strides_;
};

// A view of values that a call may write: the same constructors, from data that is not const.
class tensor : public const_tensor {
 public:
  template <mutable_values R>               // a tensor is no range, so this hides neither copy nor move
  tensor(R&& data) : const_tensor(data) {}  // NOLINT(bugprone-forwarding-reference-overload)
  template <mutable_values R>
  tensor(R&& data, std::int64_t rows, std::int64_t cols) : const_tensor(data, rows, cols) {}
  template <mutable_values R>
  tensor(R&& data, const dims& shape) : const_tensor(data, shape) {}
  tensor(void* data, dtype type, const dims& shape, const std::optional<dims>& strides = std::nullopt)
      : const_tensor(data, type, shape, strides) {}
};

}  // namespace isonorm
