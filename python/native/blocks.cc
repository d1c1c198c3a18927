#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "memory.h"

namespace isonorm_python {
namespace {

constexpr std::size_t kHugePage = std::size_t{1} << 21;
constexpr std::size_t kMaxIdle = std::size_t{1} << 28;

struct Block {
  void* data;
  std::size_t size;
};

struct Blocks {
  std::mutex mutex;
  std::unordered_map<void*, std::size_t> used;  // their sizes
  std::vector<Block> idle;                      // the oldest first
  std::size_t idle_bytes = 0;
};

// Never destroyed: arrays may be freed after everything else.
Blocks& All() {
  static Blocks& blocks = *new Blocks;
  return blocks;
}

void* Map(std::size_t size) {
  void* const data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
#ifdef MADV_HUGEPAGE
  madvise(data, size, MADV_HUGEPAGE);
#endif
  return data;
}

// With the mutex held.
void DropOldest(Blocks& all) {
  munmap(all.idle.front().data, all.idle.front().size);
  all.idle_bytes -= all.idle.front().size;
  all.idle.erase(all.idle.begin());
}

}  // namespace

void* TakeBlock(std::size_t bytes) {
  const std::size_t size = (std::max<std::size_t>(bytes, 1) + kHugePage - 1) / kHugePage * kHugePage;
  if (size < bytes) return nullptr;
  Blocks& all = All();
  const std::lock_guard lock(all.mutex);
  // The last one that is not a quarter too large.
  for (std::size_t i = all.idle.size(); i-- > 0;) {
    const Block block = all.idle[i];
    if (block.size < size || block.size - size > size / 4) continue;
    all.idle.erase(all.idle.begin() + static_cast<std::ptrdiff_t>(i));
    all.idle_bytes -= block.size;
    all.used.emplace(block.data, block.size);
    return block.data;
  }
  void* data = Map(size);
  while (data == nullptr && !all.idle.empty()) {
    DropOldest(all);
    data = Map(size);
  }
  if (data != nullptr) all.used.emplace(data, size);
  return data;
}

void* ResizeBlock(void* block, std::size_t bytes) {
  std::size_t before = 0;
  if (block != nullptr) {
    Blocks& all = All();
    const std::lock_guard lock(all.mutex);
    before = all.used.at(block);
  }
  void* const data = TakeBlock(bytes);
  if (data == nullptr || block == nullptr) return data;
  std::memcpy(data, block, std::min(before, bytes));
  GiveBlock(block);
  return data;
}

void GiveBlock(void* block) {
  if (block == nullptr) return;
  Blocks& all = All();
  const std::lock_guard lock(all.mutex);
  const auto found = all.used.find(block);
  const std::size_t size = found->second;
  all.used.erase(found);
#ifdef MADV_FREE
  if (size <= kMaxIdle && madvise(block, size, MADV_FREE) == 0) {
    while (all.idle_bytes + size > kMaxIdle) DropOldest(all);
    all.idle.push_back({block, size});
    all.idle_bytes += size;
    return;
  }
#endif
  munmap(block, size);
}

}  // namespace isonorm_python
