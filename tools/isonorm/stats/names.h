// Numbers in the names of tensors.
#pragma once

#include <cstddef>
#include <string_view>

namespace isonorm_cli {

inline bool IsDigit(char c) { return c >= '0' && c <= '9'; }

inline std::string_view Digits(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < text.size() && IsDigit(text[end])) ++end;
  return text.substr(at, end - at);
}

}  // namespace isonorm_cli
