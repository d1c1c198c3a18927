// Rows whose tensors stay in the caches: held against the best loop we know that may add in any order.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "bench/bench.h"
#include "bench/call.h"
#include "bench/free_loops.h"
#include "bench/loops.h"
#include "verbs.h"

namespace isonorm_cli::bench {
namespace {

RaceOptions Options(const Settings& settings) {
  return settings.quick ? RaceOptions{3, 2e-5} : RaceOptions{settings.rounds * 4, 2e-4};
}

float ValueAt(const void* data, isonorm::dtype type, size_t index) {
  if (type == isonorm::dtype::f32) return static_cast<const float*>(data)[index];
  const uint32_t bits = uint32_t{static_cast<const uint16_t*>(data)[index]} << 16;
  return std::bit_cast<float>(bits);
}

// A loop that computes something else would be no measure. Any order of up to 8192 positive f32 terms is within 2^-11 of any
// other, and one rounding to bf16 may then differ by 2^-7 of the value. LayerNorm takes the difference of two values, and adds
// a bias, that are as large as 2.
void RequireSame(const Row& row, const Candidate& peer, const std::vector<float>& expected, const void* y_of_peer) {
  peer.run();
  for (size_t i = 0; i < expected.size(); ++i) {
    const float y = ValueAt(y_of_peer, row.type, i);
    const float largest = std::max(std::abs(expected[i]), row.LayerNorm() ? 2.0f : 0.0f);
    if (!(std::abs(y - expected[i]) <= 0x1.1p-7f * largest)) {
      throw Failure(kCheckFailed, fmt::format("the loop '{}' computed {} where isonorm has {}", peer.name, y, expected[i]));
    }
  }
}

// What a call of one row of 128 values executes with AVX2, and without the row, by callgrind (docs/tuning.md), at four a cycle:
// a pace that few CPUs keep in such code, and not a limit. A link of the chain takes four cycles: three for the product, one to
// change it.
constexpr int kInstructionsOfCall = 955, kInstructionsOfCheck = 595;
constexpr const char *kWorkOfCall = "its instructions, 4 a cycle", *kWorkOfCheck = "its check, 4 a cycle";
Candidate Instructions(const char* name, int count) {
  return {name,
          [links = static_cast<uint64_t>(count) / 16] {
            static volatile uint64_t last = 1;  // each turn waits for the one before
            uint64_t product = last;
            for (uint64_t i = 0; i < links; ++i) product = (product * product) ^ i;
            last = product;
          },
          {}};
}

// As nanoseconds, of a candidate that is there.
double NanosecondsOf(const char* name, const std::vector<Candidate>& candidates, const Times& times) {
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].name == name) return Median(times[i]) * 1e9;
  }
  return 0;
}

// What stands for a goal that is out of reach. Of a short call its instructions. Of a row of its own, which shares the
// first-level cache with what a call reads and writes, the free loop where a call of eight values comes between.
std::optional<Bound> BoundOf(const Row& row, const Settings& settings, const std::vector<Candidate>& candidates,
                             const Times& times, size_t best) {
  if (row.kind != Kind::kCached) {
    const char* const name = row.kind == Kind::kCall ? kWorkOfCall : kWorkOfCheck;
    return Bound{name, NanosecondsOf(name, candidates, times)};
  }
  if (!row.goal || row.rows != 1) return {};
  return BesideACall(candidates[best], Options(settings));
}

