#include "formats/safetensors.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <limits>
#include <numeric>
#include <string_view>
#include <utility>

#include "formats/foreign.h"

namespace isonorm_cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMaxHeader = 100'000'000;  // what the format allows

struct TypeName {
  std::string_view name;
  int bits;
  ElementType type;
};

constexpr TypeName kTypes[] = {
    {"F32", 32, ElementType::kF32},          {"BF16", 16, ElementType::kBf16},    {"F16", 16, ElementType::kF16},
    {"F64", 64, ElementType::kF64},          {"BOOL", 8, ElementType::kOther},    {"U8", 8, ElementType::kOther},
    {"I8", 8, ElementType::kOther},          {"U16", 16, ElementType::kOther},    {"I16", 16, ElementType::kOther},
    {"U32", 32, ElementType::kOther},        {"I32", 32, ElementType::kOther},    {"U64", 64, ElementType::kOther},
    {"I64", 64, ElementType::kOther},        {"C64", 64, ElementType::kOther},    {"F8_E5M2", 8, ElementType::kOther},
    {"F8_E4M3", 8, ElementType::kOther},     {"F8_E8M0", 8, ElementType::kOther}, {"F8_E5M2FNUZ", 8, ElementType::kOther},
    {"F8_E4M3FNUZ", 8, ElementType::kOther}, {"F4", 4, ElementType::kOther},      {"F6_E2M3", 6, ElementType::kOther},
    {"F6_E3M2", 6, ElementType::kOther}};

[[noreturn]] void Refuse(Defect defect, const std::string& message) { throw FormatError(defect, message); }

[[noreturn]] void Twice(std::string_view name) {
  Refuse(Defect::kDuplicate, fmt::format("the .safetensors header holds the key \"{}\" twice", Printable(name)));
}

// The header's text, piece by piece: it may have 100 MB. Wide enough an iterator for the JSON parser, which reads it once.
class HeaderText {
 public:
  HeaderText(const Source& source, std::int64_t bytes) : source_(source), bytes_(bytes) {}

  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = const char*;
    using reference = const char&;
    Iterator(HeaderText* text, std::int64_t at) : text_(text), at_(at) {}
    reference operator*() const { return text_->At(at_); }
    Iterator& operator++() {
      ++at_;
      return *this;
    }
    bool operator==(const Iterator& other) const { return at_ == other.at_; }

   private:
    HeaderText* text_;
    std::int64_t at_;
  };
  Iterator begin() { return {this, 0}; }
  Iterator end() { return {this, bytes_}; }

 private:
  static constexpr std::int64_t kPiece = 1 << 16;

  const char& At(std::int64_t at) {
    if (at >= first_ + std::ssize(piece_)) Load(at);
    return piece_[static_cast<std::size_t>(at - first_)];
  }

  void Load(std::int64_t at) {
    first_ = at;
    piece_.resize(static_cast<std::size_t>(std::min(kPiece, bytes_ - at)));
    source_.Read(8 + at, std::as_writable_bytes(std::span(piece_)));
    // The parser takes a NUL for the end of the text, and would leave the rest unread.
    const std::size_t nul = piece_.find('\0');
    if (nul != std::string::npos) {
      Refuse(Defect::kHeader,
             fmt::format("the .safetensors header is not JSON at byte {}", at + static_cast<std::int64_t>(nul) + 1));
    }
  }

  const Source& source_;
  std::int64_t bytes_, first_ = 0;
  std::string piece_;
};

