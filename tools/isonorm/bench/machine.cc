#include "bench/machine.h"

#include <fstream>

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

}  // namespace isonorm_cli::bench
