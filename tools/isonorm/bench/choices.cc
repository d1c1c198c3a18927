// The same call on another target or with a second thread.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "bench/bench.h"
#include "bench/call.h"
#include "bench/loops.h"

namespace isonorm_cli::bench {
namespace {

bool Large(const Row& row) { return row.rows * row.cols > (int64_t{1} << 23); }

int64_t RowsOf(const Row& row, const Settings& settings) {
  return settings.quick ? std::min<int64_t>(row.rows, 128) : row.rows;
}

RaceOptions Options(const Row& row, const Settings& settings) {
  if (settings.quick) return {3, Large(row) ? 0 : 2e-5};
  return Large(row) ? RaceOptions{settings.rounds, 0} : RaceOptions{settings.rounds * 4, 2e-4};
}

// One call on one thread, whatever the machine: for rows that cannot be judged here.
Result Unjudged(const Row& row, const std::vector<Candidate>& candidates, const Settings& settings, const char* why) {
  const Times times = Race(candidates, Options(row, settings));
  Result result;
  result.name = row.name;
  result.kind = row.kind;
  result.unit = Unit::kTimesReference;
  result.seconds = Median(times[0]);
  result.reference = {"itself", result.seconds};
  result.value = 1;
  result.note = why;
  return result;
}

// Copies `bytes` in two halves at once.
struct SplitCopy {
  void (*copy)(const void*, void*, size_t);
  const char* from;
  char* to;
  size_t half;

  static void Task(void* context, int64_t index) {
    const auto* c = static_cast<const SplitCopy*>(context);
    const size_t offset = static_cast<size_t>(index) * c->half;
    c->copy(c->from + offset, c->to + offset, c->half);
  }
};

}  // namespace

Result RunTarget(const Row& row, const Settings& settings, Arena& arena) {
  const int64_t rows = RowsOf(row, settings);
  const size_t bytes = static_cast<size_t>(rows * row.cols * isonorm::size_of(row.type));
  arena.Prepare(row.type, bytes, rows, row.cols);
  const ForwardCall call(row.type, {rows, row.cols}, {arena.x(), arena.y(), arena.weight()});
  const auto run = [&] { call.Run(); };

  const std::string before = isonorm::target();
  const std::vector<std::string> targets = isonorm::list_targets();
  const std::string& best = targets.front();
  const bool has = std::find(targets.begin() + 1, targets.end(), "AVX2") != targets.end();
  if (!has) return Unjudged(row, {{"isonorm", run, {}}}, settings, "this CPU has no target beside or above AVX2");

  const Times times =
      Race({{"AVX2", run, [] { isonorm::set_target("AVX2"); }}, {best, run, [&] { isonorm::set_target(best); }}},
           Options(row, settings));
  isonorm::set_target("AVX2");
  call.Run();
  Result result;
  result.kernel = isonorm::last_kernel();
  isonorm::set_target(before);
  result.name = row.name;
  result.kind = row.kind;
  result.unit = Unit::kTimesReference;
  result.seconds = Median(times[0]);
  result.bytes = 2.0 * static_cast<double>(bytes);
  result.reference = {best, Median(times[1])};
  result.Set(SpreadOfRatio(times[0], times[1]));
  result.goal = row.goal;
  return result;
}

Result RunTwoThreads(const Row& row, const Settings& settings, Arena& arena) {
  const int64_t rows = RowsOf(row, settings);
  const size_t bytes = static_cast<size_t>(rows * row.cols * isonorm::size_of(row.type));
  arena.Prepare(row.type, bytes, rows, row.cols);
  isonorm::thread_pool pool(2);
  const Place place = {arena.x(), arena.y(), arena.weight()};
  const Place helped = {arena.x(), arena.y(), arena.weight(), pool.executor()};
  const ForwardCall one(row.type, {rows, row.cols}, place);
  const ForwardCall two(row.type, {rows, row.cols}, helped);
  if (isonorm::thread_pool::available_cpus() < 2) {
    return Unjudged(row, {{"isonorm", [&] { one.Run(); }, {}}}, settings, "this process has one CPU");
  }
  const PinPair pinned(pool);
  const LimitLoops& limit = BestLoops().limits;
  // Stores that bypass the cache are the faster copy only beyond it.
  const auto copy = Large(row) ? limit.copy_stream : limit.copy;
  SplitCopy split = {copy, static_cast<const char*>(arena.x()), static_cast<char*>(arena.y()), bytes / 2};
  const Times times = Race({{"two threads", [&] { two.Run(); }, {}},
                            {"one thread", [&] { one.Run(); }, {}},
                            {"copy, two threads", [&] { pool.parallel_for(2, SplitCopy::Task, &split); }, {}},
                            {"copy, one thread", [&] { copy(arena.x(), arena.y(), bytes); }, {}}},
                           Options(row, settings));
  Result result;
  result.name = row.name;
  result.kind = row.kind;
  result.unit = Unit::kTimesFaster;
  result.seconds = Median(times[0]);
  result.bytes = 2.0 * static_cast<double>(bytes);
  result.reference = {"one thread", Median(times[1])};
  result.Set(SpreadOfRatio(times[1], times[0]));
  result.beside = {{"copy, two threads", Median(times[2])}, {"copy, one thread", Median(times[3])}};
  const double copy_gain = MedianRatio(times[3], times[2]);
  result.note = fmt::format("two threads copy {:.2f}x as fast as one", copy_gain);
  if (copy_gain >= *row.goal) {
    result.goal = row.goal;
  } else {
    result.note += ", so this machine gives no verdict now";
  }
  result.kernel = isonorm::last_kernel();
  return result;
}

Result RunSmallTwoThreads(const Row& row, const Settings& settings, Arena& arena) {
  const size_t bytes = static_cast<size_t>(row.rows * row.cols * isonorm::size_of(row.type));
  arena.Prepare(row.type, bytes, row.rows, row.cols);
  isonorm::thread_pool pool(2);
  const ForwardCall one(row.type, {row.rows, row.cols}, {arena.x(), arena.y(), arena.weight()});
  const ForwardCall two(row.type, {row.rows, row.cols}, {arena.x(), arena.y(), arena.weight(), pool.executor()});
  const Times times =
      Race({{"two threads", [&] { two.Run(); }, {}}, {"one thread", [&] { one.Run(); }, {}}}, Options(row, settings));
  Result result;
  result.name = row.name;
  result.kind = row.kind;
  result.unit = Unit::kTimesReference;
  result.seconds = Median(times[0]);
  result.bytes = 2.0 * static_cast<double>(bytes);
  result.reference = {"one thread", Median(times[1])};
  result.Set(SpreadOfRatio(times[0], times[1]));
  result.goal = row.goal;
  result.kernel = isonorm::last_kernel();
  return result;
}

}  // namespace isonorm_cli::bench
