#include "formats/foreign.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string_view>

namespace isonorm_cli {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kTorch =
    "load it with torch.load and save the tensors with safetensors.torch.save_file, which takes {name: tensor}";
constexpr std::string_view kUnpack = "unpack it first";

struct Kind {
  std::string_view magic;
  std::string_view words;
  std::string_view advice;
};

constexpr Kind kKinds[] = {
    {"GGUF"sv, "is a GGUF file",
     "take the .safetensors files that it was made from, or extract tensors with the Python package gguf"},
    {"\x1f\x8b"sv, "is compressed by gzip", kUnpack},
    {"\x28\xb5\x2f\xfd"sv, "is compressed by zstd", kUnpack},
    {"\xfd\x37zXZ\0"sv, "is compressed by xz", kUnpack},
    {"BZh"sv, "is compressed by bzip2", kUnpack},
    {"7z\xbc\xaf\x27\x1c"sv, "is a 7z archive", kUnpack},
    {"\x89HDF\r\n\x1a\n"sv, "is an HDF5 file", "read the arrays with h5py and save them with numpy.save"},
    {"version https://git-lfs.github.com/spec/"sv, "is a Git LFS pointer and not the file itself", "run `git lfs pull`"},
};

bool Contains(std::string_view text, std::string_view word) { return text.find(word) != std::string_view::npos; }

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

// The first name in an archive says what is in it: archive/data.pkl, or weight.npy.
std::string Zip(std::string_view start) {
  constexpr std::size_t kNameLength = 26, kName = 30;
  std::string_view name;
  if (start.size() > kName) {
    name = start.substr(
        kName, static_cast<unsigned char>(start[kNameLength]) + 256u * static_cast<unsigned char>(start[kNameLength + 1]));
  }
  if (name.ends_with(".npy")) {
    return "is a NumPy .npz archive; load it with numpy.load and save each array with numpy.save, or all with "
           "safetensors.numpy.save_file";
  }
  if (name.ends_with(".pkl") || Contains(start, "data.pkl") || name.ends_with("/version") ||
      name.ends_with(".format_version")) {
    return fmt::format("is a PyTorch checkpoint (a zip archive with a pickle); {}", kTorch);
  }
  return fmt::format("is a zip archive; {}", kUnpack);
}

std::string Text(std::string_view start) {
  std::string_view text = start;
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  const std::string lower = Lower(text.substr(0, 256));
  if (lower.starts_with("<!doctype html") || lower.starts_with("<html")) {
    return "is an HTML page, as a download gives that needs a login or another address";
  }
  if (lower.starts_with("<?xml") || lower.starts_with("<error")) {
    return "is an XML text, as a storage service answers when it refuses a download";
  }
  if (text.starts_with('{') || text.starts_with('[')) {
    if (Contains(text, "\"weight_map\"") || Contains(text, "\"total_size\"")) {
      return "is the index of a checkpoint in several files; give one of the .safetensors files that it names";
    }
    return "is JSON; the tensors are in another file";
  }
  const auto printable = [](unsigned char c) { return (c >= 0x20 && c < 0x7f) || (c >= '\t' && c <= '\r'); };
  return std::all_of(start.begin(), start.end(), printable) ? "is text" : "";
}

}  // namespace

std::string WhatItSeems(const Source& source) {
  constexpr std::int64_t kLooked = 4096;
  if (source.size() == 0) return "is empty; was it copied or downloaded to its end?";
  std::string start(static_cast<std::size_t>(std::min(kLooked, source.size())), '\0');
  source.Read(0, std::as_writable_bytes(std::span(start)));
  const std::string_view view = start;
  // A length that a header can have, and the beginning of one.
  if (view.size() > 8 && view.substr(4, 5) == "\0\0\0\0{"sv) {
    return "is a .safetensors file that ends inside its header; was it copied or downloaded to its end?";
  }
  for (const Kind& kind : kKinds) {
    if (view.starts_with(kind.magic)) return fmt::format("{}; {}", kind.words, kind.advice);
  }
  if (view.starts_with("PK\x03\x04")) return Zip(view);
  if (view.starts_with("PK\x05\x06")) return "is an empty zip archive, such as a .npz file without arrays";
  if (view.size() > 262 && view.substr(257, 5) == "ustar") return fmt::format("is a tar archive; {}", kUnpack);
  // A pickle of protocol 2 to 5; torch.save begins it with the number 0x1950a86a20f9469cfc6c.
  if (view.size() > 2 && view[0] == '\x80' && view[1] >= 2 && view[1] <= 5) {
    if (Contains(view.substr(0, 32), "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")) {
      return fmt::format("is a PyTorch checkpoint of the format before version 1.6 (a pickle); {}", kTorch);
    }
    return fmt::format("is a Python pickle; if torch.save wrote it, {}", kTorch);
  }
  if (view.size() >= 8 && view.find_first_not_of('\0') == std::string_view::npos) {
    return fmt::format("begins with {} zeros; was it copied or downloaded to its end?", view.size());
  }
  return Text(view);
}

}  // namespace isonorm_cli
