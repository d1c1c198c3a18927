#include "formats/npy.h"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

namespace isonorm_cli {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::int64_t kMaxHeader = 1 << 20;  // a header of one array takes some hundred bytes

[[noreturn]] void Refuse(Defect defect, const std::string& message) { throw FormatError(defect, message); }

// The few forms of a Python literal that a header may hold.
class Literal {
 public:
  explicit Literal(std::string_view text) : rest_(text) {}

  bool Take(char c) {
    SkipSpace();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }

  void Expect(char c) {
    if (!Take(c)) Refuse(Defect::kHeader, fmt::format("the .npy header lacks a '{}' where one is needed", c));
  }

  bool AtEnd() {
    SkipSpace();
    return rest_.empty();
  }

  std::string_view String() {
    SkipSpace();
    if (rest_.empty() || (rest_.front() != '\'' && rest_.front() != '"')) {
      Refuse(Defect::kHeader, "the .npy header lacks a quoted word where one is needed; structured arrays are not supported");
    }
    const std::size_t end = rest_.find(rest_.front(), 1);
    if (end == std::string_view::npos) Refuse(Defect::kHeader, "a quoted word of the .npy header does not end");
    const std::string_view word = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    return word;
  }

  bool Bool() {
    SkipSpace();
    for (const auto& [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}}) {
      if (rest_.starts_with(word)) {
        rest_.remove_prefix(word.size());
        return value;
      }
    }
    Refuse(Defect::kHeader, "fortran_order in the .npy header is neither True nor False");
  }

  std::vector<std::int64_t> Tuple() {
    std::vector<std::int64_t> values;
    Expect('(');
    while (!Take(')')) {
      if (values.size() == kMaxDimensions) {
        Refuse(Defect::kShape, fmt::format("the array has more than {} dimensions", kMaxDimensions));
      }
      values.push_back(Integer());
      if (!Take(',')) {
        Expect(')');
        if (values.size() == 1) Refuse(Defect::kHeader, "shape in the .npy header is not a tuple");
        break;
      }
    }
    return values;
  }

 private:
  void SkipSpace() {
    while (!rest_.empty() && std::isspace(static_cast<unsigned char>(rest_.front())) != 0) rest_.remove_prefix(1);
  }

  std::int64_t Integer() {
    SkipSpace();
    std::int64_t value = 0;
    const auto [end, code] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (code == std::errc::result_out_of_range) Refuse(Defect::kOverflow, "a size in the .npy header does not fit in 64 bits");
    if (code != std::errc()) Refuse(Defect::kHeader, "a size in the .npy header is not a number");
    if (value < 0) Refuse(Defect::kShape, fmt::format("the array has a dimension of size {}", value));
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    if (!rest_.empty() && rest_.front() == 'L') rest_.remove_prefix(1);  // Python 2 wrote long integers so
    return value;
  }

  std::string_view rest_;
};

struct Descr {
  ElementType type;
  int bits;
};

// '<f4': byte order, kind, bytes per element.
Descr ParseDescr(std::string_view descr) {
  if (descr.size() >= 2 && descr.size() <= 4 && std::string_view("<>|=").find(descr[0]) != std::string_view::npos) {
    int bytes = 0;
    const char* const last = descr.data() + descr.size();
    const auto [end, code] = std::from_chars(descr.data() + 2, last, bytes);
    const bool known = code == std::errc() && end == last &&
                       std::string_view("fiubc").find(descr[1]) != std::string_view::npos &&
                       (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8 || bytes == 16);
    if (known && descr[0] == '>' && bytes > 1) {
      Refuse(Defect::kEndian, fmt::format("the array is big-endian ('{}'); isonorm reads little-endian files", descr));
    }
    if (known && descr[1] != 'f') return {ElementType::kOther, bytes * 8};
    if (known && bytes == 2) return {ElementType::kF16, 16};
    if (known && bytes == 4) return {ElementType::kF32, 32};
    if (known && bytes == 8) return {ElementType::kF64, 64};
    if (known && bytes == 16) return {ElementType::kOther, 128};
  }
  Refuse(Defect::kType, fmt::format("the element type '{}' of the array is not supported; isonorm reads <f2, <f4 and <f8 "
                                    "(NumPy has no bf16: use .safetensors)",
                                    Printable(descr)));
}

struct Header {
  std::string_view descr;
  std::vector<std::int64_t> shape;
};

