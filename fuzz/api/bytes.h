// Choices out of the fuzzer's bytes. Where they end every choice is the first one, the plainest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace isonorm_fuzz {

class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  std::uint64_t Take(int bytes) {
    std::uint64_t value = 0;
    for (; bytes > 0; --bytes) value = value << 8 | (size_ > 0 ? (--size_, *data_++) : 0);
    return value;
  }
  std::int64_t Below(std::int64_t count) {  // count <= 2^16
    return static_cast<std::int64_t>(Take(count <= 256 ? 1 : 2) % static_cast<std::uint64_t>(count));
  }
  bool OneIn(int count) { return Below(count) == count - 1; }
  template <class T>
  T Pick(std::initializer_list<T> choices) {
    return choices.begin()[Below(static_cast<std::int64_t>(choices.size()))];
  }
  // Numbers at which arithmetic on sizes goes wrong, or any.
  std::int64_t Wild() {
    if (OneIn(3)) return static_cast<std::int64_t>(Take(8));
    const std::uint64_t power = std::uint64_t{1} << Below(64);
    const std::uint64_t chosen =
        Pick<std::uint64_t>({0, 1, UINT64_MAX, 2, 3, 4, INT32_MAX, INT64_MAX, power, power - 1, ~power + 1});
    return static_cast<std::int64_t>(chosen);
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

}  // namespace isonorm_fuzz
