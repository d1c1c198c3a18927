#include "apply/tensors.h"

#include <fmt/format.h>

#include "verbs.h"

namespace isonorm_cli {
namespace {

struct StoredType {
  isonorm::dtype type;
  ElementType element;
  const char* name;
};

constexpr StoredType kTypes[] = {
    {isonorm::dtype::f32, ElementType::kF32, "F32"},        {isonorm::dtype::bf16, ElementType::kBf16, "BF16"},
    {isonorm::dtype::f16, ElementType::kF16, "F16"},        {isonorm::dtype::f64, ElementType::kF64, "F64"},
    {isonorm::dtype::i8, ElementType::kOther, "I8"},        {isonorm::dtype::e4m3, ElementType::kOther, "F8_E4M3"},
    {isonorm::dtype::e5m2, ElementType::kOther, "F8_E5M2"}, {isonorm::dtype::e8m0, ElementType::kOther, "F8_E8M0"}};

std::string Stem(const std::string& path) {
  const std::size_t start = path.rfind('/') + 1;  // npos + 1 is 0
  const std::string name = path.substr(start);
  return name.substr(0, name.rfind('.'));
}

const OpenFile& Open(Companion::Files& files, const std::string& path) {
  files.push_back(std::make_unique<const OpenFile>(path));
  return *files.back();
}

}  // namespace

OpenFile::OpenFile(const std::string& path) : file(path), header(LoadHeader(file)) {
  if (header.kind == FileKind::kNpy) header.tensors[0].name = Stem(path);
}

isonorm::dtype Stored::type() const {
  for (const StoredType& t : kTypes) {
    if (t.element == info->type && t.element != ElementType::kOther) return t.type;
  }
  throw Failure(kLibrary, fmt::format("{} is no floating-point tensor", Printable(info->name)));
}

void Stored::Read(std::int64_t offset, std::span<std::byte> out) const {
  try {
    file->Read(info->offset + offset, out);
  } catch (const FormatError& e) {
    throw Failure(kBadInput, fmt::format("{}: {}", file->path(), e.what()));
  }
}

void SetType(TensorInfo& info, isonorm::dtype type) {
  for (const StoredType& t : kTypes) {
    if (t.type != type) continue;
    info.type = t.element;
    info.type_name = t.name;
  }
}

std::string WhyNot(const TensorInfo& t) {
  if (t.type == ElementType::kOther) return fmt::format("is of type {}", t.type_name);
  if (t.shape.empty()) return "is a single number of shape [] and no vector";
  if (t.shape.back() == 0) return fmt::format("has the shape [{}] and so vectors of no values", fmt::join(t.shape, ", "));
  return "";
}

void FirstFew::Add(const TensorInfo& t, const std::string& what) {
  if (++count_ > kNamed) return;
  text_ += fmt::format("{}{} {}", text_.empty() ? "" : ", ", Printable(t.name), what);
}

std::string FirstFew::text() const { return count_ > kNamed ? fmt::format("{}, and {} more", text_, count_ - kNamed) : text_; }

std::string Expand(const std::string& pattern, const std::string& name) {
  const std::size_t dot = name.rfind('.');
  const std::string prefix = dot == std::string::npos ? "" : name.substr(0, dot);
  std::string result;
  for (std::size_t i = 0; i < pattern.size();) {
    if (pattern[i] != '{') {
      result += pattern[i++];
    } else if (pattern.compare(i, 6, "{name}") == 0) {
      result += name;
      i += 6;
    } else if (pattern.compare(i, 8, "{prefix}") == 0) {
      result += prefix;
      i += 8;
    } else {
      throw Failure(kUsage, fmt::format("the pattern '{}' holds a brace; only {{name}} and {{prefix}} are replaced", pattern));
    }
  }
  return result;
}

Companion::Companion(const char* option, const char* noun, const std::string& pattern, const std::string& path,
                     const OpenFile& input, Files& files)
    : option_(option),
      noun_(noun),
      pattern_(pattern),
      own_file_(!path.empty()),
      source_(own_file_ ? Open(files, path) : input) {
  const std::size_t count = source_.header.tensors.size();
  if (own_file_ && pattern.empty() && count != 1) {
    throw Failure(kBadInput, fmt::format("{}: holds {} tensors; --{} says which one to use", path, count, option));
  }
}

Stored Companion::Find(const std::string& name) const {
  if (!own_file_ && pattern_.empty()) return {};
  const std::string wanted = pattern_.empty() ? source_.header.tensors[0].name : Expand(pattern_, name);
  const TensorInfo* const found = source_.header.Find(wanted);
  if (found == nullptr) {
    throw Failure(kBadInput, fmt::format("{}: holds no tensor {}, which --{} asks for as the {} of {}", source_.file.path(),
                                         Printable(wanted), option_, noun_, Printable(name)));
  }
  const TensorInfo& info = *found;
  if (info.type == ElementType::kOther) {
    throw Failure(kBadInput, fmt::format("{}: {} is of type {}; a {} is one of F32, BF16, F16, F64", source_.file.path(),
                                         Printable(info.name), info.type_name, noun_));
  }
  return {&source_.file, &info};
}

}  // namespace isonorm_cli
