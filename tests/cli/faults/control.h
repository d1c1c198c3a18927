// What the test and the library that is loaded into the program share: a page of memory.
#pragma once

#include <atomic>
#include <cstdint>

namespace isonorm_test {

// Which calls are counted.
enum class FaultKind : std::int32_t {
  kNone,
  kMemory,  // malloc and its like, so `new` too
  kLarge,   // the same for 16 KiB and more: that one and all later ones fail
  kSystem,  // files and standard output: open, read, write, sync, link, rename
  kThread   // the start of a thread
};

// What happens to the call that is hit. Each mode applies to fewer kinds of calls than the one before it.
enum class FaultMode : std::int32_t {
  kFail,       // it does nothing and returns an error
  kInterrupt,  // it does nothing and returns EINTR: reads, writes and syncs
  kShort,      // it does a part only: reads and writes
  kLie         // a write does nothing and returns success: what a program that ignores errors would make of one
};

struct FaultControl {
  FaultKind kind;
  FaultMode mode;
  std::int64_t at;                  // the call that is hit, from 1 on
  std::atomic<std::int64_t> count;  // calls so far
  char hit[32];                     // the name of the function that was hit, "" if none was
  std::int32_t descriptor;          // that it was about, -1 if none
};

// Descriptors that the program starts with, and the variable that names the file of the page. For each byte that comes from
// the first, the program runs once in a process of its own, whose wait status then goes into the second.
constexpr int kStartDescriptor = 198, kStatusDescriptor = 199;
constexpr const char* kControlVariable = "ISONORM_FAULT_CONTROL";

}  // namespace isonorm_test
