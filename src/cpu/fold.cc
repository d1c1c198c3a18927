#include "cpu/fold.h"

#include <algorithm>

namespace isonorm {
namespace {

// Plain sums end on +0, as those of a whole row do.
template <class F>
F PlainTotal(const Call& call, int64_t row, int value) {
  return CanonicalOrSame(call.shard->Total<F>(call, row, value) + F(0));
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
  const Round round = call.shard->round;
  RowStatistic<F>& statistic = call.shard->StatisticOf<F>(row);
  switch (round) {
    case Round::kMean: statistic = {PlainTotal<F>(call, row, 0), 0, 0, 0}; return false;
    case Round::kSquares:
      statistic = {call.layer ? statistic.sum : F(0), CanonicalOrSame(call.shard->Total<F>(call, row, 0)),
                   call.layer ? PlainTotal<F>(call, row, 1) : F(0), 0};
      return AskForScaling(statistic.squares, MeanOf(call, statistic), static_cast<F>(call.eps), call.eps_outside);
    case Round::kLargest: statistic.largest = LargestOf<F>(call, row); return statistic.scaled();
    case Round::kScaledMean:
      if (statistic.scaled()) statistic.sum = PlainTotal<F>(call, row, 0);
      return false;
    case Round::kScaledSquares:
      if (!statistic.scaled()) return false;
      statistic.squares = CanonicalOrSame(call.shard->Total<F>(call, row, 0));
      if (call.layer) statistic.shift = PlainTotal<F>(call, row, 1);
      return false;
  }
  return false;
}

}  // namespace

bool FoldGathered(const Call& call, Round* next) {
  bool more = false;
  for (int64_t row = 0; row < call.rows; ++row) more |= call.wide ? FoldRow<double>(call, row) : FoldRow<float>(call, row);
  switch (call.shard->round) {
    case Round::kMean: *next = Round::kSquares; return false;
    case Round::kSquares: *next = Round::kLargest; return !more;
    case Round::kLargest: *next = call.layer ? Round::kScaledMean : Round::kScaledSquares; return !more;
    case Round::kScaledMean: *next = Round::kScaledSquares; return false;
    case Round::kScaledSquares: break;
  }
  return true;
}

}  // namespace isonorm
