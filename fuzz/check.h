// Reads a header and aborts the fuzzer if what it says could lead a reader astray.
#pragma once

#include <cstdint>
#include <string>

#include "formats/format.h"

namespace isonorm_fuzz {

// Some bytes and then zeros, which take no memory.
class HeaderSource : public isonorm_cli::Source {
 public:
  HeaderSource(const std::string& bytes, std::int64_t zeros) : bytes_(bytes), zeros_(zeros) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(bytes_.size()) + zeros_; }
  void Read(std::int64_t offset, std::span<std::byte> out) const override;

 private:
  std::string bytes_;
  std::int64_t zeros_;
};

// A refused file is fine. Of an accepted one every tensor lies inside the file and overlaps no other, its size is that of
// its shape, its name can be printed, and writing the header and reading it again gives the same tensors.
void CheckHeader(const isonorm_cli::Source& source);

}  // namespace isonorm_fuzz
