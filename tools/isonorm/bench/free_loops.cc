#include "bench/free_loops.h"

#include <iterator>
#include <span>

#include "bench/loops.h"
#include "bench/textbook.h"

namespace isonorm_cli::bench {
namespace {

std::span<const Peer> PeersOf(const Row& row) {
  const Loops& loops = BestLoops();
  if (row.LayerNorm()) return {};
  if (row.contract.weight_offset != 0) return loops.peers_bf16_offset;
  if (row.weight) return loops.peers_bf16_f32;
  return row.type == isonorm::dtype::f32 ? loops.peers_f32 : loops.peers_bf16;
}

}  // namespace

size_t AddFreeLoops(const Row& row, const Place& place, std::vector<Candidate>& candidates) {
  const size_t before = candidates.size();
  for (const Peer& peer : PeersOf(row)) {
    if (peer.only_cols != 0 ? peer.only_cols != static_cast<size_t>(row.cols) : row.cols % 256 != 0) continue;
    candidates.push_back({peer.name,
                          [place, run = peer.run, rows = static_cast<size_t>(row.rows), cols = static_cast<size_t>(row.cols)] {
                            run(place.x, place.weight, place.y, rows, cols, static_cast<float>(kEps));
                          },
                          {}});
  }
  const size_t end = candidates.size();
  const TextbookForward textbook = TextbookForwardOf(row);
  if (textbook == nullptr) return end;
  candidates.push_back({kTextbookName,
                        [place, textbook, rows = row.rows, cols = row.cols] {
                          textbook(place.x, place.weight, place.bias, place.y, rows, cols, static_cast<float>(kEps));
                        },
                        {}});
  return end > before ? end : candidates.size();
}

bool EndsWithTextbook(const std::vector<Candidate>& candidates) { return candidates.back().name == kTextbookName; }

Bound BesideACall(const Candidate& loop, const RaceOptions& options) {
  alignas(64) float x[8] = {1}, y[8] = {}, weight[8] = {}, lanes[8 * 64] = {};
  const ForwardCall call(isonorm::dtype::f32, {1, 8}, {x, y, weight});
  const auto both = [&] {
    call.Run();
    for (size_t line = 0; line < std::size(lanes); line += 64 / sizeof(float)) *const_cast<volatile float*>(lanes + line) = 0;
    loop.run();
  };
  const Times times = Race({loop, {"beside a call", both, {}}}, options);
  return {"beside a call", MedianRatio(times[1], times[0])};
}

void HoldAgainstItself(Result& result) {
  result.unit = Unit::kTimesReference;
  result.reference = {"itself", result.seconds};
  result.value = 1;
  result.goal = {};
  result.note = "no loop to compare with was written for this CPU";
}

}  // namespace isonorm_cli::bench
