// What the parts of the benchmark share: a row of the table, how it is run, and what came out.
#pragma once

#include <isonorm/isonorm.hpp>
#include <isonorm/thread_pool.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/call.h"

namespace isonorm_cli::bench {

enum class Kind {
  kStream,           // forward, far larger than the cache, against a copy of the same bytes
  kInPlace,          // y over x, against a loop that changes memory in place
  kBackward,         // dx and dweight with rstd saved, against two reads and one write
  kBackwardCached,   // the same on rows that stay in a cache, against the textbook loop
  kCold,             // rows that fit the last cache and are not in it, against a copy of the same bytes
  kCached,           // forward again and again on the same data, against the best loop free to choose the order of its sum
  kRope,             // q and k heads rotated too, against a copy of the same bytes
  kRopeCached,       // the same in cache, against the norm without rotation
  kCallOverhead,     // a call on one short row that waits for the row before, less the best loop on it
  kCall,             // the same on the same row again and again: its time
  kWidths,           // the worst width beside the multiple of 64 next to it
  kMisaligned,       // the worst misalignment beside aligned tensors
  kTarget,           // AVX2 forced, against the best target
  kTwoThreads,       // how much faster two threads are
  kSmallTwoThreads,  // a small call that is handed two threads, against one that is not
  kResidual,  // fused calls far larger than the cache, against loops that move the same bytes: x + residual, both written
  kGateBefore,
  kGateAfter,
  kGateBackward,        // a gate after the norm: dx and dgate
  kGateBeforeBackward,  // before it
  kQuantized,
  kCachedResidual,  // x + residual in cache, against the norm alone
  kTable            // a row of the table of kernels, in cache, against a copy of the same bytes
};

// How `value` of a result is to be read, and on which side of the goal it must lie.
enum class Unit { kPercentOfLimit, kTimesReference, kTimesFaster, kNanoseconds, kTime };

struct Row {
  std::string name;  // also what --filter matches
  Kind kind;
  isonorm::dtype type;
  int64_t rows, cols;
  std::optional<double> goal;                 // nothing where only the plain way is one
  std::optional<isonorm::dtype> weight = {};  // if it is not of x's type
  isonorm::contract contract = isonorm::contracts::torch;
  bool leading = false;  // [32, rows / 32, cols]
  Pages pages = Pages::kHuge;
  isonorm::dtype out = isonorm::dtype::f32;  // of a quantised row
  isonorm::scale_kind scale_kind = {};
  int64_t groups = 1;  // of a gate before the norm

  // With a bias, as models have it.
  bool LayerNorm() const { return contract.statistic == isonorm::statistic::layer; }
};

struct Measure {
  std::string name;
  double seconds;
};

// What a user would otherwise run: the textbook loop, or for a fused row the norm and the other steps one by one. No row may be
// slower; a call of one short row may take 30 ns more.
struct Plain {
  Measure measure;
  Spread spread = {};  // how many times as long as isonorm it takes; of a short call how many ns more isonorm takes
  bool short_call = false;
  double goal = short_call ? 30 : 1;  // or what can be, where that is weaker

  double value() const { return spread.value; }
  // As of goals, missed is what the run can tell from noise.
  bool Met() const {
    const Spread::Within within = spread.within.value_or(Spread::Within{spread.value, spread.value});
    return short_call ? within.low <= goal : within.high >= goal;
  }
};

// What stands for a goal that is out of reach, in the row's unit, measured in the same race.
struct Bound {
  std::string name;
  double value;
};

struct Result {
  std::string name;
  Kind kind;
  Unit unit = Unit::kPercentOfLimit;
  double seconds = 0;      // of one call of isonorm
  double bytes = 0;        // that it reads and writes; 0 where GB/s say nothing
  Measure reference = {};  // what it is held against
  double value = 0;
  std::optional<Spread::Within> within = {};  // between which the run says that the value lies
  std::optional<double> goal;       // nothing where there is none, or this machine gives no verdict; `note` then says why
  std::optional<Bound> bound = {};  // the goal instead, where it is the weaker one
  std::optional<Plain> plain;
  std::vector<Measure> beside;  // other loops in the same race
  std::string note;
  std::string kernel;  // isonorm_last_kernel()

  bool AtLeast() const { return unit == Unit::kPercentOfLimit || unit == Unit::kTimesFaster; }
  void Set(const Spread& spread) { value = spread.value, within = spread.within; }
  bool Bounded() const { return goal && bound && (AtLeast() ? bound->value < *goal : bound->value > *goal); }
  std::optional<double> Goal() const { return Bounded() ? bound->value : goal; }
  // Missed is what the run can tell from noise.
  bool GoalMet() const {
    if (!goal) return true;
    return AtLeast() ? (within ? within->high : value) >= *Goal() : (within ? within->low : value) <= *Goal();
  }
  bool Met() const { return GoalMet() && (!plain || plain->Met()); }
};

struct Settings {
  int rounds = 15;     // of whole-memory rows; cached rows take four times as many
  bool quick = false;  // small shapes and few rounds: shows that everything runs, not how fast
  int cpu = -1;        // where to pin single-threaded rows; -1: nowhere
};

// Everything that has a number.
const std::vector<Row>& Rows();
// Of these, one for each kernel that the library lists.
std::vector<Row> TableRows();
// Runs one row. The arena's memory is reused from row to row.
Result RunRow(const Row& row, const Settings& settings, Arena& arena);

// By kind, in files of their own.
Result RunStream(const Row& row, const Settings& settings, Arena& arena);
Result RunCold(const Row& row, const Settings& settings, Arena& arena);
Result RunBackward(const Row& row, const Settings& settings, Arena& arena);
Result RunCached(const Row& row, const Settings& settings, Arena& arena);
Result RunRope(const Row& row, const Settings& settings, Arena& arena);
Result RunCallOverhead(const Row& row, const Settings& settings, Arena& arena);
Result RunWidths(const Row& row, const Settings& settings, Arena& arena);
Result RunMisaligned(const Row& row, const Settings& settings, Arena& arena);
Result RunTarget(const Row& row, const Settings& settings, Arena& arena);
Result RunTwoThreads(const Row& row, const Settings& settings, Arena& arena);
Result RunSmallTwoThreads(const Row& row, const Settings& settings, Arena& arena);
Result RunFused(const Row& row, const Settings& settings, Arena& arena);
Result RunTable(const Row& row, const Settings& settings, Arena& arena);
Result RunCachedResidual(const Row& row, const Settings& settings, Arena& arena);

}  // namespace isonorm_cli::bench
