// Widths and alignments: no shape may fall far behind the one beside it.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "bench/bench.h"
#include "bench/call.h"
#include "bench/free_loops.h"
#include "bench/textbook.h"

namespace isonorm_cli::bench {
namespace {

RaceOptions Options(const Settings& settings) {
  return settings.quick ? RaceOptions{3, 2e-5} : RaceOptions{settings.rounds, 1e-4};
}

// Widths from 256 on that are not multiples of 64: dense in residues at small sizes, then around sizes that models use.
std::vector<int64_t> Widths(bool quick) {
  std::vector<int64_t> widths = {2880 + 8, 4095, 4097, 5119, 5121, 7167, 7169, 8191, 8193};
  const int64_t step = quick ? 401 : 13;  // odd, so that every residue comes up
  for (int64_t width = 257; width <= 2100; width += step) {
    if (width % 64 != 0) widths.push_back(width);
  }
  return widths;
}

// As many rows as keep x and y together in a second-level cache.
int64_t RowsFor(int64_t width) { return std::max<int64_t>(1, 32768 / width); }

struct Slow {
  Spread ratio;
  std::string what;
};

// The worst as the value, the next few in the note.
void Finish(std::vector<Slow> all, Result& result) {
  std::sort(all.begin(), all.end(), [](const Slow& a, const Slow& b) { return a.ratio.value > b.ratio.value; });
  result.unit = Unit::kTimesReference;
  result.Set(all.front().ratio);
  result.reference.name = all.front().what;
  for (size_t i = 1; i < std::min<size_t>(all.size(), 4); ++i) {
    fmt::format_to(std::back_inserter(result.note), "{}{:.2f}x {}", i == 1 ? "then " : ", ", all[i].ratio.value, all[i].what);
  }
}

}  // namespace

Result RunWidths(const Row& row, const Settings& settings, Arena& arena) {
  Result result;
  result.name = row.name;
  result.kind = row.kind;
  result.goal = row.goal;
  std::vector<Slow> all;
  arena.Prepare(row.type, size_t{1} << 20, 1024, 16384);
  for (const int64_t width : Widths(settings.quick)) {
    const int64_t neighbour = (width + 32) / 64 * 64;
    const int64_t rows = RowsFor(width);
    const Place place = {arena.x(), arena.y(), arena.weight()};
    const ForwardCall odd(row.type, {rows, width}, place);
    const ForwardCall even(row.type, {rows, neighbour}, place);
    const Times times = Race({{"odd", [&] { odd.Run(); }, {}}, {"even", [&] { even.Run(); }, {}}}, Options(settings));
    const double per_element = static_cast<double>(neighbour) / static_cast<double>(width);
    const Spread ratio = SpreadOfRatio(times[0], times[1], per_element);
    if (all.empty() || ratio.value > result.value) {
      result.value = ratio.value;
      result.seconds = Median(times[0]);
      result.reference.seconds = Median(times[1]);
    }
    all.push_back({ratio, fmt::format("{} beside {}", width, neighbour)});
  }
  result.kernel = isonorm::last_kernel();
  Finish(std::move(all), result);
  return result;
}

// Beside the best free loop and the textbook loop, each at the same places as isonorm.
Result RunMisaligned(const Row& row, const Settings& settings, Arena& arena) {
  const bool large = row.rows * row.cols > (int64_t{1} << 24);
  Row of = row;
  if (settings.quick) of.rows = std::min<int64_t>(row.rows, 64);
  const size_t size = static_cast<size_t>(isonorm::size_of(row.type));
  arena.Prepare(row.type, static_cast<size_t>(of.rows * row.cols) * size, of.rows, row.cols);

  // Elements that x, y and the weight start behind an aligned address.
  struct Shift {
    size_t x, y, weight;
  };
  constexpr Shift kShifts[] = {{1, 1, 1}, {1, 0, 0}, {0, 1, 0}, {3, 7, 5}, {5, 2, 0}, {0, 12, 0}};
  const auto at = [size](void* p, size_t elements) { return static_cast<char*>(p) + elements * size; };
  Result result;
  result.name = row.name;
  result.kind = row.kind;
  result.goal = row.goal;
  std::vector<Slow> all;
  double seconds = 0;
  Candidate reference_loop;
  for (const Shift& shift : kShifts) {
    const Place place = {at(arena.x(), shift.x), at(arena.y(), shift.y), at(arena.weight(), shift.weight)};
    const ForwardCall call(row.type, {of.rows, row.cols}, place);
    std::vector<Candidate> candidates = {{"isonorm", [&] { call.Run(); }, {}}};
    const size_t loops_end = AddFreeLoops(of, place, candidates);
    const RaceOptions few = {settings.rounds / 3 + 1, 0};
    const Times times = Race(candidates, large && !settings.quick ? few : Options(settings));
    if (candidates.size() == 1) {
      result.seconds = Median(times[0]);
      HoldAgainstItself(result);
      return result;
    }
    const size_t best = Fastest(times, 1, loops_end);
    const Spread ratio = SpreadOfRatio(times[0], times[best]);
    const std::string what = fmt::format("x +{}, y +{}, weight +{}", shift.x, shift.y, shift.weight);
    if (all.empty() || ratio.value > result.value) {
      result.value = ratio.value;
      result.reference = {candidates[best].name, Median(times[best])};
      seconds = Median(times[0]);
      reference_loop = candidates[best];
    }
    if (EndsWithTextbook(candidates)) {
      const Plain plain = {{fmt::format("{} at {}", kTextbookName, what), Median(times.back())},
                           SpreadOfRatio(times.back(), times[0])};
      if (!result.plain || plain.value() < result.plain->value()) result.plain = plain;
    }
    all.push_back({ratio, what});
  }
  result.bytes = 2.0 * static_cast<double>(of.rows * row.cols) * static_cast<double>(size);
  result.kernel = isonorm::last_kernel();
  result.seconds = seconds;
  if (row.rows == 1) result.bound = BesideACall(reference_loop, Options(settings));
  const Measure reference = result.reference;
  Finish(std::move(all), result);
  result.reference = {fmt::format("{} at {}", reference.name, result.reference.name), reference.seconds};
  if (result.plain) result.beside = {result.plain->measure};
  return result;
}

}  // namespace isonorm_cli::bench
