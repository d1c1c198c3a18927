#include "cpu/fold.h"

#include <algorithm>

namespace isonorm {
namespace {

// Plain sums end on +0, as those of a whole row do.
template <class F>
F PlainTotal(const Call& call, int64_t row, int value) {
  return CanonicalOrSame(call.shard->Total<F>(row, value) + F(0));
}

// The largest value of a row that has to be scaled, 0 of any other.
template <class F>
F LargestOf(const Call& call, int64_t row) {
  F largest = 0;
  for (int64_t rank = 0; rank < call.ranks; ++rank) largest = std::max(largest, call.shard->Gathered<F>(rank, row, 0));
  return largest <= std::numeric_limits<F>::max() ? largest : F(0);
}

// Whether the row asks for another round, beyond those that every call has.
template <class F>
bool FoldRow(const Call& call, int64_t row) {
  const Shard& shard = *call.shard;
  RowStatistic<F> sums = {};
  if (shard.round != Round::kMean) sums = shard.SumsOf<F>(row);
  bool more = false;
  const auto take_squares = [&] {
    sums.squares = CanonicalOrSame(shard.Total<F>(row, 0));
    if (call.norm.centres()) sums.shift = PlainTotal<F>(call, row, 1);
  };
  switch (shard.round) {
    case Round::kMean: sums.sum = PlainTotal<F>(call, row, 0); break;
    case Round::kSquares:
      sums = {call.norm.centres() ? sums.sum : F(0), 0, 0, 0};
      take_squares();
      more = call.norm.AskForScaling(sums);
      break;
    case Round::kLargest:
      sums.largest = LargestOf<F>(call, row);
      more = sums.scaled();
      break;
    case Round::kScaledMean:
      if (sums.scaled()) sums.sum = PlainTotal<F>(call, row, 0);
      break;
    case Round::kScaledSquares:
      if (sums.scaled()) take_squares();
      break;
  }
  shard.StoreSums(sums, row);
  return more;
}

}  // namespace

bool FoldGathered(const Call& call, Round* next) {
  bool more = false;
  for (int64_t row = 0; row < call.rows; ++row) more |= call.wide ? FoldRow<double>(call, row) : FoldRow<float>(call, row);
  switch (call.shard->round) {
    case Round::kMean: *next = Round::kSquares; return false;
    case Round::kSquares: *next = Round::kLargest; return !more;
    case Round::kLargest: *next = call.norm.centres() ? Round::kScaledMean : Round::kScaledSquares; return !more;
    case Round::kScaledMean: *next = Round::kScaledSquares; return false;
    case Round::kScaledSquares: break;
  }
  return true;
}

}  // namespace isonorm
