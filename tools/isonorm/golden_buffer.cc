#include "golden_buffer.h"

#include <algorithm>

namespace isonorm_cli {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kMargin = 64;  // bytes of pattern before and behind
constexpr uint8_t kPattern = 0xA5;

}  // namespace

Buffer::Buffer(int ndim, int64_t rows, int64_t cols, Type type, int offset, int64_t padding)
    : rows_(rows), cols_(cols), stride_(cols + padding), size_(SizeOf(type)), start_(0) {
  const size_t elements = static_cast<size_t>(rows_ * stride_ + offset);
  memory_.assign(kMargin + kAlignment + elements * size_ + kMargin, kPattern);
  const auto address = reinterpret_cast<uintptr_t>(memory_.data()) + kMargin;
  start_ = kMargin + (kAlignment - address % kAlignment) % kAlignment + static_cast<size_t>(offset) * size_;
  shape_ = ndim == 1 ? std::array<int64_t, 2>{cols, 1} : std::array<int64_t, 2>{rows, cols};
  strides_ = ndim == 1 ? std::array<int64_t, 2>{1, 1} : std::array<int64_t, 2>{stride_, 1};
  tensor_ =
      isonorm_tensor{memory_.data() + start_, {ISONORM_DEVICE_CPU, 0}, ndim, DtypeOf(type), shape_.data(), strides_.data(), 0};
}

void Buffer::Fill(const std::vector<uint8_t>& bytes) {
  for (int64_t row = 0; row < rows_; ++row) {
    const auto from = bytes.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(row) * RowBytes());
    std::copy_n(from, RowBytes(), memory_.begin() + static_cast<std::ptrdiff_t>(RowStart(row)));
  }
}

std::vector<uint8_t> Buffer::Compact() const {
  std::vector<uint8_t> bytes;
  bytes.reserve(static_cast<size_t>(rows_) * RowBytes());
  for (int64_t row = 0; row < rows_; ++row) {
    const uint8_t* from = memory_.data() + RowStart(row);
    bytes.insert(bytes.end(), from, from + RowBytes());
  }
  return bytes;
}

Digest Buffer::DigestOf() const {
  Fnv fnv;
  for (int64_t row = 0; row < rows_; ++row) fnv.Add(memory_.data() + RowStart(row), RowBytes());
  return fnv.Digest();
}

bool Buffer::SurroundingsIntact() const {
  const auto intact = [this](size_t begin, size_t end) {
    return std::all_of(memory_.begin() + static_cast<std::ptrdiff_t>(begin), memory_.begin() + static_cast<std::ptrdiff_t>(end),
                       [](uint8_t byte) { return byte == kPattern; });
  };
  size_t end = 0;  // of the row before
  for (int64_t row = 0; row < rows_; ++row) {
    if (!intact(end, RowStart(row))) return false;
    end = RowStart(row) + RowBytes();
  }
  return intact(end, memory_.size());
}

}  // namespace isonorm_cli
