// The canonical order of every sum, "H64 v1" (docs/numerics.md §1): which elements form a leaf, and how leaves combine.
// One source for every backend.
#pragma once

#include <cstdint>

#include "numbers/device.h"

namespace isonorm {

constexpr int kLanes = 64;     // partial sums in a leaf
constexpr int kMaxLeaf = 512;  // elements in the longest leaf of any row
constexpr int kOneLeaf = 128;  // elements of the longest row that is a single leaf
constexpr int kMaxDepth = 60;  // levels of the leaf tree that an int64 width can need

// The leaves of a row of `cols` elements.
struct Leaves {
  int64_t cols;
  int64_t eights;  // cols in units of 8 elements, rounded up
  int depth;       // log2 of the number of leaves

  ISONORM_HD int64_t count() const { return int64_t{1} << depth; }

  // First element of leaf i; leaf i ends where leaf i + 1 begins. 0 <= i <= count().
  ISONORM_HD int64_t begin(int64_t i) const {
    // eights * i would overflow for absurd widths, so the quotient and the remainder are taken apart.
    const int64_t whole = eights >> depth;
    const int64_t rest = eights & (count() - 1);
    const int64_t at = 8 * (whole * i + ((rest * i) >> depth));
    return at < cols ? at : cols;
  }

  // Every leaf has the same length, a multiple of 8.
  ISONORM_HD bool equal() const { return depth == 0 || (cols & (8 * count() - 1)) == 0; }
};

// At least 8 leaves above 512 elements, so that up to 8 ranks or threads own whole subtrees.
ISONORM_HD inline Leaves LeavesOf(int64_t cols) {
  Leaves leaves{cols, cols / 8 + (cols % 8 != 0), 0};
  while (((cols - 1) >> leaves.depth) + 1 > (leaves.depth < 3 ? kOneLeaf : kMaxLeaf)) ++leaves.depth;
  return leaves;
}

// The most ranks among which a row of `cols` elements can be split evenly, so that each has whole leaves: a power of two. Every
// smaller one will do as well. A rank begins on an element that is a multiple of 8, and so does a leaf.
ISONORM_HD inline int64_t MaxRanks(int64_t cols) {
  const Leaves leaves = LeavesOf(cols);
  int64_t ranks = 1;
  while (ranks < leaves.count() && (cols & (16 * ranks - 1)) == 0) ranks *= 2;
  return ranks;
}

// The leaves of one of `ranks` shards of `cols` elements each, counted from its start: those of the whole row that lie in it,
// which are the same for every shard.
ISONORM_HD inline Leaves LeavesOfShard(int64_t cols, int64_t ranks) {
  Leaves leaves = LeavesOf(cols * ranks);
  if (ranks == 1) return leaves;
  leaves.cols = cols;
  leaves.eights = cols / 8;
  for (; ranks > 1; ranks /= 2) --leaves.depth;
  return leaves;
}

// Adds the leaves' values, given from left to right, pairwise: ((0+1)+(2+3))+((4+5)+(6+7)).
template <class F>
class LeafTree {
 public:
  ISONORM_HD LeafTree() { pending_[0] = F(0); }
  ISONORM_HD void Push(F value) {
    for (uint64_t i = pushed_++; i & 1; i >>= 1) value = pending_[--pending_count_] + value;
    pending_[pending_count_++] = value;
  }
  // All leaves were pushed: their number is a power of two, so one value is left.
  ISONORM_HD F Total() const { return pending_[0]; }

 private:
  uint64_t pushed_ = 0;
  int pending_count_ = 0;
  F pending_[kMaxDepth];
};

// Rows whose products a column of dweight sums from left to right before blocks combine pairwise.
constexpr int64_t kRowBlock = 32;

}  // namespace isonorm
