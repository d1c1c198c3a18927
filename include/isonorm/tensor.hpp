// Views that carry their shape and type, and the exception that the C++ face throws. isonorm.hpp includes it.
#pragma once

#include <isonorm/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
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
  [[nodiscard]] isonorm_status status() const noexcept { return status_; }

 private:
  isonorm_status status_;
};

namespace detail {
inline void check(isonorm_status code) {
  if (code != ISONORM_OK) throw error(code, isonorm_last_error());
}

// The C ABI reads a name up to its first NUL, so a longer one would be taken for another name: it is refused.
inline const char* c_name(const std::string& name, isonorm_status otherwise) {
  if (const std::size_t at = name.find('\0'); at != name.npos) {
    throw error(otherwise, "name has a NUL at index " + std::to_string(at) + ", but must be text without one.");
  }
  return name.c_str();
}
}  // namespace detail

// -------------------------------------------------------------------------------------------------------------- dtypes

// Behind f64: for quantised outputs and their scales, and for positions.
enum class dtype { f32, bf16, f16, f64, i8, e4m3, e5m2, e8m0, i32, i64 };

[[nodiscard]] constexpr isonorm_dtype to_c(dtype type) {
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

[[nodiscard]] constexpr std::int64_t size_of(dtype type) { return to_c(type).bits / 8; }

// The compiler's own 16-bit types, where it has them. GCC 12 knows the limits of _Float16 on aarch64, but not the type.
#if defined(__FLT16_MANT_DIG__) && (defined(__clang__) || __GNUC__ >= 13 || defined(__SSE2__))
#define ISONORM_FLOAT16 _Float16  // std::float16_t too
#endif
#if defined(__BFLT16_MANT_DIG__)
#define ISONORM_BFLOAT16 __bf16  // std::bfloat16_t too
#endif

// Which dtype a C++ type holds. Specialise it for other bf16 and f16 types of your program:
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
#if defined(ISONORM_FLOAT16)
template <>
struct dtype_of<ISONORM_FLOAT16> {
  static constexpr dtype value = dtype::f16;
};
#endif
#if defined(ISONORM_BFLOAT16)
template <>
struct dtype_of<ISONORM_BFLOAT16> {
  static constexpr dtype value = dtype::bf16;
};
#endif
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

// A pointer to such values.
template <class P>
concept values_pointer = std::is_pointer_v<P> && requires {
  dtype_of<std::remove_cv_t<std::remove_pointer_t<P>>>::value;
};

template <class R>
concept mutable_values = values<R> && !std::is_const_v<std::remove_reference_t<std::ranges::range_reference_t<R>>>;

// ------------------------------------------------------------------------------------------------------------- tensors

// Sizes, or strides in elements, of up to 7 dimensions; the last one is the normalised one.
class dims {
 public:
  dims() = default;
  dims(std::initializer_list<std::int64_t> sizes) : dims(std::span(sizes.begin(), sizes.size())) {}
  dims(std::span<const std::int64_t> sizes) : count_(static_cast<int>(sizes.size())) {
    if (sizes.size() > values_.size()) {
      throw error(ISONORM_ERROR_RANK, "a tensor has " + std::to_string(sizes.size()) + " dimensions; 1 to 7 are allowed.");
    }
    for (std::size_t i = 0; i < sizes.size(); ++i) values_[i] = sizes[i];
  }
  [[nodiscard]] int count() const { return count_; }
  [[nodiscard]] const std::int64_t* data() const { return values_.data(); }

 private:
  std::array<std::int64_t, 7> values_{};
  int count_ = 0;
};

// A view of values that a call reads, or none: {} is a tensor that is not given. It owns its shape and not its data.
class const_tensor {
 public:
  const_tensor() = default;

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

  // Any memory: `strides` in elements; without them compact row-major.
  template <values_pointer P>
  const_tensor(const P& data, const dims& shape, const dims& strides = {})
      : const_tensor(data, dtype_of<std::remove_cv_t<std::remove_pointer_t<P>>>::value, shape, strides) {}
  const_tensor(const void* data, dtype type, const dims& shape, const dims& strides = {})
      : data_(const_cast<void*>(data)), type_(type), given_(true), shape_(shape), strides_(strides) {
    if (strides.count() != 0 && strides.count() != shape.count()) {
      throw error(ISONORM_ERROR_RANK, "a tensor has " + std::to_string(shape.count()) + " dimensions and " +
                                          std::to_string(strides.count()) + " strides; as many strides are needed.");
    }
  }

  explicit operator bool() const { return given_; }
  [[nodiscard]] dtype type() const { return type_; }
  [[nodiscard]] const dims& shape() const { return shape_; }

  // What the C ABI reads. It points into this view, which must outlive it.
  [[nodiscard]] isonorm_tensor c_tensor() const {
    return {data_,
            {ISONORM_DEVICE_CPU, 0},
            shape_.count(),
            to_c(type_),
            const_cast<std::int64_t*>(shape_.data()),
            strides_.count() != 0 ? const_cast<std::int64_t*>(strides_.data()) : nullptr,
            0};
  }

 private:
  void check_size(std::int64_t size) const {
    std::int64_t product = 1;
    for (int i = 0; i < shape_.count(); ++i) {
      const std::int64_t n = shape_.data()[i];
      if (n < 0)
        throw error(ISONORM_ERROR_SHAPE, "a tensor has a dimension of size " + std::to_string(n) + "; 0 is the least.");
      if (n != 0 && product > std::numeric_limits<std::int64_t>::max() / n) {
        throw error(ISONORM_ERROR_OVERFLOW, "the number of elements of a tensor does not fit in int64.");
      }
      product *= n;
    }
    if (product != size) {
      throw error(ISONORM_ERROR_SHAPE, "a tensor's shape asks for " + std::to_string(product) + " values and its data has " +
                                           std::to_string(size) + "; the two must be equal.");
    }
  }

  void* data_ = nullptr;
  dtype type_ = dtype::f32;
  bool given_ = false;
  dims shape_, strides_;
};

// A view of values that a call may write: the same constructors, from data that is not const.
class tensor : public const_tensor {
 public:
  tensor() = default;
  template <mutable_values R>               // a tensor is no range, so this hides neither copy nor move
  tensor(R&& data) : const_tensor(data) {}  // NOLINT(bugprone-forwarding-reference-overload)
  template <mutable_values R>
  tensor(R&& data, std::int64_t rows, std::int64_t cols) : const_tensor(data, rows, cols) {}
  template <mutable_values R>
  tensor(R&& data, const dims& shape) : const_tensor(data, shape) {}
  template <values_pointer P>
  requires(!std::is_const_v<std::remove_pointer_t<P>>) tensor(const P& data, const dims& shape, const dims& strides = {})
      : const_tensor(data, shape, strides) {}
  tensor(void* data, dtype type, const dims& shape, const dims& strides = {}) : const_tensor(data, type, shape, strides) {}
};

namespace detail {
// Room for the C views of a call's tensors, which are to outlive them; that of one that is not given is null.
template <std::size_t N>
class c_tensors {
 public:
  c_tensors() = default;
  c_tensors(const c_tensors&) = delete;
  c_tensors& operator=(const c_tensors&) = delete;

  const isonorm_tensor* operator()(const const_tensor& view) {
    if (!view) return nullptr;
    return &(room_.at(count_++) = view.c_tensor());
  }
  const isonorm_tensor* operator()(const const_tensor&&) = delete;

 private:
  std::array<isonorm_tensor, N> room_{};
  std::size_t count_ = 0;
};
}  // namespace detail

}  // namespace isonorm
