// What the parts of the benchmark share: a row of the table, how it is run, and what came out.
#pragma once

#include <isonorm/isonorm.hpp>
#include <isonorm/thread_pool.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace isonorm_cli::bench {

enum class Kind {
  kStream,           // forward, far larger than the cache, against a copy of the same bytes
  kInPlace,          // y over x, against a loop that changes memory in place
  kBackward,         // dx and dweight with rstd saved, against two reads and one write
  kCached,           // forward again and again on the same data, against the best loop free to choose the order of its sum
  kRope,             // q and k heads rotated too, against a copy of the same bytes
  kRopeCached,       // the same in cache, against the norm without rotation
  kCallOverhead,     // a call on one short row, less the best loop on it
  kWidths,           // the worst width beside the multiple of 64 next to it
  kMisaligned,       // the worst misalignment beside aligned tensors
  kTarget,           // AVX2 forced, against the best target
  kTwoThreads,       // how much faster two threads are
  kSmallTwoThreads,  // a small call that is handed two threads, against one that is not
  kResidual,  // fused calls far larger than the cache, against loops that move the same bytes: x + residual, both written
  kGateBefore,
  kGateAfter,
  kGateBackward,  // a gate after the norm: dx and dgate
  kQuantized,
  kCachedResidual,  // x + residual in cache, against the norm alone
  kTable            // a row of the table of kernels, in cache, against a copy of the same bytes
};

// How `value` of a result is to be read, and on which side of the goal it must lie.
enum class Unit { kPercentOfLimit, kTimesReference, kTimesFaster, kNanoseconds };

struct Row {
  std::string name;  // also what --filter matches
  Kind kind;
  isonorm::dtype type;
  int64_t rows, cols;
  double goal;
  bool leading = false;                      // [32, rows / 32, cols], with LayerNorm on the same data beside it
  isonorm::dtype out = isonorm::dtype::f32;  // of a quantised row
  isonorm::scale_kind scale_kind = {};
};

struct Measure {
  std::string name;
  double seconds;
};

struct Result {
  std::string name;
  Kind kind;
  Unit unit = Unit::kPercentOfLimit;
  double seconds = 0;      // of one call of isonorm
  double bytes = 0;        // that it reads and writes; 0 where GB/s say nothing
  Measure reference = {};  // what it is held against
  double value = 0;
  std::optional<double> goal;   // nothing where this machine gives no verdict; `note` then says why
  std::vector<Measure> beside;  // other loops in the same race
  std::string note;
  std::string kernel;  // isonorm_last_kernel()

  bool AtLeast() const { return unit == Unit::kPercentOfLimit || unit == Unit::kTimesFaster; }
  bool Met() const { return !goal || (AtLeast() ? value >= *goal : value <= *goal); }
};

struct Settings {
  int rounds = 15;     // of whole-memory rows; cached rows take four times as many
  bool quick = false;  // small shapes and few rounds: shows that everything runs, not how fast
  int cpu = -1;        // where to pin single-threaded rows; -1: nowhere
};

class Arena;

// Everything that has a number.
const std::vector<Row>& Rows();
// Of these, one for each kernel that the library lists.
std::vector<Row> TableRows();
// Runs one row. The arena's memory is reused from row to row.
Result RunRow(const Row& row, const Settings& settings, Arena& arena);

// By kind, in files of their own.
Result RunStream(const Row& row, const Settings& settings, Arena& arena);
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
