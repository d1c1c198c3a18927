// The option --target of several verbs.
#pragma once

#include <string>

namespace isonorm_cli {

// The target of this machine that a name means which is written otherwise, such as AVX2 for avx2; "" if there is none.
std::string RightSpelling(const std::string& name);

// Throws Failure(kUsage) that names the targets of this machine if there is none of this name.
void ChooseTarget(const std::string& name);

}  // namespace isonorm_cli
