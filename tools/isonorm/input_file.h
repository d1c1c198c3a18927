// A file that is read at offsets, never as a whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "formats/format.h"

namespace isonorm_cli {

class InputFile : public Source {
 public:
  // Throws Failure(kBadInput) if there is no such regular file that can be read.
  explicit InputFile(const std::string& path);
  ~InputFile() override;
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  std::int64_t size() const override { return size_; }
  void Read(std::int64_t offset, std::span<std::byte> out) const override;

 private:
  std::string path_;
  int fd_;
  std::int64_t size_ = 0;
};

// The header of a file; what is wrong with it becomes Failure(kBadInput) with the path.
TensorFile LoadHeader(const InputFile& file);

}  // namespace isonorm_cli