// Reads the header as a stream of events, and so without a tree in memory, without recursion, and seeing every key: a tree
// would silently keep one of two equal keys.
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderReader(TensorFile& file) : file_(file) {}

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) return Enter(Place::kTop);
    if (place_ == Place::kTop && key_ == "__metadata__") return Enter(Place::kMetadata);
    if (place_ != Place::kTop) Unexpected();
    tensor_ = {};
    tensor_.name = key_;
    seen_type_ = seen_shape_ = seen_offsets_ = false;
    offsets_.clear();
    return Enter(Place::kTensor);
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      FinishTensor();
      place_ = Place::kTop;
    } else {
      place_ = place_ == Place::kMetadata ? Place::kTop : Place::kEnd;
    }
    return true;
  }

  bool key(std::string& name) override {
    if (place_ == Place::kTop) {
      if (name == "__metadata__" && std::exchange(seen_metadata_, true)) Twice(name);
    } else if (place_ == Place::kMetadata) {
      if (file_.metadata.contains(name)) Twice(name);
    } else if (place_ == Place::kTensor) {
      bool* const seen = name == "dtype"          ? &seen_type_
                         : name == "shape"        ? &seen_shape_
                         : name == "data_offsets" ? &seen_offsets_
                                                  : nullptr;
      if (seen == nullptr) {
        Refuse(Defect::kHeader, fmt::format("{} has the unknown property {}", Name(), Printable(name)));
      }
      if (std::exchange(*seen, true)) Twice(name);
    }
    key_ = name;
    return true;
  }

  bool string(std::string& value) override {
    if (place_ == Place::kMetadata) {
      file_.metadata[key_] = value;
    } else if (place_ == Place::kTensor && key_ == "dtype") {
      tensor_.type_name = value;
    } else {
      Unexpected();
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor || key_ == "dtype") Unexpected();
    return Enter(key_ == "shape" ? Place::kShape : Place::kOffsets);
  }

  bool end_array() override { return Enter(Place::kTensor); }

  bool number_unsigned(std::uint64_t value) override {
    std::vector<std::int64_t>* const list = place_ == Place::kShape     ? &tensor_.shape
                                            : place_ == Place::kOffsets ? &offsets_
                                                                        : nullptr;
    if (list == nullptr) Unexpected();
    if (list->size() == kMaxDimensions) {
      Refuse(Defect::kShape, fmt::format("{} has more than {} dimensions", Name(), kMaxDimensions));
    }
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) TooLarge();
    list->push_back(static_cast<std::int64_t>(value));
    return true;
  }

  bool number_integer(std::int64_t value) override {  // negative: the others arrive as unsigned
    if (place_ != Place::kShape && place_ != Place::kOffsets) Unexpected();
    Refuse(place_ == Place::kShape ? Defect::kShape : Defect::kOffsets,
           fmt::format("{} has the size or offset {}", Name(), value));
  }

  bool number_float(double, const std::string& text) override {  // also an integer beyond 64 bits
    if (place_ != Place::kShape && place_ != Place::kOffsets) Unexpected();
    if (text.find_first_not_of("0123456789") == std::string::npos) TooLarge();
    Unexpected();
  }

  bool null() override { Unexpected(); }
  bool boolean(bool) override { Unexpected(); }
  bool binary(binary_t&) override { Unexpected(); }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    const bool utf8 = std::string_view(e.what()).find("UTF-8") != std::string_view::npos;
    Refuse(utf8 ? Defect::kUtf8 : Defect::kHeader,
           fmt::format("the .safetensors header is not {} at byte {}", utf8 ? "UTF-8" : "JSON", position));
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kShape, kOffsets, kEnd };

  bool Enter(Place place) {
    place_ = place;
    return true;
  }

  std::string Name() const { return Printable(tensor_.name); }

  [[noreturn]] void Unexpected() const {
    Refuse(Defect::kHeader,
           fmt::format("the .safetensors header holds a value of the wrong kind near \"{}\"", Printable(key_)));
  }
  [[noreturn]] void TooLarge() const {
    Refuse(Defect::kOverflow, fmt::format("a size or offset of {} does not fit in 64 bits", Name()));
  }

  void FinishTensor() {
    if (!seen_type_ || !seen_shape_ || !seen_offsets_) {
      Refuse(Defect::kHeader, fmt::format("{} lacks one of dtype, shape and data_offsets", Name()));
    }
    const auto* const type =
        std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeName& t) { return t.name == tensor_.type_name; });
    if (type == std::end(kTypes)) {
      Refuse(Defect::kType, fmt::format("{} has the unknown dtype {}", Name(), Printable(tensor_.type_name)));
    }
    tensor_.type = type->type;
    if (offsets_.size() != 2 || offsets_[0] > offsets_[1]) {
      Refuse(Defect::kOffsets, fmt::format("data_offsets of {} is not a begin and an end", Name()));
    }
    tensor_.bytes = CheckedBytes(tensor_.name, tensor_.shape, type->bits);
    if (tensor_.bytes != offsets_[1] - offsets_[0]) {
      Refuse(Defect::kSize,
             fmt::format("{} needs {} bytes and its data_offsets give {}", Name(), tensor_.bytes, offsets_[1] - offsets_[0]));
    }
    tensor_.offset = offsets_[0];
    file_.tensors.push_back(std::move(tensor_));
  }

  TensorFile& file_;
  Place place_ = Place::kStart;
  std::string key_;
  TensorInfo tensor_;
  std::vector<std::int64_t> offsets_;
  bool seen_metadata_ = false, seen_type_ = false, seen_shape_ = false, seen_offsets_ = false;
};

