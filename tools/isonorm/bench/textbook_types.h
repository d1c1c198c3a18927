// Storage types for loops that are compiled with other options than the rest of the program: nothing here has linkage.
#pragma once

namespace isonorm_cli::bench {
namespace {

struct Bf16 {
  unsigned short bits;
};

inline float Get(float v) { return v; }
inline void Put(float v, float* to) { *to = v; }

inline float Get(Bf16 v) {
  const unsigned bits = static_cast<unsigned>(v.bits) << 16;
  float f;
  __builtin_memcpy(&f, &bits, sizeof f);
  return f;
}
inline void Put(float v, Bf16* to) {
  unsigned bits;
  __builtin_memcpy(&bits, &v, sizeof bits);
  to->bits = static_cast<unsigned short>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

}  // namespace
}  // namespace isonorm_cli::bench
