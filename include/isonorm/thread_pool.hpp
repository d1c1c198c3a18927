// isonorm::thread_pool: an executor for programs that have none; the command line uses it.
//
// A call of the library hands over a few equal tasks at once and waits for all of them. These lines do that and no more:
// nothing is allocated for a job, the caller works too, and waiting threads spin for some microseconds before they sleep.
// Why not a well-kept pool: oneTBB (and std::execution, which needs it) would be a run-time dependency of every consumer;
// OpenMP wants a compiler flag and a library of every consumer; Highway's own pool is newer than the 1.0.3 that we support.
// A program that has a pool already fills an isonorm_executor with it and does not need this file.
//
// fork(): a child has the one thread that forked, and no pool in it may wait for the others. So the threads of a pool belong to
// one process, told apart by a count that fork() raises in the child; they start when a job first needs them in that process,
// and are stopped and joined by that process alone. Every pool of the parent can be used and destroyed in the child, even if a
// thread of the parent was using it while another forked. A child that was forked inside a task has only that task: the others
// are the parent's. There parallel_for returns when the task does, and on a thread of the pool the child ends with status 0.
#pragma once

#include <isonorm/isonorm.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace isonorm {

class thread_pool {
 public:
  using task_function = void (*)(void* task_context, std::int64_t index);

  // threads: how many tasks run at once, the caller among them; below 1: one for each CPU this process may use.
  // Where the system refuses a thread fewer run at once, which no result can show.
  explicit thread_pool(int threads = 0) : worker_count_(std::max(threads > 0 ? threads : available_cpus(), 1) - 1) {
    // An array of none would be memory to which no pointer leads, and LeakSanitizer would report the shared pool.
    if (worker_count_ > 0) workers_ = std::make_unique<worker[]>(static_cast<std::size_t>(worker_count_));
    executor_ = {sizeof(isonorm_executor), worker_count_ + 1, 0, this, &parallel_for_callback};
    count_forks();
  }

  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  ~thread_pool() {
    if (ready_ != forks()) return;  // none has started in this process
    for (int i = 0; i < running_; ++i) {
      worker& w = workers_[static_cast<std::size_t>(i)];
      w.state = kStop;
      w.state.notify_one();
      pthread_join(w.thread, nullptr);
    }
  }

  // The pool of the process. It is never destroyed, so that calls from destructors of statics stay safe.
  static thread_pool& shared() {
    // No static of a function: a child would wait for ever for a thread of its parent that is about to initialise it.
    thread_pool* pool = shared_.load(std::memory_order_acquire);
    if (pool != nullptr) return *pool;
    auto fresh = std::make_unique<thread_pool>();
    return shared_.compare_exchange_strong(pool, fresh.get()) ? *fresh.release() : *pool;
  }

  // How many tasks can run at once.
  [[nodiscard]] int concurrency() const { return worker_count_ + 1; }

  // For isonorm_forward_args::executor and its like. Valid as long as the pool.
  [[nodiscard]] const isonorm_executor* executor() const { return &executor_; }

  // Calls task(task_context, i) once for every i in [0, count) and returns when all have returned. The task must not throw.
  // Safe from many threads at once and from inside a task: a call that finds the pool busy does its tasks by itself.
  void parallel_for(std::int64_t count, task_function task, void* task_context) {
    const unsigned process = forks();
    if (count <= 1 || worker_count_ == 0 || !start(process) || busy_.test_and_set(std::memory_order_acquire)) {
      for (std::int64_t i = 0; i < count; ++i) task(task_context, i);
      return;
    }
    task_ = task;
    task_context_ = task_context;
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    const int helpers = static_cast<int>(std::min<std::int64_t>(count - 1, running_));
    for (int i = 0; i < helpers; ++i) {
      worker& w = workers_[static_cast<std::size_t>(i)];
      w.state = kPosted;  // publishes the job; sequentially consistent, so that notify_one cannot miss a thread going to sleep
      w.state.notify_one();
    }
    if (!run_tasks(process)) return;
    for (int i = 0; i < helpers; ++i) await(workers_[static_cast<std::size_t>(i)]);
    busy_.clear(std::memory_order_release);
  }

  // The CPUs that the affinity mask leaves to this process; at least 1.
  [[nodiscard]] static int available_cpus() {
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
    pthread_t thread{};  // not std::thread, which would end the child: it can neither join nor forget what is not there
    thread_pool* pool = nullptr;
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

  // How often the way from the first process to this one forked, from 1 on.
  static unsigned forks() { return forks_.load(std::memory_order_relaxed); }

  // Threads that come here together may all register: two steps at a fork are as good as one.
  static void count_forks() {
    if (counts_forks_.load(std::memory_order_acquire)) return;
    if (pthread_atfork(nullptr, nullptr, [] { forks_.fetch_add(1, std::memory_order_relaxed); }) != 0) throw std::bad_alloc();
    counts_forks_.store(true, std::memory_order_release);
  }

  // Starts the threads where this process has none of this pool. False while another thread is doing so.
  bool start(unsigned process) {
    if (ready_.load(std::memory_order_acquire) == process) return true;
    unsigned before = starting_.load(std::memory_order_relaxed);
    if (before == process || !starting_.compare_exchange_strong(before, process)) return false;
    for (running_ = 0; running_ < worker_count_; ++running_) {
      worker& w = workers_[static_cast<std::size_t>(running_)];
      w.state = kIdle;
      w.pool = this;
      if (pthread_create(&w.thread, nullptr, run_worker, &w) != 0) break;
    }
    busy_.clear();
    ready_.store(process, std::memory_order_release);
    return true;
  }

  // False where a task forked and this is the child: neither the job nor the pool, which the task may have destroyed, is to be
  // touched any more.
  bool run_tasks(unsigned process) {
    for (std::int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) {
      task_(task_context_, i);
      if (forks() != process) return false;
    }
    return true;
  }

  // Takes the job back from a worker that has not woken yet: the caller never waits for a thread that is not at work.
  static void await(worker& w) {
    int posted = kPosted;
    if (w.state.compare_exchange_strong(posted, kIdle)) return;
    while (wait_while(w.state, kRunning) == kRunning) continue;
  }

  static void* run_worker(void* argument) {
    worker& w = *static_cast<worker*>(argument);
    const unsigned process = forks();
    for (;;) {
      const int now = wait_while(w.state, kIdle);
      if (now == kStop) return nullptr;
      int posted = kPosted;
      if (!w.state.compare_exchange_strong(posted, kRunning)) continue;  // taken back
      if (!w.pool->run_tasks(process)) return nullptr;
      w.state = kIdle;
      w.state.notify_one();
    }
  }

  static void parallel_for_callback(void* context, std::int64_t count, task_function task, void* task_context) {
    static_cast<thread_pool*>(context)->parallel_for(count, task, task_context);
  }

  static inline std::atomic<thread_pool*> shared_{nullptr};
  static inline std::atomic<unsigned> forks_{1};
  static inline std::atomic<bool> counts_forks_{false};

  const int worker_count_;
  std::unique_ptr<worker[]> workers_;
  isonorm_executor executor_{};
  // Values of forks(): of the process whose threads run, and of the one in which some thread set out to start them.
  std::atomic<unsigned> ready_{0};
  std::atomic<unsigned> starting_{0};
  int running_ = 0;
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  task_function task_ = nullptr;
  void* task_context_ = nullptr;
  std::int64_t count_ = 0;
  alignas(64) std::atomic<std::int64_t> next_{0};
};

}  // namespace isonorm
