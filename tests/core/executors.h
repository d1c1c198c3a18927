// Executors that are as unkind as the contract of isonorm_executor allows.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "problem.h"

namespace core_test {

// Runs the tasks one after another in shuffled order on the calling thread, and remembers that it was used. `after` runs last.
class Shuffled {
 public:
  explicit Shuffled(int tasks, uint64_t seed = 1, void (*after)() = nullptr) : seed_(seed), after_(after) {
    executor_ = {sizeof(executor_), tasks, 0, this, &Call};
  }
  Shuffled(const Shuffled&) = delete;
  Shuffled& operator=(const Shuffled&) = delete;
  const isonorm_executor* executor() const { return &executor_; }
  int64_t largest() const { return largest_; }  // the most tasks that a call was cut into

 private:
  static void Call(void* context, int64_t count, void (*task)(void*, int64_t), void* task_context) {
    Shuffled& self = *static_cast<Shuffled*>(context);
    self.largest_ = std::max(self.largest_, count);
    std::vector<int64_t> order(static_cast<size_t>(count));
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[(self.seed_ = Mix(self.seed_)) % i]);
    for (const int64_t index : order) task(task_context, index);
    if (self.after_ != nullptr) self.after_();
  }

  isonorm_executor executor_;
  uint64_t seed_;
  void (*after_)();
  int64_t largest_ = 0;
};

// A new thread for every task. `before` and `after` run on it around the task.
class NewThreads {
 public:
  explicit NewThreads(int tasks, void (*before)() = nullptr, void (*after)() = nullptr) : before_(before), after_(after) {
    executor_ = {sizeof(executor_), tasks, 0, this, &Call};
  }
  NewThreads(const NewThreads&) = delete;
  NewThreads& operator=(const NewThreads&) = delete;
  const isonorm_executor* executor() const { return &executor_; }
  int64_t largest() const { return largest_; }

 private:
  static void Call(void* context, int64_t count, void (*task)(void*, int64_t), void* task_context) {
    NewThreads& self = *static_cast<NewThreads*>(context);
    int64_t largest = self.largest_;
    while (largest < count && !self.largest_.compare_exchange_weak(largest, count)) {
    }
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < count; ++i) {
      threads.emplace_back([&self, task, task_context, i] {
        if (self.before_ != nullptr) self.before_();
        task(task_context, i);
        if (self.after_ != nullptr) self.after_();
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  isonorm_executor executor_;
  void (*before_)();
  void (*after_)();
  std::atomic<int64_t> largest_ = 0;
};

}  // namespace core_test
