// The rotation of a head as the specification sees it (numerics.md §2, step 7, and §4, step 1).
#pragma once

#include <cmath>

#include "numbers/rope.h"
#include "numbers/rounding.h"

namespace isonorm::reference {

// Column j of a head of a row of the call, whose columns are value(0), value(1) and so on, after its rotation; back: the other
// way, which takes a gradient of what is rotated to one of what is not. A position that the tables do not hold makes the whole row NaN: no
// CPU runs such a call, but on a device nobody looks at positions beforehand.
template <class F, class Value>
F Rotated(const Rope& rope, int64_t row, int64_t j, bool back, Value value) {
  if (!rope.Holds(rope.PositionAt(row / rope.rows_each))) return CanonicalNaN<F>();
  if (j >= 2 * rope.half) return value(j);
  const bool first = rope.interleaved ? j % 2 == 0 : j < rope.half;
  const int64_t step = rope.interleaved ? 1 : rope.half, pair = rope.interleaved ? j / 2 : j % rope.half;
  const Rope::Angles angles = rope.AnglesOf(row);
  const F c = LoadScalar<F>(angles.cos, rope.table, pair), s = LoadScalar<F>(angles.sin, rope.table, pair);
  const F other = value(first ? j + step : j - step), product = value(j) * c;
  return std::fma(first != back ? -other : other, s, product);
}

}  // namespace isonorm::reference
