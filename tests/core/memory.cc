#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace core_test {
namespace {

constexpr uint8_t kPattern = 0xA5;
constexpr size_t kMargin = 128;

size_t RoundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

std::vector<int64_t> CompactStrides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * std::max<int64_t>(shape[i], 1);
  return strides;
}

}  // namespace

Memory::Memory(std::vector<int64_t> shape, std::vector<int64_t> strides, Type type, int offset, Guard guard, int bytes_more)
    : shape_(std::move(shape)), strides_(std::move(strides)), type_(type) {
  if (strides_.empty()) strides_ = CompactStrides(shape_);
  int64_t below = 0, above = 0;  // elements that the strides reach to either side of the first one
  for (size_t i = 0; i < shape_.size(); ++i) {
    const int64_t reach = std::max<int64_t>(shape_[i] - 1, 0) * strides_[i];
    (reach < 0 ? below : above) += reach;
  }
  const size_t element = SizeOf(type_);
  const bool empty = std::any_of(shape_.begin(), shape_.end(), [](int64_t size) { return size == 0; });
  const size_t bytes = empty ? 0 : static_cast<size_t>(above - below + 1) * element;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t lead = static_cast<size_t>(offset) * element + static_cast<size_t>(bytes_more);
  const size_t needed = guard == Guard::kPattern ? 2 * kMargin + lead + bytes : bytes;
  const size_t inside = std::max(RoundUp(needed, page), page);
  mapped_ = inside + 2 * page;
  void* mapping = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED || mprotect(static_cast<uint8_t*>(mapping) + page, inside, PROT_READ | PROT_WRITE) != 0) {
    throw std::bad_alloc();
  }
  mapping_ = static_cast<uint8_t*>(mapping);
  base_ = mapping_ + page;
  size_ = inside;
  std::memset(base_, kPattern, size_);
  uint8_t* lowest = guard == Guard::kPattern      ? base_ + kMargin + lead
                    : guard == Guard::kPageBehind ? base_ + size_ - bytes
                                                  : base_;
  first_ = lowest + static_cast<size_t>(-below) * element;
  tensor_ = {first_,
             {ISONORM_DEVICE_CPU, 0},
             static_cast<int32_t>(shape_.size()),
             isonorm_cli::DtypeOf(type_),
             shape_.data(),
             strides_.data(),
             0};
}

Memory::~Memory() { munmap(mapping_, mapped_); }

int64_t Memory::rows() const {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape_.size(); ++i) rows *= shape_[i];
  return rows;
}

uint8_t* Memory::Row(int64_t index) const {
  int64_t elements = 0;
  for (size_t i = shape_.size() - 1; i > 0; --i) {
    elements += index % shape_[i - 1] * strides_[i - 1];
    index /= shape_[i - 1];
  }
  return first_ + elements * static_cast<int64_t>(SizeOf(type_));
}

void Memory::Fill(const Bytes& compact) {
  for (int64_t row = 0; row < rows(); ++row) {
    const size_t bytes = repeats() ? std::min(RowBytes(), SizeOf(type_)) : RowBytes();
    if (bytes != 0) std::memcpy(Row(row), compact.data() + static_cast<size_t>(row) * RowBytes(), bytes);
  }
}

Bytes Memory::Compact() const {
  Bytes bytes(static_cast<size_t>(rows()) * RowBytes());
  for (int64_t row = 0; row < rows(); ++row) {
    const size_t step = repeats() ? SizeOf(type_) : RowBytes();
    for (size_t at = 0; at < RowBytes(); at += step) {
      std::memcpy(bytes.data() + static_cast<size_t>(row) * RowBytes() + at, Row(row), step);
    }
  }
  return bytes;
}

bool Memory::SurroundingsIntact() const {
  std::vector<bool> element(size_, false);
  for (int64_t row = 0; row < rows(); ++row) {
    const auto start = static_cast<std::ptrdiff_t>(Row(row) - base_);
    std::fill_n(element.begin() + start, repeats() ? std::min(RowBytes(), SizeOf(type_)) : RowBytes(), true);
  }
  for (size_t i = 0; i < size_; ++i) {
    if (!element[i] && base_[i] != kPattern) return false;
  }
  return true;
}

}  // namespace core_test
