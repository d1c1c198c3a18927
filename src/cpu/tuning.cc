#include "cpu/tuning.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>

#include "cpu/detect.h"

namespace isonorm {
namespace {

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return otherwise;
  char* end = nullptr;
  const long long value = std::strtoll(text, &end, 10);
  return *end == '\0' && value >= 0 ? value : otherwise;
}

// Once x and y no longer lie in the last cache together, reading y's lines only to overwrite them costs a third of the traffic.
// What a system reports may be the sum over many cores' caches.
int64_t LastCache() {
  const int64_t most = CurrentPlan().last_cache;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  const int64_t l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (l3 > 0 && l3 < most) return l3;
#endif
  return most;
}

// Half a megabyte is some 10 µs of work, a few times what waking a thread costs.
int64_t FindTaskBytes() { return FromEnvironment("ISONORM_TASK_BYTES", int64_t{512} << 10); }
int64_t FindStreamBytes() { return FromEnvironment("ISONORM_STREAM_BYTES", LastCache()); }
int64_t FindPlan() {
  const char* name = std::getenv("ISONORM_PLAN");
  const Plan* forced = name == nullptr ? nullptr : PlanNamed(name);
  return reinterpret_cast<intptr_t>(forced == nullptr ? &PlanOf(DetectProcessor()) : forced);
}

// Found by the first call. Threads that come at the same time look too and agree on what one found: nobody waits, so that a
// fork in the middle of it leaves a child that can look by itself.
class Setting {
 public:
  constexpr explicit Setting(int64_t (*find)()) : find_(find) {}
  int64_t Get() {
    int64_t known = value_.load(std::memory_order_relaxed);
    if (__builtin_expect(known >= 0, 1)) return known;
    return Find(known);
  }

 private:
  [[gnu::cold, gnu::noinline]] int64_t Find(int64_t known) {
    const int64_t found = find_();
    return value_.compare_exchange_strong(known, found, std::memory_order_relaxed) ? found : known;
  }

  int64_t (*find_)();
  std::atomic<int64_t> value_{-1};
};

constinit Setting task_bytes{FindTaskBytes}, stream_bytes{FindStreamBytes}, plan{FindPlan};

}  // namespace

int64_t TaskBytes() { return task_bytes.Get(); }
int64_t StreamBytes() { return stream_bytes.Get(); }
const Plan& CurrentPlan() { return *reinterpret_cast<const Plan*>(plan.Get()); }

}  // namespace isonorm
