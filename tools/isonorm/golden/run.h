// Puts golden cases to the library through its C ABI, in several memory layouts and call forms, and compares digests.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "golden/golden.h"

namespace isonorm_cli {

// How a case is laid out in memory and run. No result may depend on it.
struct Setup {
  int offset = 0;       // misalignment in elements, 0 to 7; every tensor gets another one if this is not 0
  int64_t padding = 0;  // elements between rows
  const isonorm_executor* executor = nullptr;
};
std::string ToString(const Setup& setup);

// Aligned, misaligned by 1 to 7 elements, and with strided rows; on the calling thread and, if given, some on the executor.
std::vector<Setup> AllSetups(const isonorm_executor* executor);

// Two of them for slow machines: aligned with compact rows on the calling thread; misaligned with rows apart, on the executor
// if given.
std::vector<Setup> QuickSetups(const isonorm_executor* executor);

struct Mismatch {
  std::string id;        // of the case
  std::string line;      // the case's parameters
  std::string setup;     // memory, threads, call form
  std::string output;    // the column, or what else went wrong
  std::string expected;  // a digest, or what should have happened
  std::string got;
};

struct Tally {
  size_t cases = 0;
  size_t calls = 0;
  size_t outputs = 0;           // digests compared
  size_t mismatches = 0;        // of them, and of calls that failed
  std::vector<Mismatch> first;  // the first few
  static constexpr size_t kKept = 8;

  bool passed() const { return mismatches == 0 && calls > 0 && outputs > 0; }
  void Add(Mismatch mismatch);
};

// The bytes of every output, compact and row-major; nothing where a case has none.
using Produced = std::array<std::optional<std::vector<uint8_t>>, kOutputCount>;

// Runs one case, with the target that is chosen now, in every setup. A call that fails, runs on another target than `target`,
// writes outside its outputs or changes an input is a mismatch, and so is any digest that differs. Returns what was produced
// last.
Produced CheckCase(const GoldenCase& golden, const std::string& target, const std::vector<Setup>& setups, Tally* tally);

// Chooses the target, runs every case and goes back to the target that was chosen before. An absent target is a mismatch.
// `after_case` is called between cases, for progress; it may throw.
Tally CheckTarget(const std::vector<GoldenCase>& cases, const std::string& target, const std::vector<Setup>& setups,
                  const std::function<void()>& after_case = {});

}  // namespace isonorm_cli
