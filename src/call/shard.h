// A row that several ranks share: what a rank hands to the others, what it gets from them, and what it keeps. A rank owns
// whole leaves, so its sum is one subtree of the row's, and all ranks' sums combine as leaves do (docs/numerics.md §1).
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "call/call.h"
#include "numbers/order.h"
#include "numbers/rounding.h"
#include "numbers/scaling.h"

namespace isonorm {

// What the ranks exchange, in this order. RMS has no means; the last three are for rows that may need the scaled path.
enum class Round : uint8_t { kMean, kSquares, kLargest, kScaledMean, kScaledSquares };

// What the sums of all ranks add up to, for one row: the layout of the tensor `statistic`.
template <class F>
struct RowStatistic {
  F sum;      // LayerNorm: of h
  F squares;  // of h, or of d = h - mean
  F shift;    // LayerNorm: the sum of d
  F largest;  // of a scaled row, whose sums above are of scaled values; 0: it is not scaled

  bool scaled() const { return largest > 0 && largest <= std::numeric_limits<F>::max(); }
};

// Addresses and strides in bytes; rows by their index in the call.
struct Shard {
  Round round = Round::kSquares;
  char* partial = nullptr;
  int64_t partial_stride = 0;
  const char* gathered = nullptr;
  int64_t gathered_rank_stride = 0, gathered_row_stride = 0;
  char* statistic = nullptr;
  int64_t statistic_stride = 0;

  template <class F>
  RowStatistic<F>& StatisticOf(int64_t row) const {
    return *reinterpret_cast<RowStatistic<F>*>(statistic + row * statistic_stride);
  }
  template <class F>
  F Gathered(int64_t rank, int64_t row, int value) const {
    return reinterpret_cast<const F*>(gathered + rank * gathered_rank_stride + row * gathered_row_stride)[value];
  }
  // All ranks' sums, in rank order.
  template <class F>
  F Total(const Call& call, int64_t row, int value) const {
    LeafTree<F> tree;
    for (int64_t rank = 0; rank < call.ranks; ++rank) tree.Push(Gathered<F>(rank, row, value));
    return tree.Total();
  }
  // LayerNorm has two values for each row, RMS one. NaN is stored in one form only, and zero is always +0: a masked lane that
  // computes fma(0, 0, -0) makes it that, others would send -0.
  template <class F>
  void StorePartial(const Call& call, int64_t row, F first, F second) const {
    F* const out = reinterpret_cast<F*>(partial + row * partial_stride);
    out[0] = CanonicalOrSame(first + F(0));
    if (call.layer) out[1] = CanonicalOrSame(second + F(0));
  }
};

constexpr int64_t PartialValues(const Call& call) { return call.layer ? 2 : 1; }

template <class F>
F MeanOf(const Call& call, const RowStatistic<F>& statistic) {
  return call.layer ? Mean(statistic.sum, call.counted()) : F(0);
}

// This rank's values of the round for a row, by the steps that the row's group on this rank has.
template <class F, class Group>
void WritePartial(const Call& call, int64_t row, Group& group) {
  const Shard& shard = *call.shard;
  const RowStatistic<F>& known = shard.StatisticOf<F>(row);  // not yet written in the first round
  const bool scaled_round = shard.round > Round::kLargest;
  F first = 0, second = 0;
  if (shard.round == Round::kLargest) {
    if (AskForScaling(known.squares, MeanOf(call, known), static_cast<F>(call.eps), call.eps_outside)) {
      first = group.LargestOrInfinity();
    }
  } else if (!scaled_round || known.scaled()) {
    if (scaled_round) group.ScaleBy(known.largest);
    if (shard.round == Round::kMean || shard.round == Round::kScaledMean) {
      first = group.SumOfValues();
    } else {
      if (call.layer) group.SetMean(MeanOf(call, known));
      first = group.SumOfSquares(&second);
    }
  }
  shard.StorePartial(call, row, first, second);
}

}  // namespace isonorm
