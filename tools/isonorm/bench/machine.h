// What the numbers were measured on.
#pragma once

#include <string>

namespace isonorm_cli::bench {

// "AMD EPYC", from the system; "unknown CPU" where it does not say.
std::string CpuName();

// The compiler of this program.
std::string CompilerName();

}  // namespace isonorm_cli::bench