// All kinds of rows here race the same candidates: isonorm, what is only shown beside it, and the free loops.
Result Run(const Row& row, const Settings& settings, const Place& place, std::vector<Candidate> beside) {
  const size_t bytes = static_cast<size_t>(row.rows * row.cols * isonorm::size_of(row.type));
  const ForwardCall call(row.type, {row.rows, row.cols}, place, row.contract, row.weight);
  std::vector<Candidate> candidates = {{"isonorm", [&] { call.Run(); }, {}}};
  candidates.insert(candidates.end(), beside.begin(), beside.end());
  const size_t loops = candidates.size(), loops_end = AddFreeLoops(row, place, candidates);
  const Times times = Race(candidates, Options(settings));

  Result result;
  result.name = row.name;
  result.kind = row.kind;
  result.seconds = Median(times[0]);
  result.bytes = 2.0 * static_cast<double>(bytes);
  for (size_t i = 1; i < loops; ++i) result.beside.push_back({candidates[i].name, Median(times[i])});
  call.Run();
  result.kernel = isonorm::last_kernel();
  std::vector<float> expected(bytes / static_cast<size_t>(isonorm::size_of(row.type)));
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = ValueAt(place.y, row.type, i);
  for (size_t i = loops; i < candidates.size(); ++i) RequireSame(row, candidates[i], expected, place.y);
  if (loops == candidates.size()) {
    HoldAgainstItself(result);
    return result;
  }
  const size_t best = Fastest(times, loops, loops_end);
  result.reference = {candidates[best].name, Median(times[best])};
  result.goal = row.goal;
  switch (row.kind) {
    case Kind::kCached:
      result.unit = Unit::kTimesReference;
      result.Set(SpreadOfRatio(times[0], times[best]));
      break;
    case Kind::kCall:
      result.unit = Unit::kTime;
      result.Set(SpreadOf(times[0], 1e9));
      break;
    default: result.unit = Unit::kNanoseconds; result.Set(SpreadOfDifference(times[0], times[best], 1e9));
  }
  result.bound = BoundOf(row, settings, candidates, times, best);
  if (!EndsWithTextbook(candidates)) return result;
  const Measure textbook = {candidates.back().name, Median(times.back())};
  if (loops_end < candidates.size()) result.beside.push_back(textbook);
  if (row.kind == Kind::kCached) {  // where a mere copy takes longer than the textbook loop, nobody can do more than it
    result.plain = Plain{textbook, SpreadOfRatio(times.back(), times[0])};
    result.plain->goal = std::min(1.0, MedianRatio(times.back(), times[1]));
  }
  if (row.kind == Kind::kCall) {
    result.plain = Plain{textbook, SpreadOfDifference(times[0], times.back(), 1e9), true};
    result.plain->goal = std::max(result.plain->goal, NanosecondsOf(kWorkOfCheck, candidates, times));
  }
  return result;
}

}  // namespace

Result RunCached(const Row& row, const Settings& settings, Arena& arena) {
  const size_t bytes = static_cast<size_t>(row.rows * row.cols * isonorm::size_of(row.type));
  arena.Prepare(row.type, bytes, row.rows, row.cols);
  if (row.weight) arena.FillWeight(*row.weight);
  const LimitLoops& limit = BestLoops().limits;
  return Run(row, settings, {arena.x(), arena.y(), arena.weight(), nullptr, row.LayerNorm() ? arena.bias() : nullptr},
             {{"copy", [&arena, &limit, bytes] { limit.copy(arena.x(), arena.y(), bytes); }, {}}});
}

// What a call costs over the work itself. A kernel cannot be called without its call, so the best loop on the same row stands
// for the work. In place, for then every row waits for the one before it, as a norm waits for what it is given: loops would
// otherwise overlap rows that a program never has at the same time, and the time of a row would not be the time it takes. A
// call without rows, which checks its arguments and finds nothing to do, is shown beside it. What the compiler makes of the
// textbook where x and y are the same memory is scalar code, which is nobody's loop: it is held against calls that write
// elsewhere, as programs that make the same call again and again do.
Result RunCallOverhead(const Row& row, const Settings& settings, Arena& arena) {
  arena.Prepare(row.type, static_cast<size_t>(row.cols * isonorm::size_of(row.type)), row.rows, row.cols);
  void* const y = row.kind == Kind::kCall ? arena.y() : arena.x();
  std::fill_n(static_cast<float*>(arena.weight()), row.cols, 1.0f);  // the row is f32; its signs stay as they are
  const ForwardCall empty(row.type, {0, row.cols}, {arena.x(), arena.y(), arena.weight()});
  return Run(row, settings, {arena.x(), y, arena.weight()},
             {{"call without rows", [&] { empty.Run(); }, {}},
              Instructions(kWorkOfCall, kInstructionsOfCall),
              Instructions(kWorkOfCheck, kInstructionsOfCheck)});
}

}  // namespace isonorm_cli::bench
