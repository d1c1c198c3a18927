// Single values in memory of any alignment.
#pragma once

#include <cstdint>
#include <cstring>

#include "numbers/device.h"

namespace isonorm {

// Element i at `data`. A device takes no address that is not aligned, and would go byte by byte for the sake of one.
template <class T>
ISONORM_HD inline T LoadAt(const void* data, int64_t i) {
#if defined(__CUDA_ARCH__)
  return static_cast<const T*>(data)[i];
#else
  T value;
  std::memcpy(&value, static_cast<const char*>(data) + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
#endif
}

template <class T>
ISONORM_HD inline void StoreAt(T value, void* data, int64_t i) {
#if defined(__CUDA_ARCH__)
  static_cast<T*>(data)[i] = value;
#else
  std::memcpy(static_cast<char*>(data) + i * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
#endif
}

}  // namespace isonorm
