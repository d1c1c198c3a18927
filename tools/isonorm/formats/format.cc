#include "formats/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "formats/npy.h"
#include "formats/safetensors.h"

namespace isonorm_cli {

// Both formats hold little-endian values, and the readers here use them as they lie.
static_assert(std::endian::native == std::endian::little, "the command line supports little-endian machines only");

void MemorySource::Read(std::int64_t offset, std::span<std::byte> out) const {
  if (offset < 0 || offset > size() || static_cast<std::int64_t>(out.size()) > size() - offset) {
    throw FormatError(Defect::kTruncated, "the file ends too early");
  }
  if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
}

const TensorInfo* TensorFile::Find(std::string_view name) const {
  const auto less = [&](std::uint32_t i, std::string_view text) { return tensors[i].name < text; };
  const auto found = std::lower_bound(by_name.begin(), by_name.end(), name, less);
  return found != by_name.end() && tensors[*found].name == name ? &tensors[*found] : nullptr;
}

TensorFile ReadHeader(const Source& source) {
  // A .safetensors file has no magic number: eight bytes of length, then a JSON object.
  return IsNpy(source) ? ReadNpy(source) : ReadSafetensors(source);
}

std::int64_t CheckedBytes(std::string_view tensor, const std::vector<std::int64_t>& shape, int bits) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  std::int64_t product = bits;
  bool empty = false;
  for (const std::int64_t n : shape) {
    if (n == 0) {
      empty = true;  // go on: the other sizes must be sane all the same
    } else if (product > kMax / n) {
      throw FormatError(Defect::kOverflow,
                        fmt::format("the size of {} does not fit in 64 bits: [{}]", Printable(tensor), fmt::join(shape, ", ")));
    } else {
      product *= n;
    }
  }
  if (product % 8 != 0) {
    throw FormatError(Defect::kSize, fmt::format("{} does not fill a whole number of bytes", Printable(tensor)));
  }
  return empty ? 0 : product / 8;
}

std::string Printable(std::string_view text) {
  std::string result;
  for (const char c : text.substr(0, 100)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      result += fmt::format("\\u{:04x}", byte);
    } else {
      result += c;
    }
  }
  // The cut may have fallen into a character: drop its beginning.
  if (text.size() > 100) {
    while (!result.empty() && (static_cast<unsigned char>(result.back()) & 0xc0) == 0x80) result.pop_back();
    if (!result.empty() && static_cast<unsigned char>(result.back()) >= 0xc0) result.pop_back();
    result += "...";
  }
  return result.empty() ? "the tensor" : result;
}

}  // namespace isonorm_cli
