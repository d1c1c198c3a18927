// The tensors and numbers of one call: planned, then spoilt in some places, then given memory.
#pragma once

#include <isonorm/isonorm.h>

#include <cstring>
#include <deque>
#include <functional>
#include <numeric>
#include <type_traits>
#include <vector>

#include "bytes.h"
#include "memory.h"

namespace isonorm_fuzz {

enum class Fill { kValues, kPositive, kPositions, kRaw };

// A tensor that has no memory yet.
struct Plan {
  isonorm_dtype dtype = ISONORM_F32;
  std::vector<std::int64_t> shape, strides;  // no strides: null
  Fill fill = Fill::kValues;
  std::int64_t positions = 1;  // Fill::kPositions: how many the table has
  bool output = false;
  Plan* over = nullptr;       // lies in this one's memory,
  std::int64_t distance = 0;  // so many bytes behind its first element
  std::int32_t ndim = 0;      // other than shape says, where it was spoilt
  std::int32_t device = ISONORM_DEVICE_CPU;
  std::uint64_t byte_offset = 0;
  int misaligned = 0;
  bool absent = false, no_shape = false, no_data = false;
  bool unseen = false;  // not given to the call that has the workspace

  isonorm_tensor* abi = nullptr;  // once there is memory; null if absent
  std::uint8_t* first = nullptr;  // its first element

  std::size_t ElementSize() const { return static_cast<std::size_t>((dtype.bits + 7) / 8) * dtype.lanes; }
};

class Scene {
 public:
  explicit Scene(Bytes& bytes) : bytes_(bytes) {}

  // ---- before there is memory
  Plan* Tensor(isonorm_dtype dtype, std::vector<std::int64_t> shape, Fill fill = Fill::kValues);
  Plan* Output(isonorm_dtype dtype, std::vector<std::int64_t> shape);
  // Maybe the very memory of another tensor, maybe near it.
  void MaybeOver(Plan* plan, std::initializer_list<Plan*> others);
  // A number that may be spoilt.
  template <class T>
  void Knob(T& number) {
    knobs_.push_back([this, &number] {
      if constexpr (std::is_same_v<T, double>) {
        number = bytes_.Pick({0.0, -1.0, 1e-45, 1e300, 1e39, static_cast<double>(__builtin_nanf("")), __builtin_inf(), 1.0});
      } else {
        number = static_cast<T>(bytes_.OneIn(2) ? bytes_.Below(4) : bytes_.Wild());
      }
    });
  }
  void Switch(std::function<void()> spoil) { knobs_.push_back(std::move(spoil)); }
  void Spoil();

  // ---- memory
  // False if the call could be right and yet has no memory here: it is not made then.
  bool Build();
  // A structure in memory of its own, of a size that may be another version's.
  template <class S>
  S* Seal(S structure) {
    std::size_t claimed = sizeof structure, size = sizeof structure;
    std::uint8_t tail = 0;
    if (bytes_.OneIn(60)) {
      claimed = size = bytes_.OneIn(4) ? static_cast<std::size_t>(bytes_.Wild()) : static_cast<std::size_t>(bytes_.Below(512));
      tail = static_cast<std::uint8_t>(bytes_.OneIn(2));
      if (size < sizeof(std::size_t) || size > 4096) size = sizeof(std::size_t);  // refused for its size alone
    }
    structure.struct_size = claimed;
    std::uint8_t* block = memory.Add(size, tail);
    std::memcpy(block, &structure, size < sizeof structure ? size : sizeof structure);
    return reinterpret_cast<S*>(block);  // only the library looks at it from here on
  }
  // Writes a field of a sealed structure, if it has that much.
  template <class S, class T>
  void Set(S* sealed, T S::*field, T value) {
    std::size_t size = 0;
    std::memcpy(&size, sealed, sizeof size);
    if (size >= sizeof(S) && size <= 4096) std::memcpy(&(sealed->*field), &value, sizeof value);
  }
  const isonorm_executor* Executor();
  // Memory for a workspace of so many bytes, usually.
  void* Workspace(std::size_t& size);

  // ---- calls
  // Makes a call of this function; aborts if it wrote what it must not, or failed without a word.
  isonorm_status Try(const char* function, const std::vector<const Plan*>& outputs,
                     const std::function<isonorm_status()>& call);

  // Aborts if the memory is not as it was, and says where.
  void ComplainOfChanges(const Picture& before, const char* what) const;

  Memory memory;
  std::vector<std::pair<const void*, std::size_t>> scratch;  // may be written by every call that succeeds
  bool good_executor = true;
  // What it computes may be compared between targets: no number went in that no call of the library gives.
  bool comparable = true;

 private:
  void Lay(Plan& plan);
  void Place(Plan& root);
  void FillIn(const Plan& plan);
  void SpoilTensor(Plan& plan);
  void DoWrong(const std::vector<const Plan*>& outputs);

  Bytes& bytes_;
  std::deque<Plan> plans_;
  std::vector<std::function<void()>> knobs_;
};

// use(pointer, count) for all elements, as many at once as lie side by side.
template <class Use>
void ForEachRun(const Plan& plan, Use use) {
  if (plan.first == nullptr) return;
  const std::size_t last = plan.shape.size() - 1;
  std::vector<std::int64_t> index(plan.shape.size(), 0), strides = plan.strides;
  if (strides.empty()) {
    strides.assign(plan.shape.size(), 1);
    for (std::size_t i = last; i > 0; --i) strides[i - 1] = strides[i] * plan.shape[i];
  }
  const std::int64_t run = strides[last] == 1 ? plan.shape[last] : 1;
  for (;;) {
    const std::int64_t at = std::inner_product(index.begin(), index.end(), strides.begin(), std::int64_t{0});
    use(plan.first + at * static_cast<std::int64_t>(plan.ElementSize()), run);
    std::size_t i = last;
    for (index[last] += run; index[i] == plan.shape[i]; ++index[--i]) {
      if (i == 0) return;
      index[i] = 0;
    }
  }
}

[[noreturn]] void Complain(const char* what);

}  // namespace isonorm_fuzz
