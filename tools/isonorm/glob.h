// What --tensor, --case and --filter choose.
#pragma once

#include <string>
#include <utility>

namespace isonorm_cli {

// A pattern with *, ? and [...]. Names hold brackets too, such as layers[0].x: a name that is spelled just like the pattern
// is what was meant, and then nothing else is. So the caller says first whether there is such a name.
class Glob {
 public:
  explicit Glob(std::string pattern) : pattern_(std::move(pattern)) {}

  const std::string& text() const { return pattern_; }
  // For every name there is, before Matches().
  void Meet(const std::string& name) { exact_ = exact_ || name == pattern_; }
  bool Matches(const std::string& name) const;

 private:
  std::string pattern_;
  bool exact_ = false;
};

}  // namespace isonorm_cli
