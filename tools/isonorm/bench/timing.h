// Memory, clock and the race: candidates take turns in one process, so that a slow moment of the host hits all of them.
#pragma once

#include <isonorm/isonorm.hpp>
#include <isonorm/thread_pool.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace isonorm_cli::bench {

// Huge ones where the system grants them: the limits of the memory itself. Small ones: what malloc gives.
enum class Pages { kHuge, kSmall };

// Memory that is touched before first use; starts on a page, with a page to spare behind.
class Buffer {
 public:
  Buffer(size_t bytes, Pages pages);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Pages pages() const { return pages_; }
  void FillRandom(isonorm::dtype type, size_t bytes);  // random values with a mean square of 1; f32, bf16, f16 or f64
  void FillSigns(isonorm::dtype type);                 // 1 and -1 at random: a weight that can be applied again and again

 private:
  void* data_;
  size_t bytes_;
  Pages pages_;
};

struct Candidate {
  std::string name;
  std::function<void()> run;
  std::function<void()> prepare;  // not timed; may be empty
};

struct RaceOptions {
  int rounds = 0;
  double sample_seconds = 0;  // calls are repeated until a sample takes this long; 0: each sample is one call
};

// Seconds per call: [candidate][round].
using Times = std::vector<std::vector<double>>;

Times Race(const std::vector<Candidate>& candidates, const RaceOptions& options);

// The order in which n candidates take their turns in a round. What runs before a candidate leaves it a cache, so that over 2 n
// rounds every candidate follows every other equally often within a round.
std::vector<size_t> TurnsOf(size_t n, size_t round);

double Median(std::vector<double> values);

// A median over the rounds of a run, and between which values the run says that it lies: those of which fewer than 1 in 40 runs
// of as many rounds have theirs above, and 1 in 40 below, whatever the distribution. With fewer than 6 rounds nothing is said.
struct Spread {
  double value;
  struct Within {
    double low, high;
  };
  std::optional<Within> within;
};
Spread SpreadOf(std::vector<double> values, double times = 1);  // `times` as much

// Of a's time divided by b's time in the same round, `times` so much.
Spread SpreadOfRatio(const std::vector<double>& a, const std::vector<double>& b, double times = 1);

// Median over the rounds of a's time divided by b's time in the same round.
double MedianRatio(const std::vector<double>& a, const std::vector<double>& b);

// Likewise of the difference.
Spread SpreadOfDifference(const std::vector<double>& a, const std::vector<double>& b, double times = 1);

// The candidate with the smallest median among [first, last).
size_t Fastest(const Times& times, size_t first, size_t last);

// The CPUs that this process may use, such as "0-3,8"; "" where the system does not say.
std::string AllowedCpus();
bool MayUseCpu(int cpu);  // true where the system does not say

// Pins the calling thread to one CPU for its lifetime; cpu < 0 changes nothing.
class Pin {
 public:
  explicit Pin(int cpu);
  ~Pin();
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;

 private:
  std::vector<uint8_t> before_;
};

// Puts the calling thread and the worker of a pool of two on a CPU each, the caller for its lifetime, the worker for good. A
// scheduler that finds the second CPU busy, even with something of little weight, wakes the worker on the caller's CPU and
// leaves both there for the milliseconds that a call takes: two threads then look as fast as one.
class PinPair {
 public:
  explicit PinPair(isonorm::thread_pool& pool);

 private:
  std::optional<Pin> caller_;
};

}  // namespace isonorm_cli::bench