[[noreturn]] void RefuseForeign(const Source& source, Defect defect, const std::string& otherwise) {
  const std::string seems = WhatItSeems(source);
  Refuse(defect, fmt::format("neither a .npy file nor a .safetensors file: {}", seems.empty() ? otherwise : "it " + seems));
}

// By place and by name; two of one name are refused.
void Sort(TensorFile& file) {
  std::vector<TensorInfo>& tensors = file.tensors;
  const auto before = [](const TensorInfo& a, const TensorInfo& b) {
    return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
  };
  // Mostly they are in order already, and a sort of very many needs memory.
  if (!std::is_sorted(tensors.begin(), tensors.end(), before)) std::stable_sort(tensors.begin(), tensors.end(), before);
  file.by_name.resize(tensors.size());
  std::iota(file.by_name.begin(), file.by_name.end(), 0u);
  const auto name = [&](std::uint32_t i) -> std::string_view { return tensors[i].name; };
  std::sort(file.by_name.begin(), file.by_name.end(), [&](auto a, auto b) { return name(a) < name(b); });
  const auto twice =
      std::adjacent_find(file.by_name.begin(), file.by_name.end(), [&](auto a, auto b) { return name(a) == name(b); });
  if (twice != file.by_name.end()) Twice(name(*twice));
}

// Offsets count from the end of the header; the tensors must fill [0, size) one after the other.
void CheckLayout(const std::vector<TensorInfo>& tensors, std::int64_t size) {
  std::int64_t end = 0;
  for (const TensorInfo& t : tensors) {
    if (t.bytes > size || t.offset > size - t.bytes) {
      Refuse(Defect::kOffsets, fmt::format("{} ends at byte {} of the data and the file has {}", Printable(t.name),
                                           static_cast<std::uint64_t>(t.offset) + static_cast<std::uint64_t>(t.bytes), size));
    }
    if (t.offset != end) {
      Refuse(Defect::kOffsets, fmt::format("{} starts at byte {} of the data and {} before it end{} at {}", Printable(t.name),
                                           t.offset, end == 0 ? "nothing" : "the tensors", end == 0 ? "s" : "", end));
    }
    end = t.offset + t.bytes;
  }
  if (end != size) {
    Refuse(Defect::kOffsets, fmt::format("the tensors end at byte {} of the data and the file has {}", end, size));
  }
}

std::string Quoted(const std::string& text) {
  try {
    return Json(text).dump();
  } catch (const Json::type_error&) {
    Refuse(Defect::kUtf8, fmt::format("the name {} is not UTF-8, which a .safetensors file needs", Printable(text)));
  }
}

}  // namespace

