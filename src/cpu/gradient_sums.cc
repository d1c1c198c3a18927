#include "cpu/gradient_sums.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

#include "cpu/fp_guard.h"
#include "cpu/run.h"
#include "cpu/store_sum.h"
#include "numbers/order.h"

namespace isonorm {
namespace {

constexpr size_t kAlignment = 64;

// How the blocks of a call are dealt out: `subtrees` aligned runs of 2^level blocks.
struct Plan {
  int64_t blocks;
  int tasks;
  int level;
  int64_t subtrees;
  int depth;  // sums that a task holds at most: those that wait for a partner, and the one in the making
};

int Log2Ceil(int64_t n) { return n <= 1 ? 0 : std::bit_width(static_cast<uint64_t>(n - 1)); }

// Tasks above one hold at most two finished subtrees each, which keeps the workspace within log2(blocks) + 2 sums a task.
Plan PlanOf(const Call& call) {
  Plan plan;
  plan.blocks = (call.rows + kRowBlock - 1) / kRowBlock;
  plan.tasks = static_cast<int>(std::clamp<int64_t>(TaskCount(call), 1, std::max<int64_t>(plan.blocks, 1)));
  const int64_t wanted = int64_t{2} * plan.tasks;
  plan.level = plan.tasks == 1 ? Log2Ceil(plan.blocks) : Log2Ceil((plan.blocks + wanted - 1) / wanted);
  plan.subtrees = (plan.blocks + (int64_t{1} << plan.level) - 1) >> plan.level;
  const int64_t longest = std::min(plan.blocks, int64_t{1} << plan.level);
  plan.depth = std::bit_width(static_cast<uint64_t>(std::max<int64_t>(longest, 1)));
  return plan;
}

int SumsWanted(const Call& call) { return (call.dweight != nullptr) + (call.dbias != nullptr); }

// One sum for each gradient, side by side: dweight first.
template <class F>
struct Slot {
  F* data;
  void AddFrom(const Slot& right, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) data[i] = data[i] + right.data[i];
  }
};

template <class F>
class SumTask {
 public:
  SumTask(const Call& call, const Target& target, Kernel kernel, std::atomic<int64_t>* next)
      : next_(next),
        call_(call),
        target_(target),
        kernel_(kernel),
        plan_(PlanOf(call)),
        width_(call.cols * SumsWanted(call)),
        dweight_{call.dweight, call.dweight_type, 0},
        dbias_{call.dbias, call.dbias_type, call.dweight != nullptr ? call.cols : 0} {
    const auto address = reinterpret_cast<uintptr_t>(call.workspace);
    base_ = reinterpret_cast<F*>((address + kAlignment - 1) / kAlignment * kAlignment);
  }

  isonorm_status Run() {
    const isonorm_status status = RunTasks(
        call_, plan_.tasks, [](void* self, int64_t index) { static_cast<SumTask*>(self)->RunTask(index); }, this);
    if (status == ISONORM_OK) StoreAll();
    return status;
  }

  void RunTask(int64_t task) {
    const FpGuard guard;
    for (;;) {
      const int64_t subtree = next_->fetch_add(1, std::memory_order_relaxed);
      if (subtree >= plan_.subtrees) return;
      const int64_t begin = subtree << plan_.level, end = std::min(plan_.blocks, begin + (int64_t{1} << plan_.level));
      int pending = 0;
      for (int64_t block = begin; block < end; ++block) {
        SumBlock(block, Stack(task, pending++));
        for (int64_t i = block - begin; i & 1; i >>= 1, --pending) Combine(task, pending);
      }
      for (; pending > 1; --pending) Combine(task, pending);
      if (plan_.tasks > 1) std::memcpy(Result(subtree).data, Stack(task, 0).data, static_cast<size_t>(width_) * sizeof(F));
    }
  }

  void StoreAll() {
    const FpGuard guard;  // the executor has been at work since the call began
    for (int64_t step = 1; step < plan_.subtrees; step *= 2) {
      for (int64_t i = 0; i + step < plan_.subtrees; i += 2 * step) Result(i).AddFrom(Result(i + step), width_);
    }
    Store(dweight_);
    Store(dbias_);
  }

 private:
  // Finished subtrees lie first, then each task's stack. A single task's subtree is the bottom of its stack.
  Slot<F> Result(int64_t subtree) const { return {base_ + subtree * width_}; }
  Slot<F> Stack(int64_t task, int level) const {
    const int64_t before = plan_.tasks == 1 ? 0 : plan_.subtrees + task * plan_.depth;
    return {base_ + (before + level) * width_};
  }

