#include "bench/timing.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <new>
#include <thread>
#include <utility>

#if defined(__linux__)
#include <sched.h>
#include <sys/mman.h>
#endif

namespace isonorm_cli::bench {
namespace {

// Beyond what a row asks for: for misaligned tensors, and so that x and y of a power of two of bytes do not lie apart by just
// that, which slows every loop but a copy.
constexpr size_t kSpare = 65536 + 4096;

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double Time(const std::function<void()>& run, int64_t calls) {
  const double start = Now();
  for (int64_t i = 0; i < calls; ++i) run();
  return (Now() - start) / static_cast<double>(calls);
}

// Linear congruential steps are random enough for a question of speed.
float NextRandom(uint32_t& state) {
  state = state * 1664525u + 1013904223u;
  return static_cast<float>(static_cast<int32_t>(state)) * 0x1.bb67aep-31f;  // uniform in +-sqrt(3): mean square 1
}

// What the type stores for `value`, cut off rather than rounded: |value| < 2, and not below 2^-14 in f16.
uint32_t Bits(float value, isonorm::dtype type) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (type == isonorm::dtype::f32) return bits;
  if (type == isonorm::dtype::bf16) return bits >> 16;
  const uint32_t magnitude = std::max(bits & 0x7FFFFFFFu, 0x38800000u);
  return ((bits >> 16) & 0x8000u) | ((magnitude - 0x38000000u) >> 13);
}

void StoreAt(void* data, size_t index, float value, isonorm::dtype type) {
  if (type == isonorm::dtype::f64) {
    static_cast<double*>(data)[index] = value;
    return;
  }
  const auto size = static_cast<size_t>(isonorm::size_of(type));
  const uint32_t bits = Bits(value, type);
  std::memcpy(static_cast<char*>(data) + index * size, &bits, size);  // little-endian, like every CPU this runs on
}

// Repeats the first `done` bytes until `bytes` are filled.
void Repeat(void* data, size_t done, size_t bytes) {
  for (size_t n; done < bytes; done += n) {
    n = std::min(done, bytes - done);
    std::memcpy(static_cast<char*>(data) + done, data, n);
  }
}

#if defined(__linux__)
// Of the calling thread.
void MoveTo(int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(cpu), &one);
  sched_setaffinity(0, sizeof one, &one);
}

// "0,8" for two threads of one core; "" where the system does not say.
std::string SiblingsOf(int cpu) {
  std::string siblings;
  std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
  std::getline(file, siblings);
  return siblings;
}

// A CPU of this process beside `cpu`, on another core if there is one; -1 if this is the only one.
int AnotherCore(int cpu, const cpu_set_t& mask) {
  int other = -1;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (i == cpu || !CPU_ISSET(static_cast<size_t>(i), &mask)) continue;
    if (SiblingsOf(i).empty() || SiblingsOf(i) != SiblingsOf(cpu)) return i;
    other = other < 0 ? i : other;
  }
  return other;
}
#endif

}  // namespace

