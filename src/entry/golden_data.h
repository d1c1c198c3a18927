// The data and the digest of the golden files (docs/numerics.md §8).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace isonorm {

inline uint64_t SplitMix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// The sum of four uniform 16-bit numbers, centred: exact in f32.
inline float PlainValue(uint64_t seed, uint64_t index) {
  const uint64_t z = SplitMix(seed * 0xD1342543DE82EF95u + (index + 1) * 0x9E3779B97F4A7C15u);
  const auto sum = static_cast<int64_t>((z & 0xFFFF) + (z >> 16 & 0xFFFF) + (z >> 32 & 0xFFFF) + (z >> 48));
  return static_cast<float>(sum - 131070) * 0x1p-15f;
}

// 64-bit FNV-1a.
inline uint64_t Digest(const void* data, size_t bytes) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (size_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001B3u;
  return hash;
}

}  // namespace isonorm
