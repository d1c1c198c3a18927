#include "golden/buffer.h"

#include <algorithm>

namespace isonorm_cli {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kMargin = 64;  // bytes of pattern before and behind
constexpr uint8_t kPattern = 0xA5;

}  // namespace

Buffer::Buffer(const std::vector<int64_t>& shape, Type type, int offset, int64_t padding)
    : rows_(1), cols_(shape.back()), stride_(cols_ + (shape.size() > 1 ? padding : 0)), size_(SizeOf(type)), start_(0) {
  const size_t ndim = shape.size();
  for (size_t i = 0; i + 1 < ndim; ++i) rows_ *= shape[i];
  const size_t elements = static_cast<size_t>(rows_ * stride_ + offset);
  memory_.assign(kMargin + kAlignment + elements * size_ + kMargin, kPattern);
  const auto address = reinterpret_cast<uintptr_t>(memory_.data()) + kMargin;
  start_ = kMargin + (kAlignment - address % kAlignment) % kAlignment + static_cast<size_t>(offset) * size_;
  std::copy(shape.begin(), shape.end(), whole_.shape.begin());
  whole_.strides[ndim - 1] = 1;
  int64_t step = stride_;
  for (size_t i = ndim - 1; i-- > 0; step *= shape[i]) whole_.strides[i] = step;
  whole_.tensor = {memory_.data() + start_,
                   {ISONORM_DEVICE_CPU, 0},
                   static_cast<int32_t>(ndim),
                   DtypeOf(type),
                   whole_.shape.data(),
                   whole_.strides.data(),
                   0};
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

void Buffer::Copy(int64_t skipped, View* view) const {
  view->tensor = whole_.tensor;
  view->shape = whole_.shape;
  view->strides = whole_.strides;
  view->tensor.shape = view->shape.data();
  view->tensor.strides = view->strides.data();
  view->tensor.byte_offset = static_cast<uint64_t>(skipped) * size_;
}

void Buffer::Columns(int64_t first, int64_t count, View* view) const {
  Copy(first, view);
  view->shape[static_cast<size_t>(view->tensor.ndim - 1)] = count;
}

void Buffer::Rows(int64_t first, int64_t count, View* view) const {
  Copy(first * stride_, view);
  view->shape[0] = count;
}

void Buffer::At(int64_t index, View* view) const {
  Copy(index * whole_.strides[0], view);
  --view->tensor.ndim;
  std::copy(whole_.shape.begin() + 1, whole_.shape.end(), view->shape.begin());
  std::copy(whole_.strides.begin() + 1, whole_.strides.end(), view->strides.begin());
}

}  // namespace isonorm_cli
