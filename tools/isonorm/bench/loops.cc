#include "bench/loops.h"

// AVX-512, AVX2 and the compiler's baseline: enough to be the best loop on every CPU this is likely to be judged on.
// SVE has vectors without a fixed size, which these loops do not need: NEON is the baseline there.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/loops.cc"  // this file again, once per instruction set
#include "hwy/foreach_target.h"              // IWYU pragma: keep
// clang-format off
#include "hwy/highway.h"
#include "hwy/cache_control.h"
#include "bench/limits-inl.h"
#if HWY_TARGET != HWY_SCALAR
#include "bench/peers-inl.h"
#endif
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace isonorm_cli::bench {
namespace HWY_NAMESPACE {

inline const Loops& Table() {
#if HWY_TARGET == HWY_SCALAR
  static const Loops kLoops = {hwy::TargetName(HWY_TARGET), kLimits, {}, {}, {}, {}};  // x86 before AVX2: no peer worth beating
#else
  static const Loops kLoops = {hwy::TargetName(HWY_TARGET), kLimits,           kPeers<F32>, kPeers<Bf16>,
                               kPeers<Bf16WeightF32>,       kPeers<Bf16Offset>};
#endif
  return kLoops;
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm_cli::bench
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace isonorm_cli::bench {

const Loops& BestLoops() {
#if HWY_ARCH_X86
#if HWY_TARGETS & HWY_AVX3
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd")) {
    return N_AVX3::Table();
  }
#endif
#if HWY_TARGETS & HWY_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) return N_AVX2::Table();
#endif
#endif
  return HWY_STATIC_DISPATCH(Table)();
}

}  // namespace isonorm_cli::bench
#endif  // HWY_ONCE