  void Combine(int64_t task, int pending) const { Stack(task, pending - 2).AddFrom(Stack(task, pending - 1), width_); }

  struct Gradient {
    void* out;  // null: it is not wanted
    Type type;
    int64_t offset;  // in a slot
  };

  // Whether it is added up where it is to lie: it has neither a partner nor an old value, and is not rounded.
  bool IsInPlace(const Gradient& gradient) const {
    return plan_.blocks == 1 && IsKept(gradient) && reinterpret_cast<uintptr_t>(gradient.out) % sizeof(F) == 0;
  }
  // Whether its bits are those of the sum, unless that is NaN.
  bool IsKept(const Gradient& gradient) const {
    return gradient.type == (sizeof(F) == 8 ? Type::kF64 : Type::kF32) && !call_.accumulate;
  }
  F* SumIn(const Gradient& gradient, Slot<F> slot) const {
    if (gradient.out == nullptr) return nullptr;
    return IsInPlace(gradient) ? static_cast<F*>(gradient.out) : slot.data + gradient.offset;
  }

  void SumBlock(int64_t block, Slot<F> into) const {
    const ColumnSums sums = {SumIn(dweight_, into), SumIn(dbias_, into)};
    for (void* sum : {sums.dweight, sums.dbias}) {
      if (sum != nullptr) std::memset(sum, 0, static_cast<size_t>(call_.cols) * sizeof(F));
    }
    RunRows(call_, kernel_, block * kRowBlock, std::min(call_.rows, (block + 1) * kRowBlock), sums);
  }

  // To look for a NaN in all of a sum takes less time than to look for one in each value that is stored.
  void Store(const Gradient& gradient) const {
    if (gradient.out == nullptr) return;
    const F* const sum = plan_.blocks == 0 ? nullptr : SumIn(gradient, Result(0));
    if (sum == nullptr || !IsKept(gradient) || !target_.all_finite(sum, gradient.type, call_.cols)) {
      StoreSum(sum, gradient.out, gradient.type, 0, call_.cols, call_.accumulate);
    } else if (sum != gradient.out) {
      std::memcpy(gradient.out, sum, static_cast<size_t>(call_.cols) * sizeof(F));
    }
  }

  std::atomic<int64_t>* const next_;
  const Call& call_;
  const Target& target_;
  const Kernel kernel_;
  const Plan plan_;
  const int64_t width_;
  const Gradient dweight_, dbias_;
  F* base_;
};

template <class Body>
auto WithSums(const Call& call, const Target& target, Kernel kernel, std::atomic<int64_t>* next, Body body) {
  return call.wide ? body(SumTask<double>(call, target, kernel, next)) : body(SumTask<float>(call, target, kernel, next));
}

}  // namespace

bool GradientWorkspace(const Call& call, size_t* bytes) {
  *bytes = 0;
  if (SumsWanted(call) == 0 || call.rows == 0) return true;
  const Plan plan = PlanOf(call);
  const int64_t slots = int64_t{plan.tasks} * plan.depth + (plan.tasks == 1 ? 0 : plan.subtrees);
  int64_t total = 0;
  if (__builtin_mul_overflow(slots * SumsWanted(call), call.cols, &total) ||
      __builtin_mul_overflow(total, call.wide ? sizeof(double) : sizeof(float), &total) ||
      __builtin_add_overflow(total, kAlignment, &total)) {
    return false;
  }
  *bytes = static_cast<size_t>(total);
  return true;
}

isonorm_status RunWithSums(const Call& call, const Target& target, Kernel kernel) {
  std::atomic<int64_t> next{0};
  return WithSums(call, target, kernel, &next, [](auto sums) { return sums.Run(); });
}

int SumTasks(const Call& call) { return PlanOf(call).tasks; }

void RunSumTask(const Call& call, const Target& target, Kernel kernel, int64_t task, std::atomic<int64_t>* next) {
  WithSums(call, target, kernel, next, [task](auto sums) { sums.RunTask(task); });
}

void StoreSums(const Call& call, const Target& target, Kernel kernel) {
  WithSums(call, target, kernel, nullptr, [](auto sums) { sums.StoreAll(); });
}

}  // namespace isonorm
