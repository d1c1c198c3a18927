// An array of NumPy as a tensor of the C ABI: address, shape and strides as they lie, and nothing is copied. They are read from
// the array itself, by NumPy's own header: arrays of ml_dtypes have neither buffer nor DLPack, and __array_struct__ of three
// arrays takes as long as normalising 2,000 values.
#pragma once

#include <isonorm/isonorm.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <string>

#include "base/fields.h"

namespace isonorm_python {

namespace nb = nanobind;

enum class Access { kRead, kWrite };
// What an argument may be: an array of NumPy, or also a tensor in CPU memory of any framework that has DLPack.
enum class Source { kNumPy, kAny };

using isonorm_base::Sized;

class Array {
 public:
  static constexpr int kMaxDims = 7;

  Array() {}
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  // None leaves it absent. Throws TypeError or ValueError, which name the argument.
  void Read(nb::handle array, const char* name, Access access = Access::kRead, Source source = Source::kNumPy);

  // Of numbers of each row of x, which a vector has one of: an array without dimensions is then what the C ABI has as [1].
  void ReadPerRow(nb::handle array, const char* name, const Array& x, Access access = Access::kRead,
                  Source source = Source::kNumPy);

  // Null if absent. Valid as long as this and the array are.
  const isonorm_tensor* get() const { return present_ ? &tensor_ : nullptr; }
  // Both 0 if absent.
  std::int64_t size() const;
  // Whether the last dimension is one that the library takes in an input: side by side, or one value for all.
  bool dense() const { return !present_ || static_cast<std::uint64_t>(strides_[tensor_.ndim - 1]) <= 1; }
  int bits() const { return present_ ? tensor_.dtype.bits : 0; }

 private:
  bool IsVector() const { return present_ && tensor_.ndim == 1; }
  void ReadNumPy(nb::handle array, const char* name, Access access);
  void ReadDlpack(nb::handle tensor, const char* name, Access access);
  // shape_[i] and its stride in elements; NumPy and others promise nothing about the strides of dimensions of size 1.
  void SetDims(int ndim, const char* name);

  bool present_ = false;
  int least_dims_ = 1;
  isonorm_tensor tensor_;
  std::int64_t shape_[kMaxDims], strides_[kMaxDims];
  nb::object owner_;  // of the memory that shape and data came from
};

// TypeError for an argument that is no array.
[[noreturn]] void RefuseType(nb::handle object, const char* name);

// Finds numpy.ndarray; once, before any array is read.
void LoadNumPy();

// The type of an object as its users write it, "torch.Tensor".
std::string TypeOf(nb::handle object);

// "float32" and so on, "" if there is no such type.
const char* DtypeName(isonorm_dtype dtype);

}  // namespace isonorm_python
