// Where `apply` finds its tensors: open files, and the patterns that name what belongs to a tensor.
#pragma once

#include <isonorm/isonorm.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/format.h"
#include "input_file.h"

namespace isonorm_cli {

// A file and what it holds. A .npy file's one tensor has the file's name without its ending.
struct OpenFile {
  explicit OpenFile(const std::string& path);
  const InputFile file;
  TensorFile header;
};

// A tensor and the file that holds it; null: absent. A file may hold very many tensors, so that little is kept for each.
struct Stored {
  const InputFile* file = nullptr;
  const TensorInfo* info = nullptr;
  explicit operator bool() const { return info != nullptr; }
  isonorm::dtype type() const;
  void Read(std::int64_t offset, std::span<std::byte> out) const;  // throws Failure
};

// How a file holds values of this type: an element type, or its name in .safetensors.
void SetType(TensorInfo& info, isonorm::dtype type);

// What keeps this tensor from being normalised, to be read after its name; "" if nothing does.
std::string WhyNot(const TensorInfo& t);
inline constexpr const char* kNormalised = "isonorm normalises vectors of F32, BF16, F16 and F64";

// A sentence about tensors of which there may be very many: the first few by name, then how many more.
class FirstFew {
 public:
  void Add(const TensorInfo& t, const std::string& what);
  bool empty() const { return count_ == 0; }
  std::string text() const;

 private:
  static constexpr std::int64_t kNamed = 5;
  std::string text_;
  std::int64_t count_ = 0;
};

// Puts the tensor's name for {name}, and its name up to the last dot for {prefix}.
std::string Expand(const std::string& pattern, const std::string& name);

// Where an option such as --weight finds its tensors. `noun` is what it is called in messages.
class Companion {
 public:
  using Files = std::vector<std::unique_ptr<const OpenFile>>;
  // `path`: "" stands for the input; else the file is opened and added to `files`.
  Companion(const char* option, const char* noun, const std::string& pattern, const std::string& path, const OpenFile& input,
            Files& files);
  Companion(const Companion&) = delete;
  Companion& operator=(const Companion&) = delete;

  const char* option() const { return option_; }

  // The tensor of the input's own file that belongs to this one; null if there is none.
  const TensorInfo* FindInInput(const std::string& name) const {
    return own_file_ || pattern_.empty() ? nullptr : source_.header.Find(Expand(pattern_, name));
  }

  // Of floating-point numbers. Absent if the option was not given; throws Failure if there is no such tensor.
  Stored Find(const std::string& name) const;

 private:
  const char* option_;
  const char* noun_;
  const std::string& pattern_;
  bool own_file_;
  const OpenFile& source_;
};

}  // namespace isonorm_cli
