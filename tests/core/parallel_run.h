// Runs a problem as several ranks would that share its rows, one after another in one process, through the C ABI.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "run.h"

namespace core_test {

struct ParallelHow {
  int64_t ranks = 1;
  bool slices = true;              // a rank's rows are slices of whole rows; otherwise it has them compact, on its own
  int64_t padding = 0;             // elements between whole rows, or between a rank's own
  std::vector<int64_t> lead = {};  // leading dimensions, whose product is rows; empty: {rows}
  std::vector<std::pair<Slot, Slot>> in_place = {};  // an output and the input in whose memory it lies
  std::vector<std::string> targets = {};             // of the ranks, in turn; empty: the one that is chosen
  const isonorm_executor* executor = nullptr;
  size_t unaligned = 0;          // bytes by which every tensor misses the alignment of its elements
  bool gather_in_place = false;  // partial is a slice of gathered
  bool rotate_gathered = false;  // a fault: every rank's sums in the place of the next
};

struct ParallelResult {
  Values outputs;   // whole rows again
  Bytes statistic;  // of forward; backward needs it
  Bytes exchanged;  // what all ranks sent, in every round
  int rounds = 0;
  std::string partial_kernel;  // that made the sums of the last rank
};

// Forward or backward, whichever the problem's tensors ask for. A status other than OK, ranks that do not agree, or a kernel of
// another operation or target than asked for is a test failure.
ParallelResult ComputeParallel(const Problem& problem, const Values& inputs, const ParallelHow& how,
                               const Bytes& statistic = {});

// The problem as rows that ranks can share: no groups and no window.
Problem Shareable(Problem problem);

// Whether so many ranks can share its rows: whole leaves for each, and whole groups of a dynamic scale.
bool CanShare(const Problem& problem, int64_t ranks);

// Those of 1, 2, 4, ... ranks, `most` at most, that can.
std::vector<int64_t> RankCounts(const Problem& problem, int64_t most = 16);

}  // namespace core_test
