// silu, sigmoid and their slopes as the fixed sequence of docs/numerics.md §2.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "numbers/device.h"

namespace isonorm {

enum class GateFunction : uint8_t { kSilu, kSigmoid };

// Beyond, exp(-|z|) is lost beside 1.
constexpr float kNearGate = 20.0f;

struct SplitExp {  // exp(a) is about p * 2^n
  float p;
  int n;
};

ISONORM_HD inline SplitExp ExpSplit(float a) {  // -150 <= a <= 20
  const float magic = 0x1.8p23f;                // adding it rounds to an integer, half to even
  const float n = std::fma(a, 0x1.715476p+0f, magic) - magic;
  float r = std::fma(-n, 0x1.62e43p-1f, a);
  r = std::fma(-n, -0x1.05c61p-29f, r);
  float q = std::fma(0x1.6a50aep-10f, r, 0x1.123978p-7f);
  q = std::fma(q, r, 0x1.5558acp-5f);
  q = std::fma(q, r, 0x1.555492p-3f);
  q = std::fma(q, r, 0x1.fffffcp-2f);
  return {1.0f + std::fma(q, r * r, r), static_cast<int>(n)};
}

// exp(a), rounded once more where it is subnormal.
ISONORM_HD inline float ExpOf(float a) {
  const SplitExp e = ExpSplit(a);
  return std::ldexp(e.p, e.n);
}

ISONORM_HD_OUTLINE inline float Silu(float z) {
  if (z != z || z > kNearGate) return z;
  if (z >= -kNearGate) return z / (1.0f + ExpOf(-z));
  const float a = std::max(z, -150.0f);
  const SplitExp e = ExpSplit(a);
  return std::ldexp(a * e.p, e.n);
}

ISONORM_HD_OUTLINE inline float SiluSlope(float z) {
  if (z != z) return z;
  if (z > kNearGate) return 1.0f;
  if (z < -kNearGate) {
    const float a = std::max(z, -150.0f);
    const SplitExp e = ExpSplit(a);
    return std::ldexp((1.0f + a) * e.p, e.n);
  }
  const float e = ExpOf(-z), d = 1.0f + e, s = 1.0f / d;
  const float c = (d - e) - 1.0f;  // what rounding added to d
  const float u = std::fma(s * c, s, s), m = std::min(u, e * s);
  return std::fma(z, std::fma(-m, m, m), u);
}

ISONORM_HD_OUTLINE inline float Sigmoid(float z) {
  if (z != z) return z;
  if (z > kNearGate) return 1.0f;
  return z < -kNearGate ? ExpOf(std::max(z, -150.0f)) : 1.0f / (1.0f + ExpOf(-z));
}

ISONORM_HD_OUTLINE inline float SigmoidSlope(float z) {
  if (z != z) return z;
  if (std::fabs(z) > kNearGate) return ExpOf(std::max(-std::fabs(z), -150.0f));
  const float e = ExpOf(-z), s = 1.0f / (1.0f + e), m = std::min(s, e * s);
  return std::fma(-m, m, m);
}

ISONORM_HD inline float GateOf(GateFunction function, float z) {
  return function == GateFunction::kSilu ? Silu(z) : Sigmoid(z);
}
ISONORM_HD inline float GateSlopeOf(GateFunction function, float z) {
  return function == GateFunction::kSilu ? SiluSlope(z) : SigmoidSlope(z);
}

}  // namespace isonorm
