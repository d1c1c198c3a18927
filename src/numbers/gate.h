// silu, sigmoid and their slopes as the fixed sequence of docs/numerics.md §2.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "numbers/device.h"

namespace isonorm {

enum class GateFunction : uint8_t { kSilu, kSigmoid };

struct SplitExp {  // exp(a) is about p * 2^n
  float p;
  int n;
};

ISONORM_HD inline SplitExp ExpSplit(float a) {  // -150 <= a <= 0
  const float n = std::nearbyint(a * 0x1.715476p+0f);
  float r = std::fma(-n, 0x1.62e43p-1f, a);
  r = std::fma(-n, -0x1.05c61p-29f, r);
  float q = std::fma(0x1.6a50aep-10f, r, 0x1.123978p-7f);
  q = std::fma(q, r, 0x1.5558acp-5f);
  q = std::fma(q, r, 0x1.555492p-3f);
  q = std::fma(q, r, 0x1.fffffcp-2f);
  return {1.0f + std::fma(q, r * r, r), static_cast<int>(n)};
}

ISONORM_HD_OUTLINE inline float Silu(float z) {
  if (z != z) return z;
  if (z < -150.0f) z = -150.0f;
  const SplitExp e = ExpSplit(std::max(-std::fabs(z), -150.0f));
  const float d = 1.0f + std::ldexp(e.p, e.n);
  return z >= 0 ? z / d : std::ldexp((z * e.p) / d, e.n);
}

ISONORM_HD_OUTLINE inline float SiluSlope(float z) {
  if (z != z) return z;
  z = std::clamp(z, -150.0f, 150.0f);
  const SplitExp e = ExpSplit(-std::fabs(z));
  const float x = std::ldexp(e.p, e.n), d = 1.0f + x;
  return z >= 0 ? (1.0f / d) * std::fma(z, x / d, 1.0f) : std::ldexp((e.p / d) * (1.0f + z / d), e.n);
}

ISONORM_HD_OUTLINE inline float Sigmoid(float z) {
  if (z != z) return z;
  const SplitExp e = ExpSplit(std::max(-std::fabs(z), -150.0f));
  const float d = 1.0f + std::ldexp(e.p, e.n);
  return z >= 0 ? 1.0f / d : std::ldexp(e.p / d, e.n);
}

ISONORM_HD_OUTLINE inline float SigmoidSlope(float z) {
  if (z != z) return z;
  const SplitExp e = ExpSplit(std::max(-std::fabs(z), -150.0f));
  const float d = 1.0f + std::ldexp(e.p, e.n);
  return std::ldexp((e.p / d) * (1.0f / d), e.n);
}

ISONORM_HD inline float GateOf(GateFunction function, float z) {
  return function == GateFunction::kSilu ? Silu(z) : Sigmoid(z);
}
ISONORM_HD inline float GateSlopeOf(GateFunction function, float z) {
  return function == GateFunction::kSilu ? SiluSlope(z) : SigmoidSlope(z);
}

}  // namespace isonorm
