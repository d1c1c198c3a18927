#include "cpu/tuning.h"

#include <unistd.h>

#include <cstdlib>

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
// What a system reports may be the sum over many cores' caches, of which one core has 32 MB at most.
int64_t StreamBytes() {
  constexpr int64_t kOneCore = int64_t{32} << 20;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  const int64_t l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (l3 > 0 && l3 < kOneCore) return l3;
#endif
  return kOneCore;
}

}  // namespace

const Tuning& GetTuning() {
  static const Tuning tuning = {
      FromEnvironment("ISONORM_TASK_BYTES", int64_t{512} << 10),  // some 10 µs of work, a few times what waking a thread costs
      FromEnvironment("ISONORM_STREAM_BYTES", StreamBytes()),
  };
  return tuning;
}

}  // namespace isonorm
