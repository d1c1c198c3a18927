// The rotation of a call's heads: which table row belongs to a row of the call, and where its cosines and sines lie. The numbers
// are defined in docs/numerics.md §2, step 7.
#pragma once

#include <cstddef>
#include <cstdint>

#include "numbers/rounding.h"

namespace isonorm {

// A head with rotation is one chunk of the general path.
constexpr int64_t kMaxHead = 512;

// Without initialisers but for the first one: most calls have none.
struct Rope {
  bool on = false;
  bool interleaved;  // pairs are neighbours, instead of half a rotary dimension apart
  Type table;        // of cos and sin
  Type rounded_to;   // of 16 bits: what leaves the norm is rounded to it before it is rotated
  int64_t half;      // pairs of a head
  const char *cos, *sin;
  int64_t cos_stride, sin_stride;  // bytes from position to position

  int64_t rows_each;  // neighbouring rows of the call that share a position
  // Where positions come from: a tensor with `dims` dimensions left after collapsing, or an offset and an index that repeats.
  const char* positions;
  bool wide_positions;  // int64 instead of int32
  int dims;
  int64_t size[6], stride[6];  // strides in elements
  int64_t offset, period;
  int64_t table_rows;  // of cos and sin; only a tensor can hold a position that is none of them

  // Of entry `index` of the positions, which rows [index * rows_each, (index + 1) * rows_each) share.
  int64_t PositionAt(int64_t index) const {
    if (positions == nullptr) return offset + index % period;
    int64_t element = 0;
    for (int d = dims - 1; d > 0; --d) {
      element += index % size[d] * stride[d];
      index /= size[d];
    }
    if (dims > 0) element += index * stride[0];
    return wide_positions ? reinterpret_cast<const int64_t*>(positions)[element]
                          : int64_t{reinterpret_cast<const int32_t*>(positions)[element]};
  }
  int64_t PositionCount() const {
    int64_t count = 1;
    for (int d = 0; d < dims; ++d) count *= size[d];
    return count;
  }
  bool Holds(int64_t position) const { return position >= 0 && position < table_rows; }
  // The place in the tables of a row of the call.
  struct Angles {
    const char *cos, *sin;
  };
  Angles AnglesAt(int64_t index) const {
    const int64_t position = PositionAt(index);
    return {cos + position * cos_stride, sin + position * sin_stride};
  }
  Angles AnglesOf(int64_t row) const { return AnglesAt(rows_each == 1 ? row : row / rows_each); }
};

}  // namespace isonorm