Header ParseHeader(std::string_view text) {
  std::optional<std::string_view> descr;
  std::optional<bool> fortran;
  std::optional<std::vector<std::int64_t>> shape;
  Literal literal(text);
  literal.Expect('{');
  while (!literal.Take('}')) {
    const std::string_view key = literal.String();
    const bool twice = (key == "descr" && descr) || (key == "fortran_order" && fortran) || (key == "shape" && shape);
    if (twice) Refuse(Defect::kDuplicate, fmt::format("the .npy header holds the key '{}' twice", key));
    literal.Expect(':');
    if (key == "descr") {
      descr = literal.String();
    } else if (key == "fortran_order") {
      fortran = literal.Bool();
    } else if (key == "shape") {
      shape = literal.Tuple();
    } else {
      Refuse(Defect::kHeader, fmt::format("the .npy header holds the unknown key '{}'", Printable(key)));
    }
    if (!literal.Take(',')) {
      literal.Expect('}');
      break;
    }
  }
  if (!literal.AtEnd()) Refuse(Defect::kHeader, "the .npy header goes on after its dictionary");
  if (!descr || !fortran || !shape) Refuse(Defect::kHeader, "the .npy header lacks one of descr, fortran_order and shape");
  if (*fortran) Refuse(Defect::kFortran, "the array is in Fortran order; isonorm reads C order (numpy.ascontiguousarray)");
  return {*descr, std::move(*shape)};
}

}  // namespace

bool IsNpy(const Source& source) {
  std::array<std::byte, kMagic.size()> magic{};
  if (source.size() < static_cast<std::int64_t>(magic.size())) return false;
  source.Read(0, magic);
  return std::string_view(reinterpret_cast<const char*>(magic.data()), magic.size()) == kMagic;
}

TensorFile ReadNpy(const Source& source) {
  if (source.size() < 10) Refuse(Defect::kTruncated, "the .npy file ends inside its header");
  std::array<std::byte, 4> word{};
  source.Read(6, word);
  const int major = std::to_integer<int>(word[0]), minor = std::to_integer<int>(word[1]);
  if (major < 1 || major > 3 || minor != 0) {
    Refuse(Defect::kVersion, fmt::format("version {}.{} of the .npy format is not known; 1.0 to 3.0 are", major, minor));
  }
  // Version 1 has a length of two bytes, the others of four.
  const int length_bytes = major == 1 ? 2 : 4;
  const std::int64_t start = 8 + length_bytes;
  if (source.size() < start) Refuse(Defect::kTruncated, "the .npy file ends inside its header");
  std::array<std::byte, 4> bytes{};
  source.Read(8, std::span(bytes).first(static_cast<std::size_t>(length_bytes)));
  std::int64_t length = 0;
  for (int i = length_bytes - 1; i >= 0; --i) length = length * 256 + std::to_integer<int>(bytes[static_cast<std::size_t>(i)]);
  if (length > kMaxHeader) {
    Refuse(Defect::kHeaderLength, fmt::format("the .npy header claims {} bytes; at most {} are read", length, kMaxHeader));
  }
  if (length > source.size() - start) {
    Refuse(Defect::kHeaderLength,
           fmt::format("the .npy header claims {} bytes and the file has {} left", length, source.size() - start));
  }
  std::string text(static_cast<std::size_t>(length), '\0');
  source.Read(start, std::as_writable_bytes(std::span(text)));

  Header header = ParseHeader(text);
  const Descr descr = ParseDescr(header.descr);
  TensorInfo tensor;
  tensor.type = descr.type;
  tensor.type_name = header.descr;
  tensor.offset = start + length;
  tensor.bytes = CheckedBytes("the array", header.shape, descr.bits);
  tensor.shape = std::move(header.shape);
  const std::int64_t rest = source.size() - tensor.offset;
  if (tensor.bytes != rest) {
    Refuse(tensor.bytes > rest ? Defect::kTruncated : Defect::kSize,
           fmt::format("the array needs {} bytes and the file has {} after its header", tensor.bytes, rest));
  }
  return {FileKind::kNpy, {std::move(tensor)}, {}, {0}};
}

std::string NpyHeader(ElementType type, const std::vector<std::int64_t>& shape) {
  const char* descr = type == ElementType::kF32   ? "<f4"
                      : type == ElementType::kF16 ? "<f2"
                      : type == ElementType::kF64 ? "<f8"
                                                  : "";
  if (*descr == '\0') Refuse(Defect::kType, "NumPy has no type for these values; write a .safetensors file instead");
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", descr, fmt::join(shape, ", "),
                                 shape.size() == 1 ? "," : "");
  // NumPy pads with spaces so that the data starts at a multiple of 64.
  text.append(63 - (10 + text.size()) % 64, ' ');
  text += '\n';
  std::string header(kMagic);
  header += {'\x01', '\x00', static_cast<char>(text.size() & 0xff), static_cast<char>(text.size() >> 8)};
  return header + text;
}

}  // namespace isonorm_cli
