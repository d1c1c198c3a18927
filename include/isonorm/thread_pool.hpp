// isonorm::thread_pool: the executor that the C++ face and the command line use when they are not handed another one.
//
// A call of the library hands over a few equal tasks at once and waits for all of them. These lines do that and no more:
// nothing is allocated for a job, the caller works too, and waiting threads spin for some microseconds before they sleep.
// Why not a well-kept pool: oneTBB (and std::execution, which needs it) would be a run-time dependency of every consumer;
// OpenMP wants a compiler flag and a library of every consumer; Highway's own pool is newer than the 1.0.3 that we support.
// A program that has a pool already fills an isonorm_executor with it and does not need this file.
#pragma once

#include <isonorm/isonorm.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <system_error>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace isonorm {

class thread_pool {
 public:
  using task_function = void (*)(void* task_context, std::int64_t index);

  // threads: how many tasks run at once, the caller among them; below 1: one for each CPU this process may use.
  // Where the system refuses a thread the pool is smaller, which no result can show.
  explicit thread_pool(int threads = 0) {
    const int wanted = std::max(threads > 0 ? threads : available_cpus(), 1) - 1;
    // An array of none would be memory to which no pointer leads, and LeakSanitizer would report the shared pool.
    if (wanted > 0) workers_ = std::make_unique<worker[]>(static_cast<std::size_t>(wanted));
    for (; worker_count_ < wanted; ++worker_count_) {
      worker& w = workers_[static_cast<std::size_t>(worker_count_)];
      try {
        w.thread = std::thread([this, &w] { run_worker(w); });
      } catch (const std::system_error&) {
        break;
      }
    }
    executor_ = {sizeof(isonorm_executor), worker_count_ + 1, 0, this, &parallel_for_callback};
  }

  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  ~thread_pool() {
    for (int i = 0; i < worker_count_; ++i) {
      worker& w = workers_[static_cast<std::size_t>(i)];
      w.state = kStop;
      w.state.notify_one();
      w.thread.join();
    }
  }

  // How many tasks can run at once.
  int concurrency() const { return worker_count_ + 1; }

  // For isonorm_forward_args::executor and its like. Valid as long as the pool.
  const isonorm_executor* executor() const { return &executor_; }

  // Calls task(task_context, i) once for every i in [0, count) and returns when all have returned. The task must not throw.
  // Safe from many threads at once and from inside a task: a call that finds the pool busy does its tasks by itself.
  void parallel_for(std::int64_t count, task_function task, void* task_context) {
    if (count <= 1 || worker_count_ == 0 || busy_.test_and_set(std::memory_order_acquire)) {
      for (std::int64_t i = 0; i < count; ++i) task(task_context, i);
      return;
    }
    task_ = task;
    task_context_ = task_context;
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    const int helpers = static_cast<int>(std::min<std::int64_t>(count - 1, worker_count_));
    for (int i = 0; i < helpers; ++i) {
      worker& w = workers_[static_cast<std::size_t>(i)];
      w.state = kPosted;  // publishes the job; sequentially consistent, so that notify_one cannot miss a thread going to sleep
      w.state.notify_one();
    }
    run_tasks();
    for (int i = 0; i < helpers; ++i) await(workers_[static_cast<std::size_t>(i)]);
    busy_.clear(std::memory_order_release);
  }

  // The CPUs that the affinity mask leaves to this process; at least 1.
  static int available_cpus() {
#if defined(__linux__)
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) == 0) return std::max(CPU_COUNT(&mask), 1);
#endif
    return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
  }

 private:
  enum state : int { kIdle, kPosted, kRunning, kStop };

  // One cache line each, so that a worker which spins does not disturb the others.
  struct alignas(64) worker {
    std::atomic<int> state{kIdle};
    std::thread thread;
  };

  static constexpr int kSpins = 1000;  // 10 to 50 us: longer than the gap between calls of one model layer

  static void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
  }

  // Returns once the state differs from `old`.
  static int wait_while(const std::atomic<int>& state, int old) {
    for (int i = 0; i < kSpins; ++i) {
      const int now = state.load(std::memory_order_acquire);
      if (now != old) return now;
      relax();
    }
    state.wait(old);
    return state.load(std::memory_order_acquire);
  }

  void run_tasks() {
    for (std::int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) task_(task_context_, i);
  }

  // Takes the job back from a worker that has not woken yet: the caller never waits for a thread that is not at work. This
  // is also why a job ends in a forked child, where the workers do not exist.
  static void await(worker& w) {
    int posted = kPosted;
    if (w.state.compare_exchange_strong(posted, kIdle)) return;
    while (wait_while(w.state, kRunning) == kRunning) continue;
  }

  void run_worker(worker& w) {
    for (;;) {
      const int now = wait_while(w.state, kIdle);
      if (now == kStop) return;
      int posted = kPosted;
      if (!w.state.compare_exchange_strong(posted, kRunning)) continue;  // taken back
      run_tasks();
      w.state = kIdle;
      w.state.notify_one();
    }
  }

  static void parallel_for_callback(void* context, std::int64_t count, task_function task, void* task_context) {
    static_cast<thread_pool*>(context)->parallel_for(count, task, task_context);
  }

  std::unique_ptr<worker[]> workers_;
  int worker_count_ = 0;
  isonorm_executor executor_{};
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  task_function task_ = nullptr;
  void* task_context_ = nullptr;
  std::int64_t count_ = 0;
  alignas(64) std::atomic<std::int64_t> next_{0};
};

}  // namespace isonorm
