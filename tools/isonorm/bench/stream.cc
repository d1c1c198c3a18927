// Rows whose tensors are far larger than any cache: held against what the memory itself allows, measured in the same race.
#include <algorithm>
#include <cstring>
#include <memory>

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

// What holds a row from memory back besides memory. No fetching makes a call faster than the same rows are in a second-level
// cache, and none spares it to read each row twice. Both take as long as the row has elements.
constexpr const char *kInCache = "in cache", *kMoves = "the same moves", *kFetched = "the same moves, fetched";

// As many rows as have 128 KB in each tensor.
int64_t RowsInCache(const Row& row, int64_t rows) {
  return std::clamp<int64_t>((128 << 10) / (row.cols * isonorm::size_of(row.type)), 1, rows);
}
template <class Call>
void AddBounds(const Row& row, const Call& near, int64_t rows_of_call, int64_t rows, const Streams& streams,
               std::vector<Candidate>& candidates) {
  if (!row.goal) return;
  const auto run_near = [&near, rows_of_call, rows] {
    for (int64_t done = 0; done < rows; done += rows_of_call) near.Run();
  };
  const LimitLoops& limit = BestLoops().limits;
  const size_t row_bytes = streams.in_bytes / static_cast<size_t>(rows);
  candidates.push_back({kInCache, run_near, {}});
  candidates.push_back({kMoves, [&limit, streams, row_bytes] { limit.move_rows(streams, row_bytes); }, {}});
  candidates.push_back({kFetched, [&limit, streams, row_bytes] { limit.move_rows_fetching(streams, row_bytes); }, {}});
}

// The weaker of what either kind says; of the moves those count that are faster.
std::optional<Bound> BoundOf(const std::vector<Candidate>& candidates, const Times& times, const std::vector<double>& limit) {
  std::optional<Bound> in_cache, moves;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const Bound bound = {candidates[i].name, 100 * MedianRatio(limit, times[i])};
    if (bound.name == kInCache) in_cache = bound;
    if ((bound.name == kMoves || bound.name == kFetched) && (!moves || bound.value > moves->value)) moves = bound;
  }
  return in_cache && in_cache->value < moves->value ? in_cache : moves;
}

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
  result.Set(SpreadOfRatio(times[best], times[limits], 100));
  result.goal = row.goal;
  result.bound = BoundOf(candidates, times, times[best]);
  for (size_t i = limits + 1; i < candidates.size(); ++i) {
    result.beside.push_back({candidates[i].name, Median(times[i])});
  }
  return result;
}

// The textbook loop is the last candidate, if it ran.
void JudgePlain(const std::vector<Candidate>& candidates, const Times& times, size_t isonorm, Result& result) {
  if (candidates.back().name != kTextbookName) return;
  result.plain = Plain{result.beside.back(), SpreadOfRatio(times.back(), times[isonorm])};
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
  if (row.weight) arena.FillWeight(*row.weight);
  const Place place = {x, y, arena.weight(), nullptr, row.LayerNorm() ? arena.bias() : nullptr};
  const ForwardCall call(row.type, shape, place, row.contract, row.weight);
  candidates.push_back({"isonorm", [&] { call.Run(); }, {}});

  const int64_t few = RowsInCache(row, rows);
  const ForwardCall near(row.type, {few, row.cols}, place, row.contract, row.weight);
  AddBounds(row, near, few, rows, {{x}, {y}, 1, 1, bytes, bytes}, candidates);
  if (!in_place) candidates.push_back({"read", [=] { limit.read(x, bytes); }, {}});
  // The compiler's loop must not be judged where x and y are the same memory: it then falls back to scalar code.
  const TextbookForward textbook = TextbookForwardOf(row);
  if (!in_place && textbook != nullptr) {
    const long cols = row.cols;
    candidates.push_back(
        {kTextbookName, [=] { textbook(x, place.weight, place.bias, y, rows, cols, static_cast<float>(kEps)); }, {}});
  }

  const Times times = Race(candidates, Options(settings));
  Result result = Judge(row, candidates, times, limits, 2.0 * static_cast<double>(bytes));
  JudgePlain(candidates, times, limits, result);
  call.Run();
  result.kernel = isonorm::last_kernel();
  return result;
}

