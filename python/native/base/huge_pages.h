// Memory of results that a framework allocates.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

namespace isonorm_base {

// From here on. An allocator mostly has smaller blocks whose pages are there.
constexpr std::int64_t kLargeBytes = std::int64_t{1} << 22;

// For memory that is about to be written as a whole and which nobody has touched, as a rule: to get 64 MB from the system page by
// page, of 4 KiB each, takes several times as long as the norm. Where the system has no huge pages, or gives none, everything is
// as it was.
inline void AskForHugePages([[maybe_unused]] void* data, [[maybe_unused]] std::int64_t bytes) {
#ifdef MADV_HUGEPAGE
  if (bytes < kLargeBytes) return;
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE)), address = reinterpret_cast<std::uintptr_t>(data);
  const std::uintptr_t begin = (address + page - 1) / page * page;
  const std::uintptr_t end = (address + static_cast<std::uintptr_t>(bytes)) / page * page;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace isonorm_base
