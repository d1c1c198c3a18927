// How rows that come from memory are fetched ahead, and how what is written leaves for it. It belongs to a microarchitecture,
// was found by measurement, and changes the speed alone. A line has 64 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace isonorm {

// For rows of up to `most` bytes; of a list the last holds for all longer ones.
struct RowPlan {
  int64_t most;
  int ahead;              // rows; of rows below 1 KB, so many KB; 0: nothing is fetched, the hardware does it better alone
  int16_t in_sum = 0;     // bytes fetched with each line that the sum reads,
  int16_t in_write = 64;  // and with each that is written: a line together, or each a line, which is then fetched twice
  bool near = false;      // into the first-level cache, not the second; in the write alone
  uint16_t stage = 0;     // bytes of the buffer by way of which lines leave; 0: there is none
};

// Of backward, which reads two rows at a time; with kNone one row.
enum class GradientFetch : uint8_t { kNone, kInWrite, kInDotsToo };
struct GradientPlan {
  GradientFetch fetch;
  bool together = false;  // the dot products of both rows leaf by leaf, not one after the other; of f32 with longest leaves
  bool direct = false;    // dx leaves without a buffer; of f32 alone
};

constexpr int64_t kNoCall = INT64_MAX;
struct Plan {
  const char* name;
  // Of types of 32 bits and of 16: those wait for memory more, these for arithmetic.
  const RowPlan *streamed[2], *in_place[2];
  const RowPlan* several;  // rows made of two tensors: the sum fetches one of them again, the write both
  GradientPlan gradient[2];
  int64_t last_cache = int64_t{32} << 20;  // bytes that calls can count on of the last cache, which many cores share
  // Bytes from which calls of rows of one tensor fetch x and y ahead although their stores are ordinary.
  int64_t fetched = kNoCall;
  bool aligns_stores = false;  // to lines, at the expense of loads, and of rows that could be written together
};

// The part of the list for rows of so many bytes.
inline const RowPlan& PlanFor(const RowPlan* list, int64_t row_bytes) {
  while (row_bytes > list->most) ++list;
  return *list;
}

// The same for rows of one length: what a loop needs.
struct FetchPlan {
  FetchPlan() = default;
  FetchPlan(const RowPlan* list, int64_t row_bytes) {
    constexpr int64_t kKilo = 1 << 10;
    const RowPlan& plan = PlanFor(list, row_bytes);
    stage = plan.stage;
    if (plan.ahead == 0) return;
    blocks = row_bytes <= kKilo;
    distance = row_bytes < kKilo ? plan.ahead * kKilo / row_bytes : plan.ahead;
    in_sum = static_cast<size_t>(plan.in_sum);
    in_write = static_cast<size_t>(plan.in_write);
    from = plan.in_sum + plan.in_write > 64 ? 0 : row_bytes / 64 * plan.in_sum;
    near = plan.near;
  }
  int64_t distance = 0;             // rows; 0: nothing is fetched
  size_t stage = 0;                 // bytes of the buffer; 0: there is none
  size_t in_sum = 0, in_write = 0;  // bytes fetched with each line that the sum reads, and with each that is written
  int64_t from = 0;                 // where in the row the write begins to fetch
  bool near = false;                // the write fetches into the first-level cache
  bool blocks = true;               // so short that their sums are taken by blocks all the same
};

// Whether no line of a row is left out, and the loops have room for the buffer. Of 16-bit types the sum asks once for two
// lines.
constexpr int64_t kEveryRow = INT64_MAX;
constexpr bool IsWhole(const RowPlan* list, bool narrow) {
  for (int64_t before = -1;; before = list++->most) {
    const RowPlan& p = *list;
    if (p.most <= before || p.stage % 64 != 0 || p.stage > 512) return false;
    if (p.ahead == 0) {
      if (p.in_sum != 0 || p.in_write != 0) return false;
    } else {
      const bool twice = !narrow && p.in_sum == 64 && p.in_write == 64;
      if (!twice && (p.in_sum + p.in_write != 64 || p.in_sum > 32 || (p.near && p.in_sum != 0))) return false;
    }
    if (p.most == kEveryRow) return true;
  }
}

// What cpuid says; all 0 of a CPU that has no such instruction. Virtual machines may have an Intel model of their own, but not
// instructions: those of f16 came with Sapphire Rapids.
struct Processor {
  enum Maker : uint8_t { kOther, kAmd, kIntel } maker;
  bool avx512_fp16;
  unsigned family, model;
};

const Plan& PlanOf(const Processor& processor);
const Plan* PlanNamed(std::string_view name);  // null: there is none

}  // namespace isonorm