Result RunBackward(const Row& row, const Settings& settings, Arena& arena) {
  const bool cached = row.kind == Kind::kBackwardCached;
  const int64_t rows = RowsOf(row, settings);
  const size_t bytes = static_cast<size_t>(rows * row.cols * isonorm::size_of(row.type));
  arena.Prepare(row.type, bytes, rows, row.cols);
  ForwardCall forward(row.type, {rows, row.cols}, {arena.x(), arena.y(), arena.weight()}, row.contract);
  forward.WriteRstd(arena.rstd(), row.LayerNorm() ? arena.mean() : nullptr);
  forward.Run();

  const TextbookGradients t = {arena.z(),    arena.x(), arena.weight(),  arena.mean(),
                               arena.rstd(), arena.y(), arena.dweight(), arena.dbias()};
  const LimitLoops& limit = BestLoops().limits;
  std::vector<Candidate> candidates = {
      {"two reads, one write", [=] { limit.combine(t.x, t.dy, t.dx, bytes); }, {}},
      {"two reads, one streaming write", [=] { limit.combine_stream(t.x, t.dy, t.dx, bytes); }, {}},
  };
  const BackwardCall call(row.type, rows, row.cols, arena, row.contract);
  candidates.push_back({"isonorm", [&] { call.Run(); }, {}});
  const int64_t few = RowsInCache(row, rows);
  const BackwardCall near(row.type, few, row.cols, arena, row.contract);
  AddBounds(row, near, few, rows, {{t.x, t.dy}, {t.dx}, 2, 1, bytes, bytes}, candidates);
  if (const TextbookBackward textbook = TextbookBackwardOf(row)) {
    candidates.push_back({kTextbookName, [=, cols = row.cols] { textbook(t, rows, cols); }, {}});
  }
  const double sample = settings.quick ? 2e-5 : 1e-3;
  const Times times = Race(candidates, cached ? RaceOptions{Options(settings).rounds, sample} : Options(settings));
  Result result = Judge(row, candidates, times, 2, 3.0 * static_cast<double>(bytes));
  JudgePlain(candidates, times, 2, result);
  call.Run();
  result.kernel = isonorm::last_kernel();
  return result;
}

// Each call takes the next of many places, so that it finds its row in memory and not in a cache. A sample is many calls: what
// stores leave in the cache is then written back at the expense of the loop that left it there.
Result RunCold(const Row& row, const Settings& settings, Arena& arena) {
  const int64_t rows = RowsOf(row, settings);
  const size_t bytes = static_cast<size_t>(rows * row.cols * isonorm::size_of(row.type));
  const size_t places = settings.quick ? 2 : (size_t{256} << 20) / bytes;  // 512 MB for x and y
  arena.Prepare(row.type, bytes * places, rows, row.cols);
  size_t at = 0;
  std::vector<std::unique_ptr<ForwardCall>> calls;
  std::vector<Place> of;
  for (size_t i = 0; i < places; ++i) {
    of.push_back({static_cast<char*>(arena.x()) + i * bytes, static_cast<char*>(arena.y()) + i * bytes, arena.weight()});
    calls.push_back(std::make_unique<ForwardCall>(row.type, std::vector<int64_t>{rows, row.cols}, of.back()));
  }
  const auto next = [&] {
    at = (at + 1) % places;
    return at;
  };
  const auto copy = [&](const char* name, void (*run)(const void*, void*, size_t)) {
    return Candidate{name,
                     [&, run] {
                       const Place& p = of[next()];
                       run(p.x, p.y, bytes);
                     },
                     {}};
  };
  const LimitLoops& limit = BestLoops().limits;
  std::vector<Candidate> candidates = {copy("memcpy", [](const void* from, void* to, size_t n) { std::memcpy(to, from, n); }),
                                       copy("copy", limit.copy),
                                       copy("streaming copy", limit.copy_stream),
                                       {"isonorm", [&] { calls[next()]->Run(); }, {}}};
  if (const TextbookForward textbook = TextbookForwardOf(row)) {
    const auto run = [&, textbook] {
      const Place& p = of[next()];
      textbook(p.x, p.weight, nullptr, p.y, rows, row.cols, static_cast<float>(kEps));
    };
    candidates.push_back({kTextbookName, run, {}});
  }
  const Times times = Race(candidates, {Options(settings).rounds, settings.quick ? 2e-5 : 1e-2});
  Result result = Judge(row, candidates, times, 3, 2.0 * static_cast<double>(bytes));
  // All three, so that one sees what ordinary stores and streaming stores cost here.
  for (size_t i = 0; i < 3; ++i) {
    if (candidates[i].name != result.reference.name) {
      result.beside.insert(result.beside.begin(), {candidates[i].name, Median(times[i])});
    }
  }
  JudgePlain(candidates, times, 3, result);
  calls[0]->Run();
  result.kernel = isonorm::last_kernel();
  return result;
}

}  // namespace isonorm_cli::bench
