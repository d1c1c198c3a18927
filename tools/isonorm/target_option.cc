#include "target_option.h"

#include <fmt/format.h>
#include <isonorm/isonorm.hpp>

#include <algorithm>
#include <cctype>
#include <vector>

#include "verbs.h"

namespace isonorm_cli {
namespace {

// Letters and digits alone: SSE4.1, sse4_1 and SSE41 are one.
std::string Plain(const std::string& name) {
  std::string plain;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0) plain += static_cast<char>(std::tolower(byte));
  }
  return plain;
}

}  // namespace

std::string RightSpelling(const std::string& name) {
  for (const std::string& target : isonorm::list_targets()) {
    if (target != name && Plain(target) == Plain(name)) return target;
  }
  return "";
}

void ChooseTarget(const std::string& name) {
  const std::vector<std::string> targets = isonorm::list_targets();
  if (std::find(targets.begin(), targets.end(), name) == targets.end()) {
    const std::string meant = RightSpelling(name);
    throw Failure(kUsage, fmt::format("--target is '{}', which this machine does not have{}; it has {}", name,
                                      meant.empty() ? "" : fmt::format(": {} is meant", meant), fmt::join(targets, ", ")));
  }
  isonorm::set_target(name);
}

}  // namespace isonorm_cli