#if defined(__linux__)
Buffer::Buffer(size_t bytes, Pages pages) : bytes_(bytes), pages_(pages) {
  data_ = mmap(nullptr, bytes_ + kSpare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data_ == MAP_FAILED) throw std::bad_alloc();
  madvise(data_, bytes_ + kSpare, pages == Pages::kHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  std::memset(data_, 0, bytes_ + kSpare);
}
Buffer::~Buffer() { munmap(data_, bytes_ + kSpare); }

std::string AllowedCpus() {
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return "";
  const auto has = [&](int cpu) { return cpu < CPU_SETSIZE && CPU_ISSET(static_cast<size_t>(cpu), &mask); };
  std::string text;
  for (int first = 0, last; first < CPU_SETSIZE; first = last + 1) {
    last = first;
    if (!has(first)) continue;
    while (has(last + 1)) ++last;
    if (!text.empty()) text += ',';
    text += std::to_string(first);
    if (last > first) (text += '-') += std::to_string(last);
  }
  return text;
}
bool MayUseCpu(int cpu) {
  cpu_set_t mask;
  return sched_getaffinity(0, sizeof mask, &mask) != 0 || (cpu < CPU_SETSIZE && CPU_ISSET(static_cast<size_t>(cpu), &mask));
}

Pin::Pin(int cpu) {
  if (cpu < 0) return;
  before_.resize(sizeof(cpu_set_t));
  auto* before = reinterpret_cast<cpu_set_t*>(before_.data());
  if (sched_getaffinity(0, sizeof(cpu_set_t), before) != 0) before_.clear();
  MoveTo(cpu);
}
Pin::~Pin() {
  if (!before_.empty()) sched_setaffinity(0, sizeof(cpu_set_t), reinterpret_cast<const cpu_set_t*>(before_.data()));
}

PinPair::PinPair(isonorm::thread_pool& pool) {
  cpu_set_t mask;
  if (pool.concurrency() != 2 || sched_getaffinity(0, sizeof mask, &mask) != 0) return;
  const int cpu = sched_getcpu(), other = AnotherCore(cpu, mask);
  if (other < 0) return;
  caller_.emplace(cpu);
  struct Meeting {
    int worker_cpu;
    std::thread::id caller;
    std::atomic<int> arrived;
  };
  Meeting meeting = {other, std::this_thread::get_id(), {0}};
  const auto task = [](void* context, int64_t) {
    Meeting& m = *static_cast<Meeting*>(context);
    ++m.arrived;
    while (m.arrived < 2) std::this_thread::yield();  // so that each thread has one of the two tasks
    if (std::this_thread::get_id() != m.caller) MoveTo(m.worker_cpu);
  };
  pool.parallel_for(2, task, &meeting);
}
#else
Buffer::Buffer(size_t bytes, Pages pages) : bytes_(bytes), pages_(pages) {
  data_ = ::operator new(bytes_ + kSpare, std::align_val_t(4096));
  std::memset(data_, 0, bytes_ + kSpare);
}
Buffer::~Buffer() { ::operator delete(data_, std::align_val_t(4096)); }
std::string AllowedCpus() { return ""; }
bool MayUseCpu(int) { return true; }
Pin::Pin(int) {}
Pin::~Pin() = default;
PinPair::PinPair(isonorm::thread_pool&) {}
#endif

void Buffer::FillRandom(isonorm::dtype type, size_t bytes) {
  const size_t size = static_cast<size_t>(isonorm::size_of(type));
  const size_t first = std::min(bytes / size, size_t{1} << 18);
  uint32_t state = 1;
  for (size_t i = 0; i < first; ++i) {
    StoreAt(data_, i, NextRandom(state), type);
  }
  Repeat(data_, first * size, bytes);
}

void Buffer::FillSigns(isonorm::dtype type) {
  const size_t size = static_cast<size_t>(isonorm::size_of(type));
  uint32_t state = 1;
  for (size_t i = 0; i < bytes_ / size; ++i) {
    StoreAt(data_, i, NextRandom(state) < 0 ? -1.0f : 1.0f, type);
  }
}

std::vector<size_t> TurnsOf(size_t n, size_t round) {
  // 0, 1, n - 1, 2, n - 2, ...: the differences between neighbours are all different, so that its n shifts have each pair of
  // neighbours once if n is even, and together with the same backwards each pair twice for every n.
  std::vector<size_t> turns;
  for (size_t i = 0; i < n; ++i) turns.push_back(((i % 2 == 1 ? i / 2 + 1 : n - i / 2) + round / 2) % n);
  if (round % 2 == 1) std::reverse(turns.begin(), turns.end());
  return turns;
}

Times Race(const std::vector<Candidate>& candidates, const RaceOptions& options) {
  const auto prepare = [](const Candidate& c) {
    if (c.prepare) c.prepare();
  };
  std::vector<int64_t> calls;
  for (const Candidate& c : candidates) {
    prepare(c);
    c.run();
    if (options.sample_seconds == 0) {
      calls.push_back(1);
      continue;
    }
    const double one = std::max(1e-9, Time(c.run, std::max<int64_t>(1, static_cast<int64_t>(1e-5 / (Time(c.run, 1) + 1e-9)))));
    calls.push_back(std::max<int64_t>(1, static_cast<int64_t>(options.sample_seconds / one)));
  }
  Times times(candidates.size());
  for (int round = 0; round < options.rounds; ++round) {
    for (const size_t i : TurnsOf(candidates.size(), static_cast<size_t>(round))) {
      prepare(candidates[i]);
      if (options.sample_seconds > 0) candidates[i].run();  // warm
      times[i].push_back(Time(candidates[i].run, calls[i]));
    }
  }
  return times;
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

Spread SpreadOf(std::vector<double> values, double times) {
  for (double& value : values) value *= times;
  Spread spread = {Median(values), {}};
  std::sort(values.begin(), values.end());
  // The median lies below the k-th smallest value as often as fewer than k of n coins show heads.
  const auto n = static_cast<double>(values.size());
  double heads = std::pow(0.5, n), fewer = heads;
  size_t k = 0;
  for (; fewer <= 1.0 / 40 && k < values.size(); ++k) {
    heads *= (n - static_cast<double>(k)) / (static_cast<double>(k) + 1);
    fewer += heads;
  }
  if (k > 0) spread.within = {values[k - 1], values[values.size() - k]};
  return spread;
}

Spread SpreadOfRatio(const std::vector<double>& a, const std::vector<double>& b, double times) {
  std::vector<double> ratios;
  for (size_t i = 0; i < a.size(); ++i) ratios.push_back(a[i] / b[i]);
  return SpreadOf(std::move(ratios), times);
}

double MedianRatio(const std::vector<double>& a, const std::vector<double>& b) { return SpreadOfRatio(a, b).value; }

Spread SpreadOfDifference(const std::vector<double>& a, const std::vector<double>& b, double times) {
  std::vector<double> differences;
  for (size_t i = 0; i < a.size(); ++i) differences.push_back(a[i] - b[i]);
  return SpreadOf(std::move(differences), times);
}

size_t Fastest(const Times& times, size_t first, size_t last) {
  size_t best = first;
  for (size_t i = first + 1; i < last; ++i) {
    if (Median(times[i]) < Median(times[best])) best = i;
  }
  return best;
}

}  // namespace isonorm_cli::bench
