// Widths and alignments: no shape may fall far behind the one beside it.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "bench/bench.h"
#include "bench/call.h"

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
  double ratio;
  std::string what;
};

// The worst as the value, the next few in the note.
void Finish(std::vector<Slow> all, Result& result) {
  std::sort(all.begin(), all.end(), [](const Slow& a, const Slow& b) { return a.ratio > b.ratio; });
  result.unit = Unit::kTimesReference;
  result.value = all.front().ratio;
  result.reference.name = all.front().what;
  for (size_t i = 1; i < std::min<size_t>(all.size(), 4); ++i) {
    fmt::format_to(std::back_inserter(result.note), "{}{:.2f}x {}", i == 1 ? "then " : ", ", all[i].ratio, all[i].what);
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
    const double ratio = MedianRatio(times[0], times[1]) * per_element;
    if (all.empty() || ratio > result.value) {
      result.value = ratio;
      result.seconds = Median(times[0]);
      result.reference.seconds = Median(times[1]);
    }
    all.push_back({ratio, fmt::format("{} beside {}", width, neighbour)});
  }
  result.kernel = isonorm::last_kernel();
  Finish(std::move(all), result);
  return result;
}

Result RunMisaligned(const Row& row, const Settings& settings, Arena& arena) {
  const bool large = row.rows * row.cols > (int64_t{1} << 24);
  const int64_t rows = settings.quick ? std::min<int64_t>(row.rows, 64) : row.rows;
  const size_t size = static_cast<size_t>(isonorm::size_of(row.type));
  arena.Prepare(row.type, static_cast<size_t>(rows * row.cols) * size, rows, row.cols);

  // Elements that x, y and the weight start behind an aligned address.
  struct Shift {
    size_t x, y, weight;
  };
  constexpr Shift kShifts[] = {{0, 0, 0}, {1, 1, 1}, {1, 0, 0}, {0, 1, 0}, {3, 7, 5}, {5, 2, 0}, {0, 12, 0}};
  const auto at = [size](void* p, size_t elements) { return static_cast<char*>(p) + elements * size; };
  std::vector<std::unique_ptr<ForwardCall>> calls;
  std::vector<Candidate> candidates;
  for (const Shift& shift : kShifts) {
    const Place place = {at(arena.x(), shift.x), at(arena.y(), shift.y), at(arena.weight(), shift.weight)};
    calls.push_back(std::make_unique<ForwardCall>(row.type, std::vector<int64_t>{rows, row.cols}, place));
    candidates.push_back({fmt::format("x +{}, y +{}, weight +{}", shift.x, shift.y, shift.weight),
                          [call = calls.back().get()] { call->Run(); },
                          {}});
  }
  const Times times = Race(candidates, large && !settings.quick ? RaceOptions{settings.rounds / 2 + 1, 0} : Options(settings));

  Result result;
  result.name = row.name;
  result.kind = row.kind;
  result.goal = row.goal;
  std::vector<Slow> all;
  for (size_t i = 1; i < candidates.size(); ++i) all.push_back({MedianRatio(times[i], times[0]), candidates[i].name});
  const size_t worst = static_cast<size_t>(
      std::max_element(all.begin(), all.end(), [](const Slow& a, const Slow& b) { return a.ratio < b.ratio; }) - all.begin());
  result.seconds = Median(times[worst + 1]);
  result.reference.seconds = Median(times[0]);
  result.bytes = 2.0 * static_cast<double>(rows * row.cols) * static_cast<double>(size);
  result.kernel = isonorm::last_kernel();
  Finish(std::move(all), result);
  return result;
}

}  // namespace isonorm_cli::bench
