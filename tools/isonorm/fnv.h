// The digest of the golden files, and of what `apply --digest` prints.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace isonorm_cli {

// 64-bit FNV-1a.
class Fnv {
 public:
  void Add(const void* bytes, std::size_t count) {
    std::uint64_t hash = hash_;  // which the bytes might alias
    for (std::size_t i = 0; i < count; ++i) hash = (hash ^ static_cast<const unsigned char*>(bytes)[i]) * 0x100000001b3u;
    hash_ = hash;
  }
  void Add(std::span<const std::byte> bytes) { Add(bytes.data(), bytes.size()); }
  std::uint64_t value() const { return hash_; }
  // Sixteen digits.
  std::string text() const {
    std::string digits(16, '0');
    for (std::size_t i = 0; i < 16; ++i) digits[i] = "0123456789abcdef"[hash_ >> (60 - 4 * i) & 15];
    return digits;
  }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325u;
};

}  // namespace isonorm_cli
