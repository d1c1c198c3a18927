// The default floating-point environment for as long as it lives: round to nearest, subnormals kept, exceptions masked. What
// the host had set, its exception flags included, is restored.
#pragma once

#include <cfenv>
#include <cstdint>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace isonorm {

#if defined(__SSE2__)

class FpGuard {
 public:
  FpGuard() : saved_(_mm_getcsr()) {
    if ((saved_ & ~kFlags) != kDefault) _mm_setcsr(kDefault);
  }
  // Writing takes less time than reading, which would wait for every flag, to see whether there is anything to write.
  ~FpGuard() { _mm_setcsr(saved_); }
  FpGuard(const FpGuard&) = delete;
  FpGuard& operator=(const FpGuard&) = delete;

 private:
  static constexpr unsigned kFlags = 0x3F;      // sticky exception flags
  static constexpr unsigned kDefault = 0x1F80;  // all exceptions masked, nearest, no FTZ, no DAZ
  unsigned saved_;
};

#elif defined(__aarch64__)

class FpGuard {
 public:
  FpGuard() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(control_));
    __asm__ volatile("mrs %0, fpsr" : "=r"(status_));
    if (control_ != 0) __asm__ volatile("msr fpcr, %0" : : "r"(uint64_t{0}));
  }
  ~FpGuard() {
    if (control_ != 0) __asm__ volatile("msr fpcr, %0" : : "r"(control_));
    __asm__ volatile("msr fpsr, %0" : : "r"(status_));
  }
  FpGuard(const FpGuard&) = delete;
  FpGuard& operator=(const FpGuard&) = delete;

 private:
  uint64_t control_, status_;
};

#else

class FpGuard {
 public:
  FpGuard() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~FpGuard() { std::fesetenv(&saved_); }
  FpGuard(const FpGuard&) = delete;
  FpGuard& operator=(const FpGuard&) = delete;

 private:
  std::fenv_t saved_;
};

#endif

}  // namespace isonorm
