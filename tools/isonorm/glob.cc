#include "glob.h"

#include <fnmatch.h>

#include <algorithm>

namespace isonorm_cli {

bool Glob::Matches(const std::string& name) const {
  if (exact_) return name == pattern_;
  if (name.find('\0') == std::string::npos) return fnmatch(pattern_.c_str(), name.c_str(), 0) == 0;
  // fnmatch takes C strings, and would see such a name up to its NUL. It comes from a header in UTF-8, so that 0xff can stand
  // for the NUL, and a pattern with 0xff matches none of these names.
  if (pattern_.find('\xff') != std::string::npos) return false;
  std::string whole = name;
  std::replace(whole.begin(), whole.end(), '\0', '\xff');
  return fnmatch(pattern_.c_str(), whole.c_str(), 0) == 0;
}

}  // namespace isonorm_cli
