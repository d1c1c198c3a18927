// Rows whose tensors are far larger than any cache: held against what the memory itself allows, measured in the same race.
#include <algorithm>
#include <cstring>

#include "bench/bench.h"
#include "bench/call.h"
#include "bench/loops.h"
#include "bench/textbook.h"

namespace isonorm_cli::bench {
namespace {

// Few rows show that everything runs.
int64_t RowsOf(const Row& row, const Settings& settings) {
  return settings.quick ? std::min<int64_t>(row.rows, 512 * 128 / row.cols * 4) : row.rows;
}

RaceOptions Options(const Settings& settings) { return {settings.quick ? 2 : settings.rounds, 0}; }

// Candidates [0, limits) are limits, then isonorm, then whatever else ran.
Result Judge(const Row& row, const std::vector<Candidate>& candidates, const Times& times, size_t limits, double bytes) {
  const size_t best = Fastest(times, 0, limits);
  Result result;
  result.name = row.name;
  result.kind = row.kind;
  result.unit = Unit::kPercentOfLimit;
  result.seconds = Median(times[limits]);
  result.bytes = bytes;
  result.reference = {candidates[best].name, Median(times[best])};
  result.value = 100 * MedianRatio(times[best], times[limits]);
  result.goal = row.goal;
  for (size_t i = limits + 1; i < candidates.size(); ++i) {
    result.beside.push_back({candidates[i].name, Median(times[i])});
  }
  return result;
}

TextbookForward TextbookForwardOf(isonorm::dtype type) {
  switch (type) {
    case isonorm::dtype::f32: return kTextbookLoops.forward_f32;
    case isonorm::dtype::bf16: return kTextbookLoops.forward_bf16;
    case isonorm::dtype::f16: return kTextbookLoops.forward_f16;
    default: break;
  }
  return nullptr;
}

}  // namespace

Result RunStream(const Row& row, const Settings& settings, Arena& arena) {
  const int64_t rows = RowsOf(row, settings);
  const size_t bytes = static_cast<size_t>(rows * row.cols * isonorm::size_of(row.type));
  const bool in_place = row.kind == Kind::kInPlace;
  arena.Prepare(row.type, bytes, rows, row.cols);
  void* const x = arena.x();
  void* const y = in_place ? x : arena.y();

  const LimitLoops& limit = BestLoops().limits;
  std::vector<Candidate> candidates;
  if (in_place) {
    candidates.push_back({"change in place", [=] { limit.modify(x, bytes); }, {}});
  } else {
    candidates.push_back({"memcpy", [=] { std::memcpy(y, x, bytes); }, {}});
    candidates.push_back({"copy", [=] { limit.copy(x, y, bytes); }, {}});
    candidates.push_back({"streaming copy", [=] { limit.copy_stream(x, y, bytes); }, {}});
  }
  const size_t limits = candidates.size();

  std::vector<int64_t> shape = {rows, row.cols};
  if (row.leading) shape = {32, rows / 32, row.cols};
  const Place place = {x, y, arena.weight()};
  const ForwardCall call(row.type, shape, place);
  candidates.push_back({"isonorm", [&] { call.Run(); }, {}});

  const ForwardCall layer_norm(row.type, shape, place, isonorm::contracts::layer_norm);
  if (row.leading) candidates.push_back({"LayerNorm", [&] { layer_norm.Run(); }, {}});
  if (!in_place) candidates.push_back({"read", [=] { limit.read(x, bytes); }, {}});
  // The compiler's loop must not be judged where x and y are the same memory: it then falls back to scalar code.
  const TextbookForward textbook = TextbookForwardOf(row.type);
  if (!in_place && textbook != nullptr && TextbookLoopsRun()) {
    void* const weight = arena.weight();
    const long cols = row.cols;
    candidates.push_back({kTextbookName, [=] { textbook(x, weight, y, rows, cols, static_cast<float>(kEps)); }, {}});
  }

  const Times times = Race(candidates, Options(settings));
  Result result = Judge(row, candidates, times, limits, 2.0 * static_cast<double>(bytes));
  call.Run();
  result.kernel = isonorm::last_kernel();
  return result;
}

Result RunBackward(const Row& row, const Settings& settings, Arena& arena) {
  const int64_t rows = RowsOf(row, settings);
  const size_t bytes = static_cast<size_t>(rows * row.cols * isonorm::size_of(row.type));
  arena.Prepare(row.type, bytes, rows, row.cols);
  ForwardCall forward(row.type, {rows, row.cols}, {arena.x(), arena.y(), arena.weight()});
  forward.WriteRstd(arena.rstd());
  forward.Run();

  const void* const x = arena.x();
  const void* const dy = arena.z();
  void* const dx = arena.y();
  const LimitLoops& limit = BestLoops().limits;
  std::vector<Candidate> candidates = {
      {"two reads, one write", [=] { limit.combine(x, dy, dx, bytes); }, {}},
      {"two reads, one streaming write", [=] { limit.combine_stream(x, dy, dx, bytes); }, {}},
  };
  const BackwardCall call(row.type, rows, row.cols, arena);
  candidates.push_back({"isonorm", [&] { call.Run(); }, {}});
  if (TextbookLoopsRun()) {
    const TextbookBackward textbook =
        row.type == isonorm::dtype::f32 ? kTextbookLoops.backward_f32 : kTextbookLoops.backward_bf16;
    candidates.push_back({kTextbookName,
                          [&, textbook] { textbook(dy, x, arena.weight(), arena.rstd(), dx, arena.dweight(), rows, row.cols); },
                          {}});
  }
  const Times times = Race(candidates, Options(settings));
  Result result = Judge(row, candidates, times, 2, 3.0 * static_cast<double>(bytes));
  call.Run();
  result.kernel = isonorm::last_kernel();
  return result;
}

}  // namespace isonorm_cli::bench
