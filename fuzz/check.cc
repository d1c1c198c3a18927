#include "check.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "formats/npy.h"
#include "formats/safetensors.h"

namespace isonorm_fuzz {
namespace {

using isonorm_cli::ElementType;
using isonorm_cli::FileKind;
using isonorm_cli::TensorFile;
using isonorm_cli::TensorInfo;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "not true of an accepted file: %s\n", what);
  std::abort();
}

bool Same(const TensorInfo& a, const TensorInfo& b) {
  return a.name == b.name && a.type == b.type && a.shape == b.shape && a.bytes == b.bytes;
}

void CheckRoundTrip(const TensorFile& file) {
  std::vector<TensorInfo> tensors = file.tensors;
  std::string header;
  if (file.kind == FileKind::kSafetensors) {
    header = SafetensorsHeader(tensors, file.metadata);
  } else {
    if (tensors[0].type == ElementType::kOther) return;  // never written as .npy
    header = isonorm_cli::NpyHeader(tensors[0].type, tensors[0].shape);
  }
  std::int64_t data = 0;
  for (const TensorInfo& t : tensors) data += t.bytes;
  const TensorFile again = ReadHeader(HeaderSource(header, data));
  Require(again.kind == file.kind && again.metadata == file.metadata, "the header is written as it was read");
  Require(again.tensors.size() == file.tensors.size(), "all tensors are written");
  std::map<std::string, const TensorInfo*> by_name;  // the writer has an order of its own
  for (const TensorInfo& t : again.tensors) by_name[t.name] = &t;
  for (const TensorInfo& t : tensors) {
    const auto found = by_name.find(t.name);
    Require(found != by_name.end() && Same(*found->second, t), "a tensor is written as it was read");
    if (file.kind == FileKind::kNpy) continue;  // which has several headers and spellings of a type
    Require(found->second->offset == t.offset && found->second->type_name == t.type_name,
            "a tensor is where the writer puts it");
  }
}

}  // namespace

void HeaderSource::Read(std::int64_t offset, std::span<std::byte> out) const {
  Require(offset >= 0 && static_cast<std::int64_t>(out.size()) <= size() - offset, "the reader stays inside the file");
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t at = static_cast<std::size_t>(offset) + i;
    out[i] = at < bytes_.size() ? static_cast<std::byte>(bytes_[at]) : std::byte{0};
  }
}

void CheckHeader(const isonorm_cli::Source& source) {
  TensorFile file;
  try {
    file = ReadHeader(source);
  } catch (const isonorm_cli::FormatError&) {
    return;
  }
  std::int64_t end = 0;
  for (const TensorInfo& t : file.tensors) {
    Require(t.offset >= end && t.bytes >= 0 && t.bytes <= source.size() - t.offset,
            "each tensor has its own place in the file");
    end = t.offset + t.bytes;
    bool empty = false;
    std::int64_t count = 1;
    for (const std::int64_t n : t.shape) {
      Require(n >= 0, "no size is negative");
      empty = empty || n == 0;
    }
    for (const std::int64_t n : t.shape) count = empty ? 0 : count * n;
    if (t.type != ElementType::kOther) {
      const int width = t.type == ElementType::kF64 ? 8 : t.type == ElementType::kF32 ? 4 : 2;
      Require(t.bytes == count * width, "a tensor's bytes are those of its shape");
    }
    Require(isonorm_cli::Printable(t.name).size() <= 6 * 100 + 3, "a name that is printed is short");
    Require(file.Find(t.name) == &t, "a tensor is found by its name");
  }
  CheckRoundTrip(file);
}

}  // namespace isonorm_fuzz
