// The floating-point environments that a host may have set.
#pragma once

#include <array>
#include <cfenv>
#include <cstdint>
#include <string>
#include <vector>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace core_test {

struct Environment {
  std::string name;
  uint64_t bits;
};

#if defined(__SSE2__)  // MXCSR
constexpr uint64_t kDefaultEnvironment = 0x1F80;
inline uint64_t EnvironmentNow() { return _mm_getcsr(); }
inline void SetEnvironment(uint64_t bits) { _mm_setcsr(static_cast<unsigned>(bits)); }
inline const std::array<Environment, 5> kHostile = {{{"round down", 0x3F80},
                                                     {"round up", 0x5F80},
                                                     {"toward zero", 0x7F80},
                                                     {"flush to zero, denormals are zero", 0x9FC0},
                                                     {"all of it, every exception trapped", 0xE040}}};
constexpr std::array<uint64_t, 4> kRounding = {0, 0x2000, 0x4000, 0x6000};
constexpr std::array<uint64_t, 4> kFlushing = {0, 0x8000, 0x0040, 0x8040};
constexpr uint64_t kFlags = 0x3F;
#elif defined(__aarch64__)  // FPCR, and FPSR above it
constexpr uint64_t kDefaultEnvironment = 0;
inline uint64_t EnvironmentNow() {
  uint64_t control, status;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  __asm__ volatile("mrs %0, fpsr" : "=r"(status));
  return status << 32 | (control & 0xFFFFFFFFu);
}
inline void SetEnvironment(uint64_t bits) {
  __asm__ volatile("msr fpcr, %0" : : "r"(bits & 0xFFFFFFFFu));
  __asm__ volatile("msr fpsr, %0" : : "r"(bits >> 32));
}
inline const std::array<Environment, 5> kHostile = {
    {{"round up", 1u << 22},
     {"round down", 2u << 22},
     {"toward zero", 3u << 22},
     {"flush to zero", 1u << 24},
     {"default NaN, flush to zero and toward zero", (1u << 25) | (1u << 24) | (3u << 22)}}};
constexpr std::array<uint64_t, 4> kRounding = {0, 1u << 22, 2u << 22, 3u << 22};
constexpr std::array<uint64_t, 4> kFlushing = {0, 1u << 24, 1u << 25, 3u << 24};
constexpr uint64_t kFlags = uint64_t{0x9F} << 32;
#else                       // the rounding mode above the exception flags
constexpr uint64_t kDefaultEnvironment = static_cast<uint64_t>(FE_TONEAREST) << 32;
inline uint64_t EnvironmentNow() {
  return static_cast<uint64_t>(std::fegetround()) << 32 | static_cast<uint64_t>(std::fetestexcept(FE_ALL_EXCEPT));
}
inline void SetEnvironment(uint64_t bits) {
  std::fesetenv(FE_DFL_ENV);
  std::fesetround(static_cast<int>(bits >> 32));
  std::feraiseexcept(static_cast<int>(bits));
}
inline const std::array<Environment, 5> kHostile = {{{"round down", static_cast<uint64_t>(FE_DOWNWARD) << 32},
                                                     {"round up", static_cast<uint64_t>(FE_UPWARD) << 32},
                                                     {"toward zero", static_cast<uint64_t>(FE_TOWARDZERO) << 32},
                                                     {"round up", static_cast<uint64_t>(FE_UPWARD) << 32},
                                                     {"round down", static_cast<uint64_t>(FE_DOWNWARD) << 32}}};
constexpr std::array<uint64_t, 4> kRounding = {static_cast<uint64_t>(FE_TONEAREST) << 32,
                                               static_cast<uint64_t>(FE_DOWNWARD) << 32, static_cast<uint64_t>(FE_UPWARD) << 32,
                                               static_cast<uint64_t>(FE_TOWARDZERO) << 32};
constexpr std::array<uint64_t, 1> kFlushing = {0};
constexpr uint64_t kFlags = FE_ALL_EXCEPT;
#endif

// Every rounding mode with every way of flushing, with no exception flag set and with all of them set; none traps.
inline std::vector<Environment> EveryEnvironment() {
  std::vector<Environment> all;
  for (size_t rounding = 0; rounding < kRounding.size(); ++rounding) {
    for (size_t flushing = 0; flushing < kFlushing.size(); ++flushing) {
      for (const uint64_t flags : {uint64_t{0}, kFlags}) {
        all.push_back({"rounding " + std::to_string(rounding) + ", flushing " + std::to_string(flushing) +
                           (flags == 0 ? "" : ", all flags set"),
                       kDefaultEnvironment | kRounding[rounding] | kFlushing[flushing] | flags});
      }
    }
  }
  return all;
}

}  // namespace core_test
