// What the numbers were measured on.
#pragma once

#include <string>

namespace isonorm_cli::bench {

// "AMD EPYC", from the system; "unknown CPU" where it does not say.
std::string CpuName();

// Goals that a Zen 5 can reach and older CPUs cannot are its own.
bool IsZen5();

// The compiler of this program.
std::string CompilerName();

}  // namespace isonorm_cli::bench
