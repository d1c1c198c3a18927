// Rows whose tensors stay in the caches: held against the best loop we know that may add in any order.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <utility>

#include "bench/bench.h"
#include "bench/call.h"
#include "bench/loops.h"
#include "bench/textbook.h"
#include "verbs.h"

namespace isonorm_cli::bench {
namespace {

RaceOptions Options(const Settings& settings) {
  return settings.quick ? RaceOptions{3, 2e-5} : RaceOptions{settings.rounds * 4, 2e-4};
}

std::span<const Peer> Peers(isonorm::dtype type) {
  return type == isonorm::dtype::bf16 ? BestLoops().peers_bf16 : BestLoops().peers_f32;
}

// The loops that are written for this width, and what the compiler makes of the textbook: it may add in any order as well.
void AddPeers(const Row& row, const Place& place, std::vector<Candidate>& candidates) {
  for (const Peer& peer : Peers(row.type)) {
    if (peer.only_cols != 0 ? peer.only_cols != static_cast<size_t>(row.cols) : row.cols % 256 != 0) continue;
    candidates.push_back({peer.name,
                          [place, run = peer.run, rows = static_cast<size_t>(row.rows), cols = static_cast<size_t>(row.cols)] {
                            run(place.x, place.weight, place.y, rows, cols, static_cast<float>(kEps));
                          },
                          {}});
  }
  if (!TextbookLoopsRun()) return;
  const TextbookForward textbook = row.type == isonorm::dtype::f32 ? kTextbookLoops.forward_f32 : kTextbookLoops.forward_bf16;
  candidates.push_back({kTextbookName,
                        [place, textbook, rows = row.rows, cols = row.cols] {
                          textbook(place.x, place.weight, place.y, rows, cols, static_cast<float>(kEps));
                        },
                        {}});
}

float ValueAt(const void* data, isonorm::dtype type, size_t index) {
  if (type == isonorm::dtype::f32) return static_cast<const float*>(data)[index];
  const uint32_t bits = uint32_t{static_cast<const uint16_t*>(data)[index]} << 16;
  return std::bit_cast<float>(bits);
}

// A loop that computes something else would be no measure. Any order of up to 8192 positive f32 terms is within 2^-11 of any
// other, and one rounding to bf16 may then differ by 2^-7 of the value.
void RequireSame(const Row& row, const Candidate& peer, const std::vector<float>& expected, const void* y_of_peer) {
  peer.run();
  for (size_t i = 0; i < expected.size(); ++i) {
    const float y = ValueAt(y_of_peer, row.type, i);
    if (!(std::abs(y - expected[i]) <= 0x1.1p-7f * std::abs(expected[i]))) {
      throw Failure(kCheckFailed, fmt::format("the loop '{}' computed {} where isonorm has {}", peer.name, y, expected[i]));
    }
  }
}

// Both kinds of rows race the same candidates: isonorm, the peers, and what is only shown beside them.
Result Run(const Row& row, const Settings& settings, const Place& place, std::vector<Candidate> extra) {
  const size_t bytes = static_cast<size_t>(row.rows * row.cols * isonorm::size_of(row.type));
  const ForwardCall call(row.type, {row.rows, row.cols}, place);
  std::vector<Candidate> candidates = {{"isonorm", [&] { call.Run(); }, {}}};
  AddPeers(row, place, candidates);
  const size_t peers_end = candidates.size();
  candidates.insert(candidates.end(), extra.begin(), extra.end());
  const Times times = Race(candidates, Options(settings));

  Result result;
  result.name = row.name;
  result.kind = row.kind;
  result.seconds = Median(times[0]);
  result.bytes = 2.0 * static_cast<double>(bytes);
  for (size_t i = peers_end; i < candidates.size(); ++i) {
    result.beside.push_back({candidates[i].name, Median(times[i])});
  }
  call.Run();
  result.kernel = isonorm::last_kernel();
  std::vector<float> expected(bytes / static_cast<size_t>(isonorm::size_of(row.type)));
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = ValueAt(place.y, row.type, i);
  for (size_t i = 1; i < peers_end; ++i) RequireSame(row, candidates[i], expected, place.y);
  result.unit = row.kind == Kind::kCached ? Unit::kTimesReference : Unit::kNanoseconds;
  if (peers_end == 1) {
    result.reference = {"itself", result.seconds};
    result.value = 1;
    result.note = "no loop to compare with was written for this CPU";
    return result;
  }
  // The peers give up the order of the sum and nothing else. The textbook loop gives up roundings and NaN too, by its
  // compiler's leave, so it is shown beside them.
  const bool has_textbook = candidates[peers_end - 1].name == kTextbookName;
  const size_t best = Fastest(times, 1, has_textbook && peers_end > 2 ? peers_end - 1 : peers_end);
  if (has_textbook && best != peers_end - 1) result.beside.push_back({kTextbookName, Median(times[peers_end - 1])});
  result.reference = {candidates[best].name, Median(times[best])};
  result.goal = row.goal;
  result.value = row.kind == Kind::kCached ? MedianRatio(times[0], times[best]) : 1e9 * MedianDifference(times[0], times[best]);
  return result;
}

}  // namespace

Result RunCached(const Row& row, const Settings& settings, Arena& arena) {
  const size_t bytes = static_cast<size_t>(row.rows * row.cols * isonorm::size_of(row.type));
  arena.Prepare(row.type, bytes, row.rows, row.cols);
  const LimitLoops& limit = BestLoops().limits;
  return Run(row, settings, {arena.x(), arena.y(), arena.weight()},
             {{"copy", [&arena, &limit, bytes] { limit.copy(arena.x(), arena.y(), bytes); }, {}}});
}

// What a call costs over the work itself. A kernel cannot be called without its call, so the best loop on the same row stands
// for the work. In place, for then every row waits for the one before it, as a norm waits for what it is given: loops would
// otherwise overlap rows that a program never has at the same time, and the time of a row would not be the time it takes. A
// call without rows, which checks its arguments and finds nothing to do, is shown beside it.
Result RunCallOverhead(const Row& row, const Settings& settings, Arena& arena) {
  arena.Prepare(row.type, static_cast<size_t>(row.cols * isonorm::size_of(row.type)), row.rows, row.cols);
  std::fill_n(static_cast<float*>(arena.weight()), row.cols, 1.0f);  // the row is f32; its signs stay as they are
  const ForwardCall empty(row.type, {0, row.cols}, {arena.x(), arena.y(), arena.weight()});
  return Run(row, settings, {arena.x(), arena.x(), arena.weight()}, {{"call without rows", [&] { empty.Run(); }, {}}});
}

}  // namespace isonorm_cli::bench
