// The loops that isonorm is held against on rows in the cache, and in the same places: they may add in any order.
#pragma once

#include <vector>

#include "bench/bench.h"

namespace isonorm_cli::bench {

// Puts the loops that compute what the row does, and suit its width, behind the candidates that are there; the textbook loop is
// the last. The fastest among those before the returned index is the best free loop: the textbook loop gives up roundings and
// NaN too, by its compiler's leave, so it counts only where there is no other.
size_t AddFreeLoops(const Row& row, const Place& place, std::vector<Candidate>& candidates);

// Whether the last candidate is the textbook loop.
bool EndsWithTextbook(const std::vector<Candidate>& candidates);

// How much longer a loop takes where each time a call of eight values, of its own, comes before it, and the lanes of eight
// leaves are written, which the order of the sum has to keep: both take room in the first-level cache.
Bound BesideACall(const Candidate& loop, const RaceOptions& options);

// For rows that have no loop beside them on this CPU.
void HoldAgainstItself(Result& result);

}  // namespace isonorm_cli::bench
