// What the readers of .npy and .safetensors have in common: where bytes come from, what a file says that it holds, and how
// a file that lies is refused. Nothing here trusts a number of a file before it was compared with the size of the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace isonorm_cli {

// Why a file is refused.
enum class Defect {
  kTruncated,     // the file ends before what its header promises
  kMagic,         // neither of the two formats
  kVersion,       // a version of the format that does not exist
  kHeaderLength,  // the header is longer than the file, or than any sane header
  kHeader,        // the header is not what the format prescribes
  kUtf8,          // the header is not UTF-8
  kDuplicate,     // a key stands twice
  kType,          // an element type that the format does not have, or that isonorm does not know
  kEndian,        // big-endian data
  kFortran,       // column-major data
  kShape,         // a size that is negative, or too many dimensions
  kOverflow,      // the number of elements or bytes does not fit in int64
  kSize,          // shape times type is not the number of bytes given
  kOffsets,       // data out of the file, overlapping, or with holes
  kRead           // the system could not read the file
};

class FormatError : public std::runtime_error {
 public:
  FormatError(Defect defect, const std::string& message) : std::runtime_error(message), defect_(defect) {}
  Defect defect() const { return defect_; }

 private:
  Defect defect_;
};

// Bytes at offsets: a file, or memory in the tests and fuzzers.
class Source {
 public:
  virtual ~Source() = default;
  virtual std::int64_t size() const = 0;
  // Fills all of `out` or throws FormatError.
  virtual void Read(std::int64_t offset, std::span<std::byte> out) const = 0;
};

class MemorySource : public Source {
 public:
  explicit MemorySource(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(bytes_.size()); }
  void Read(std::int64_t offset, std::span<std::byte> out) const override;

 private:
  std::span<const std::byte> bytes_;
};

enum class FileKind { kNpy, kSafetensors };

// kOther: integers and the like, which isonorm copies and does not normalise.
enum class ElementType { kF32, kBf16, kF16, kF64, kOther };

struct TensorInfo {
  std::string name;  // "" in a .npy file
  ElementType type = ElementType::kOther;
  std::string type_name;  // as the file spells it
  std::vector<std::int64_t> shape;
  std::int64_t offset = 0;  // from the start of the file
  std::int64_t bytes = 0;
};

struct TensorFile {
  FileKind kind = FileKind::kNpy;
  std::vector<TensorInfo> tensors;              // in the order of their data
  std::map<std::string, std::string> metadata;  // __metadata__ of .safetensors
  std::vector<std::uint32_t> by_name;           // the order of their names, which differ

  const TensorInfo* Find(std::string_view name) const;  // null: there is none
};

// Reads the header, whichever of the two formats it is. Throws FormatError.
TensorFile ReadHeader(const Source& source);

// Bytes of a tensor of `bits` per element; throws FormatError where they do not fit in int64.
std::int64_t CheckedBytes(std::string_view tensor, const std::vector<std::int64_t>& shape, int bits);

// A name from a file as it may be printed: control characters escaped as in JSON, cut after 100 bytes.
std::string Printable(std::string_view text);

inline constexpr std::size_t kMaxDimensions = 64;  // NumPy's own limit

}  // namespace isonorm_cli
