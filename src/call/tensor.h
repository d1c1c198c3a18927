// Checks of single tensors and of pairs of them, shared by every entry point.
#pragma once

#include <cstdint>

#include "isonorm/isonorm.h"
#include "numbers/rounding.h"

namespace isonorm {

// kNone for a dtype that the library does not have.
Type TypeOf(isonorm_dtype dtype);
const char* NameOf(Type type);

// A tensor that passed CheckTensor: its address and strides, and how far it reaches in memory. Without initialisers, for a
// call has room for many and uses few.
struct View {
  const char* name;
  const isonorm_tensor* tensor;
  Type type;
  char* data;          // first element, byte_offset included; null if empty
  int64_t strides[7];  // elements
  intptr_t low, high;  // bytes [low, high) hold every element; equal if empty

  int ndim() const { return tensor->ndim; }
  int64_t size(int dimension) const { return tensor->shape[dimension]; }
  // One value stands for all of the last dimension.
  bool repeats() const { return size(ndim() - 1) > 1 && strides[ndim() - 1] == 0; }
  int64_t row_bytes() const { return (repeats() ? 1 : size(ndim() - 1)) << Log2SizeOf(type); }
};

// Rank, dtype, sizes, strides, overflow and null data of one tensor. Of an empty tensor no stride is looked at; the
// last one must be 1 or 0 where its size is above 1.
isonorm_status CheckTensor(const char* name, const isonorm_tensor* tensor, View* view);

// The last stride must not be 0.
isonorm_status CheckContiguous(const View& view);

// An output must not have two elements in one place.
isonorm_status CheckOutput(const View& view);

// Two tensors whose extents meet: ISONORM_OK if they interleave without sharing a byte, or if the output lies exactly over the
// other and `in_place` allows that.
isonorm_status CheckMeeting(const View& output, const View& other, bool in_place);

}  // namespace isonorm
