// Rotation after a norm, in C++20: rope.h with views. isonorm.hpp includes it.
#pragma once

#include <isonorm/rope.h>

#include <cstdint>

#include <isonorm/tensor.hpp>

namespace isonorm {

enum class rope_style : std::int32_t { half = ISONORM_ROPE_HALF, interleaved = ISONORM_ROPE_INTERLEAVED };

// {}: nothing is rotated.
//   .rope = {.cos = {cos, 4096, 64}, .sin = {sin, 4096, 64}, .position_offset = past}
struct rope {
  const_tensor cos = {};  // [table positions, rotary dimension / 2]
  const_tensor sin = {};
  rope_style style = rope_style::half;
  const_tensor positions = {};       // of std::int32_t or std::int64_t; or
  std::int64_t position_offset = 0;  // that of the first token, and
  int position_dim = 0;              // the leading dimension that counts tokens

  explicit operator bool() const {
    return cos || sin || positions || position_offset != 0 || position_dim != 0 || style != rope_style::half;
  }
};

namespace detail {
// The C structure of a rotation; null without one. It points into itself and into the tensors of `from`.
class c_rope {
 public:
  explicit c_rope(const rope& from) : given_(static_cast<bool>(from)) {
    rope_ = {sizeof(rope_),       static_cast<std::int32_t>(from.style),
             from.position_dim,   tensors_(from.cos),
             tensors_(from.sin),  tensors_(from.positions),
             from.position_offset};
  }
  c_rope(const c_rope&) = delete;
  c_rope& operator=(const c_rope&) = delete;
  operator const isonorm_rope*() const { return given_ ? &rope_ : nullptr; }

 private:
  bool given_;
  c_tensors<3> tensors_;
  isonorm_rope rope_{};
};
}  // namespace detail

}  // namespace isonorm
