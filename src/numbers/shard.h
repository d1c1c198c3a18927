// A row that several ranks share: what a rank hands to the others, what it gets from them, and what it keeps. A rank owns
// whole leaves, so its sum is one subtree of the row's, and all ranks' sums combine as leaves do (docs/numerics.md §1).
#pragma once

#include <cstdint>

#include "numbers/device.h"
#include "numbers/memory.h"
#include "numbers/order.h"
#include "numbers/rounding.h"
#include "numbers/statistic.h"

namespace isonorm {

// What the ranks exchange, in this order. RMS has no means; the last three are for rows that may need the scaled path.
enum class Round : uint8_t { kMean, kSquares, kLargest, kScaledMean, kScaledSquares };

// Addresses and strides in bytes; rows by their index in the call.
struct Shard {
  Round round = Round::kSquares;
  int values = 1;  // that a rank hands over for each row: 1, or 2 of LayerNorm
  int64_t ranks = 1;
  char* partial = nullptr;
  int64_t partial_stride = 0;
  const char* gathered = nullptr;
  int64_t gathered_rank_stride = 0, gathered_row_stride = 0;
  char* statistic = nullptr;
  int64_t statistic_stride = 0;

  template <class F>
  ISONORM_HD RowStatistic<F> SumsOf(int64_t row) const {
    return LoadAt<RowStatistic<F>>(statistic + row * statistic_stride, 0);
  }
  template <class F>
  ISONORM_HD void StoreSums(const RowStatistic<F>& sums, int64_t row) const {
    StoreAt(sums, statistic + row * statistic_stride, 0);
  }
  template <class F>
  ISONORM_HD F Gathered(int64_t rank, int64_t row, int value) const {
    return LoadAt<F>(gathered + rank * gathered_rank_stride + row * gathered_row_stride, value);
  }
  // All ranks' sums, in rank order.
  template <class F>
  ISONORM_HD F Total(int64_t row, int value) const {
    LeafTree<F> tree;
    for (int64_t rank = 0; rank < ranks; ++rank) tree.Push(Gathered<F>(rank, row, value));
    return tree.Total();
  }
  // NaN is stored in one form only, so that all ranks see the same bytes, and zero is always +0: a masked lane that computes
  // fma(0, 0, -0) makes it that, others would send -0.
  template <class F>
  ISONORM_HD void StorePartial(int64_t row, F first, F second) const {
    char* const out = partial + row * partial_stride;
    StoreAt(CanonicalOrSame(first + F(0)), out, 0);
    if (values == 2) StoreAt(CanonicalOrSame(second + F(0)), out, 1);
  }
};

// This rank's values of the round for a row, by the steps that the row offers (Norm::Accumulate).
template <class F, class Row>
ISONORM_HD void WritePartial(const Shard& shard, const Norm& norm, int64_t index, const Row& row) {
  const bool scaled_round = shard.round > Round::kLargest;
  const RowStatistic<F> known = shard.SumsOf<F>(index);  // not yet written in the first round
  F first = 0, second = 0;
  if (shard.round == Round::kLargest) {
    if (norm.AskForScaling(known)) first = row.LargestOrInfinity();
  } else if (!scaled_round || known.scaled()) {
    const int exponent = scaled_round ? std::ilogb(known.largest) : 0;
    if (shard.round == Round::kMean || shard.round == Round::kScaledMean) {
      first = row.SumOfValues(exponent, F(0));
    } else {
      first = row.SumOfSquares(exponent, norm.MeanOf(known), norm.centres() ? &second : nullptr);
    }
  }
  shard.StorePartial(index, first, second);
}

}  // namespace isonorm
