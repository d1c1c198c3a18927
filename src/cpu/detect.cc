#include "cpu/detect.h"

#include "hwy/highway.h"

#if HWY_ARCH_X86
#include <cpuid.h>
#elif HWY_ARCH_ARM_A64 && defined(__linux__)
#include <sys/auxv.h>
#include <sys/prctl.h>
#endif

namespace isonorm {
namespace {

#if HWY_ARCH_X86

// __builtin_cpu_supports also asks the operating system whether it saves the wide registers. It does not know F16C.
bool HasF16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

int64_t Detect() {
  __builtin_cpu_init();
  int64_t targets = 0;
#if defined(HWY_SSE2)
  targets |= HWY_SSE2;
#endif
  if (!__builtin_cpu_supports("ssse3")) return targets;
  targets |= HWY_SSSE3;
  if (!(__builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul") &&
        __builtin_cpu_supports("aes"))) {
    return targets;
  }
  targets |= HWY_SSE4;
  if (!(__builtin_cpu_supports("avx") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
        __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma") && HasF16c())) {
    return targets;
  }
  targets |= HWY_AVX2;
  if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd"))) {
    return targets;
  }
  targets |= HWY_AVX3;
  if (!(__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512vpopcntdq") &&
        __builtin_cpu_supports("avx512bitalg") && __builtin_cpu_supports("gfni"))) {
    return targets;
  }
  targets |= HWY_AVX3_DL;
  return targets;
}

#elif HWY_ARCH_ARM_A64 && defined(__linux__)

int64_t Detect() {
  constexpr unsigned long kAes = 1ul << 3, kSve = 1ul << 22, kSve2 = 1ul << 1;  // HWCAP_AES, HWCAP_SVE, HWCAP2_SVE2
  const unsigned long caps = getauxval(AT_HWCAP), caps2 = getauxval(AT_HWCAP2);
  int64_t targets = 0;
#if defined(HWY_NEON_WITHOUT_AES)
  targets |= HWY_NEON_WITHOUT_AES;
#endif
  if ((caps & kAes) != 0) targets |= HWY_NEON;
  if ((caps & kSve) == 0) return targets;
  constexpr int kGetVectorLength = 51;  // PR_SVE_GET_VL
  const int bytes = prctl(kGetVectorLength) & 0xFFFF;
  targets |= HWY_SVE;
  if (bytes == 32) targets |= HWY_SVE_256;
  if ((caps2 & kSve2) == 0) return targets;
  targets |= HWY_SVE2;
  if (bytes == 16) targets |= HWY_SVE2_128;
  return targets;
}

#else

int64_t Detect() { return HWY_STATIC_TARGET; }

#endif

}  // namespace

Processor DetectProcessor() {
  Processor processor = {};
#if HWY_ARCH_X86
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0, &a, &b, &c, &d) == 0) return processor;
  if (b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx) processor.maker = Processor::kAmd;
  if (b == signature_INTEL_ebx && c == signature_INTEL_ecx && d == signature_INTEL_edx) processor.maker = Processor::kIntel;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return processor;
  processor.family = ((a >> 8) & 0xF) + ((a >> 20) & 0xFF);
  processor.model = ((a >> 4) & 0xF) + ((a >> 12) & 0xF0);
  processor.avx512_fp16 = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & (1u << 23)) != 0;
#endif
  return processor;
}

int64_t DetectTargets() { return (Detect() | HWY_STATIC_TARGET) & HWY_TARGETS; }

}  // namespace isonorm
