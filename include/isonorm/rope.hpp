// Rotary position embedding in C++, as isonorm_rope of rope.h. isonorm.hpp includes it.
#pragma once

#include <isonorm/rope.h>

#include <cstddef>
#include <cstdint>
#include <optional>

#include <isonorm/tensor.hpp>

namespace isonorm {

enum class rope_style { half = ISONORM_ROPE_HALF, interleaved = ISONORM_ROPE_INTERLEAVED };

//   isonorm::rope turn{.cos = {cos, 4096, 64}, .sin = {sin, 4096, 64}, .position_offset = past};
struct rope {
  const_tensor cos;  // [table positions, rotary dimension / 2]
  const_tensor sin;
  rope_style style = rope_style::half;
  std::optional<const_tensor> positions = {};  // of std::int32_t or std::int64_t; or
  std::int64_t position_offset = 0;            // that of the first token, and
  int position_dim = 0;                        // the leading dimension that counts tokens
};

namespace detail {
// The C view of an optional rotation, null if it is absent. It points into itself.
class c_rope {
 public:
  explicit c_rope(const std::optional<rope>& from) {
    if (!from) return;
    present_ = true;
    cos_ = from->cos.c_tensor();
    sin_ = from->sin.c_tensor();
    if (from->positions) positions_ = from->positions->c_tensor();
    rope_ = {sizeof(rope_), static_cast<std::int32_t>(from->style),  from->position_dim,   &cos_,
             &sin_,         from->positions ? &positions_ : nullptr, from->position_offset};
  }
  c_rope(const c_rope&) = delete;
  c_rope& operator=(const c_rope&) = delete;
  operator const isonorm_rope*() const { return present_ ? &rope_ : nullptr; }

 private:
  bool present_ = false;
  isonorm_tensor cos_{}, sin_{}, positions_{};
  isonorm_rope rope_{};
};
}  // namespace detail

}  // namespace isonorm
