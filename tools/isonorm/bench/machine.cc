#include "bench/machine.h"

#include <fstream>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#include "bench/bench.h"
#include "bench/textbook.h"

namespace isonorm_cli::bench {

std::string CpuName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown CPU";
}

bool IsZen5() {
#if defined(__x86_64__) || defined(__i386__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0, &a, &b, &c, &d) == 0 || b != signature_AMD_ebx || __get_cpuid(1, &a, &b, &c, &d) == 0) return false;
  return (a >> 8 & 15) == 15 && (a >> 20 & 255) == 0x1A - 15;  // family 26
#else
  return false;
#endif
}

std::string CompilerName() {
#if defined(__clang__)
  return "clang " + std::to_string(__clang_major__);
#elif defined(__GNUC__)
  return "gcc " + std::to_string(__GNUC__);
#else
  return "unknown compiler";
#endif
}

// Here and not beside the loops: their file is compiled for the CPU that this function is about to ask for.
bool TextbookLoopsRun() {
#if defined(__x86_64__) || defined(__i386__)
  if (kTextbookLoops.level == 512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
  }
  if (kTextbookLoops.level == 2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return kTextbookLoops.level == 0;
}

TextbookForward TextbookForwardOf(const Row& row) {
  using isonorm::dtype;
  const TextbookLoops& loops = kTextbookLoops;
  if (!TextbookLoopsRun()) return nullptr;
  if (row.LayerNorm()) return row.type == dtype::f32 ? loops.layer_norm_f32 : loops.layer_norm_bf16;
  if (row.type == dtype::f32) return loops.forward_f32;
  if (row.type == dtype::f16) return loops.forward_f16;
  if (row.contract.weight_offset != 0) return loops.forward_bf16_offset;
  return row.weight ? loops.forward_bf16_f32 : loops.forward_bf16;
}

TextbookBackward TextbookBackwardOf(const Row& row) {
  const bool f32 = row.type == isonorm::dtype::f32;
  if (!TextbookLoopsRun()) return nullptr;
  if (row.LayerNorm()) return f32 ? kTextbookLoops.layer_norm_backward_f32 : kTextbookLoops.layer_norm_backward_bf16;
  return f32 ? kTextbookLoops.backward_f32 : kTextbookLoops.backward_bf16;
}

}  // namespace isonorm_cli::bench
