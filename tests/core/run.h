// Runs a problem through the C ABI in a layout of choice, and compares outputs bit by bit.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "memory.h"
#include "problem.h"

namespace core_test {

// Where a tensor lies.
struct Place {
  int offset = 0;                // elements behind a 64-byte boundary
  int bytes = 0;                 // and behind that; the elements are unaligned then
  std::vector<int64_t> strides;  // of the leading dimensions, in elements; empty: compact
  std::optional<Slot> over;      // exactly in the memory of this input
  Guard guard = Guard::kPattern;
};

struct Layout {
  std::optional<std::vector<int64_t>> lead;  // leading dimensions, whose product is rows; nothing: {rows}
  std::array<Place, kSlots> place = {};
};

struct How {
  Layout layout = {};
  const isonorm_executor* executor = nullptr;
  uint32_t flags = 0;  // with ISONORM_ACCUMULATE, dweight and dbias start as the values in their slots
  uint8_t workspace_fill = 0xFF;
  size_t workspace_offset = 0;                    // bytes
  std::function<void()> before = {}, after = {};  // right before and after the call
};

// Runs forward, backward or double backward, whichever the problem's tensors ask for, and returns its outputs. A status other
// than OK, a kernel of another target than the one chosen, an input that changed or a byte written beside an output is a test
// failure.
Values Compute(const Problem& problem, const Values& inputs, const How& how = {});
bool IsBackward(const Problem& problem);

// What the compared outputs add up to, for the report.
struct Count {
  size_t outputs = 0, elements = 0;
};

// Whether all outputs of the problem are the same bytes; if not, the first difference is a test failure.
bool Same(const Problem& problem, const Values& expected, const Values& got, const std::string& where, Count* count = nullptr);

// The inputs, where in this slot every row has one value, its first, or the first of all for the whole slot.
Values WithOneValue(const Problem& problem, Values inputs, Slot slot, bool whole);

std::vector<std::string> Targets();       // all of this machine, best first; "reference" is the last
std::vector<std::string> OtherTargets();  // all but "reference"

bool HasTunedLoops(const std::string& target);  // as DESIGN.md says: AVX2, AVX-512 and NEON

class ScopedTarget {  // back to the one before at the end, so that scopes may lie within each other
 public:
  explicit ScopedTarget(const std::string& name);
  ~ScopedTarget() { isonorm_set_target(before_.c_str()); }
  ScopedTarget(const ScopedTarget&) = delete;
  ScopedTarget& operator=(const ScopedTarget&) = delete;

 private:
  const std::string before_;
};

// What the specification gives: forward on the reference target, which also fills rstd and residual_out of `inputs`, so that
// they serve any form of backward; then backward.
struct Expected {
  Values inputs, forward, backward;
};
Expected Reference(const Problem& problem, Values inputs);
inline Expected Reference(const Problem& problem) { return Reference(problem, MakeInputs(problem)); }

}  // namespace core_test
