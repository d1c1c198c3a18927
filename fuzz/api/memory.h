// All that a call can see: each structure, array and buffer is a heap block of exactly its size, so that AddressSanitizer sees
// one byte too many. A picture of the bytes tells afterwards what was written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

namespace isonorm_fuzz {

using Picture = std::vector<std::vector<std::uint8_t>>;

class Memory {
 public:
  std::uint8_t* Add(std::size_t size, std::uint8_t fill = 0xa5) {
    blocks_.push_back({std::unique_ptr<std::uint8_t[]>(new std::uint8_t[size]), size});
    std::memset(blocks_.back().bytes.get(), fill, size);
    return blocks_.back().bytes.get();
  }
  std::uint8_t* AddCopy(const void* from, std::size_t size) {
    std::uint8_t* to = Add(size);
    if (size > 0) std::memcpy(to, from, size);
    return to;
  }
  Picture Take() const {
    Picture picture;
    for (const Block& block : blocks_) picture.emplace_back(block.bytes.get(), block.bytes.get() + block.size);
    return picture;
  }
  // Prints where it is not as it was.
  void PrintChanges(const Picture& before) const {
    for (std::size_t i = 0; i < before.size(); ++i) {
      const std::uint8_t* bytes = blocks_[i].bytes.get();
      std::size_t at = 0;
      while (at < before[i].size() && bytes[at] == before[i][at]) ++at;
      if (at == before[i].size()) continue;
      std::fprintf(stderr, "block %p of %zu bytes: byte %zu was %02x and is %02x\n", static_cast<const void*>(bytes),
                   before[i].size(), at, unsigned{before[i][at]}, unsigned{bytes[at]});
    }
  }
  void Restore(const Picture& picture) {
    for (std::size_t i = 0; i < picture.size(); ++i) {
      if (!picture[i].empty()) std::memcpy(blocks_[i].bytes.get(), picture[i].data(), picture[i].size());
    }
  }
  // Makes the two the same at these bytes, if they are ours.
  void Forgive(const void* from, std::size_t size, Picture& before) const {
    if (size == 0) return;
    const auto* first = static_cast<const std::uint8_t*>(from);
    for (std::size_t i = 0; i < before.size(); ++i) {
      const std::uint8_t* bytes = blocks_[i].bytes.get();
      if (first >= bytes && first + size <= bytes + before[i].size()) {
        std::memcpy(before[i].data() + (first - bytes), first, size);
        return;
      }
    }
  }

 private:
  struct Block {
    std::unique_ptr<std::uint8_t[]> bytes;
    std::size_t size;
  };
  std::vector<Block> blocks_;
};

}  // namespace isonorm_fuzz
