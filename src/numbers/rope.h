// The rotation of a call's heads: which table row belongs to a row of the call, where its cosines and sines lie, and what
// becomes of a column (docs/numerics.md §2, step 7, and §4, step 1).
#pragma once

#include <cmath>
#include <cstdint>

#include "numbers/device.h"
#include "numbers/memory.h"
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
  ISONORM_HD int64_t PositionAt(int64_t index) const {
    if (positions == nullptr) return offset + index % period;
    int64_t element = 0;
    for (int d = dims - 1; d > 0; --d) {
      element += index % size[d] * stride[d];
      index /= size[d];
    }
    if (dims > 0) element += index * stride[0];
    return wide_positions ? LoadAt<int64_t>(positions, element) : int64_t{LoadAt<int32_t>(positions, element)};
  }
  int64_t PositionCount() const {
    int64_t count = 1;
    for (int d = 0; d < dims; ++d) count *= size[d];
    return count;
  }
  ISONORM_HD bool Holds(int64_t position) const { return position >= 0 && position < table_rows; }
  // The place in the tables of a row of the call.
  struct Angles {
    const char *cos, *sin;
  };
  ISONORM_HD Angles AnglesAt(int64_t index) const {
    const int64_t position = PositionAt(index);
    return {cos + position * cos_stride, sin + position * sin_stride};
  }
  ISONORM_HD Angles AnglesOf(int64_t row) const { return AnglesAt(rows_each == 1 ? row : row / rows_each); }
};

// Column j of a head of a row of the call, whose columns are value(0), value(1) and so on, after its rotation; back: the other
// way, which takes a gradient of what is rotated to one of what is not. A position that the tables do not hold makes the whole
// row NaN: no CPU runs such a call, but on a device nobody looks at positions beforehand.
template <class F, class Value>
ISONORM_HD F Rotated(const Rope& rope, int64_t row, int64_t j, bool back, Value value) {
  if (!rope.Holds(rope.PositionAt(row / rope.rows_each))) return CanonicalNaN<F>();
  if (j >= 2 * rope.half) return value(j);
  const bool first = rope.interleaved ? j % 2 == 0 : j < rope.half;
  const int64_t step = rope.interleaved ? 1 : rope.half, pair = rope.interleaved ? j / 2 : j % rope.half;
  const Rope::Angles angles = rope.AnglesOf(row);
  const F c = LoadScalar<F>(angles.cos, rope.table, pair), s = LoadScalar<F>(angles.sin, rope.table, pair);
  const F other = value(first ? j + step : j - step), product = value(j) * c;
  return std::fma(first != back ? -other : other, s, product);
}

}  // namespace isonorm