TensorFile ReadSafetensors(const Source& source) {
  std::array<std::byte, 8> word{};
  if (source.size() < std::ssize(word)) {
    RefuseForeign(source, Defect::kMagic, fmt::format("it has {} bytes", source.size()));
  }
  source.Read(0, word);
  std::uint64_t length = 0;
  for (std::size_t i = word.size(); i-- > 0;) length = length * 256 + std::to_integer<std::uint64_t>(word[i]);
  if (length > static_cast<std::uint64_t>(source.size() - 8)) {
    RefuseForeign(source, Defect::kHeaderLength, fmt::format("a header of {} bytes does not fit in {}", length, source.size()));
  }
  std::array<std::byte, 1> first{};
  if (length > 0) source.Read(8, first);
  if (first[0] != std::byte{'{'}) RefuseForeign(source, Defect::kMagic, "the header is no JSON object");
  if (length > static_cast<std::uint64_t>(kMaxHeader)) {
    Refuse(Defect::kHeaderLength,
           fmt::format("the .safetensors header has {} bytes; the format allows {}", length, kMaxHeader));
  }
  HeaderText text(source, static_cast<std::int64_t>(length));
  TensorFile file;
  file.kind = FileKind::kSafetensors;
  HeaderReader reader(file);
  Json::sax_parse(text.begin(), text.end(), &reader);
  Sort(file);
  CheckLayout(file.tensors, source.size() - 8 - static_cast<std::int64_t>(length));
  for (TensorInfo& t : file.tensors) t.offset += 8 + static_cast<std::int64_t>(length);
  return file;
}

std::string SafetensorsHeader(std::vector<TensorInfo>& tensors, const std::map<std::string, std::string>& metadata) {
  // Piece by piece: a JSON object in memory would need more of it, and search all keys for each new one.
  std::string text(8, '\0');  // the place of the length
  const auto out = std::back_inserter(text);
  text += '{';
  const char* separator = "\"__metadata__\":{";
  for (const auto& [key, value] : metadata) {
    fmt::format_to(out, "{}{}:{}", separator, Quoted(key), Quoted(value));
    separator = ",";
  }
  if (!metadata.empty()) text += "},";
  std::vector<std::uint8_t> bits;
  bits.reserve(tensors.size());
  for (TensorInfo& t : tensors) {
    if (t.name == "__metadata__") Refuse(Defect::kHeader, "a tensor cannot be called __metadata__ in a .safetensors file");
    const auto* const type = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeName& known) {
      return t.type == ElementType::kOther ? known.name == t.type_name : known.type == t.type;
    });
    if (type == std::end(kTypes)) Refuse(Defect::kType, fmt::format("the format has no type {}", Printable(t.type_name)));
    t.type_name = type->name;
    bits.push_back(static_cast<std::uint8_t>(type->bits));
  }
  // The widest types first, as the format's own library writes them: then every value is aligned to its size.
  std::int64_t offset = 0;
  for (const int width : {64, 32, 16, 8, 6, 4}) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (bits[i] != width) continue;
      TensorInfo& t = tensors[i];
      fmt::format_to(out, "{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}},", Quoted(t.name), t.type_name,
                     fmt::join(t.shape, ","), offset, offset + t.bytes);
      t.offset = offset;
      offset += t.bytes;
    }
  }
  if (text.back() == ',') text.pop_back();
  text += '}';
  text.append((8 - text.size() % 8) % 8, ' ');  // the data starts aligned to its largest type
  const std::size_t length = text.size() - 8;
  if (length > static_cast<std::size_t>(kMaxHeader)) {
    Refuse(Defect::kHeaderLength, fmt::format("the header would have {} bytes; the format allows {}", length, kMaxHeader));
  }
  for (std::size_t i = 0; i < 8; ++i) text[i] = static_cast<char>(length >> (8 * i) & 0xff);
  for (TensorInfo& t : tensors) t.offset += static_cast<std::int64_t>(text.size());
  return text;
}

}  // namespace isonorm_cli
