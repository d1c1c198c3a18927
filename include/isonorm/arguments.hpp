// The arguments of calls in C++20, and how they become those of the C ABI. isonorm.hpp includes it.
#pragma once

#include <isonorm/isonorm.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include <isonorm/contract.hpp>
#include <isonorm/rope.hpp>
#include <isonorm/tensor.hpp>

namespace isonorm {

// As isonorm_forward_args. workspace: forward_workspace() bytes; on the CPU that is 0, and nothing is allocated.
struct forward_args {
  const_tensor x = {};
  const_tensor weight = {};
  const_tensor bias = {};
  const_tensor residual = {};
  const_tensor gate = {};
  isonorm::rope rope = {};
  isonorm::quantization quantization = {};  // y is i8, e4m3 or e5m2
  const_tensor static_scale = {};           // the scale to use, or
  tensor scale = {};                        // where the scales are written
  tensor y = {};
  tensor residual_out = {};
  tensor mean = {};  // LayerNorm only
  tensor rstd = {};
  std::int64_t groups = 1;
  std::int64_t window = 0;
  std::span<std::byte> workspace = {};
  void* stream = nullptr;
  const isonorm_executor* executor = nullptr;
};

// As isonorm_backward_args. Without `workspace` the call allocates what it needs.
struct backward_args {
  const_tensor dy = {};
  const_tensor x = {};
  const_tensor weight = {};
  const_tensor bias = {};
  const_tensor residual = {};
  const_tensor residual_out = {};
  const_tensor gate = {};
  isonorm::rope rope = {};
  const_tensor mean = {};  // LayerNorm only
  const_tensor rstd = {};
  const_tensor dresidual = {};
  tensor dx = {};
  tensor dweight = {};
  tensor dbias = {};
  tensor dgate = {};
  std::int64_t groups = 1;
  std::int64_t window = 0;
  bool accumulate = false;  // add to what dweight and dbias hold
  std::span<std::byte> workspace = {};
  void* stream = nullptr;
  const isonorm_executor* executor = nullptr;
};

// As isonorm_double_backward_args: the gradients dx, dweight and ddy of backward's x, weight and dy from the cotangents ddx and
// ddweight of its dx and dweight. Without `workspace` the call allocates what it needs.
struct double_backward_args {
  const_tensor dy = {};
  const_tensor x = {};
  const_tensor weight = {};
  const_tensor rstd = {};
  const_tensor ddx = {};
  const_tensor ddweight = {};
  tensor dx = {};
  tensor dweight = {};
  tensor ddy = {};
  std::int64_t groups = 1;
  bool accumulate = false;  // add to what dweight holds
  std::span<std::byte> workspace = {};
  void* stream = nullptr;
  const isonorm_executor* executor = nullptr;
};

namespace detail {
// c.args: the C structure of `from`. It points into itself and into `from`.
template <class Args>
struct c_args;

// The fields that all of them have.
template <class C, class Args>
void set_common(const Args& from, C& to) {
  to.struct_size = sizeof(C);
  to.groups = from.groups;
  to.workspace = from.workspace.data();
  to.workspace_size = from.workspace.size();
  to.stream = from.stream;
  to.executor = from.executor;
  if constexpr (requires { from.accumulate; }) to.flags = from.accumulate ? std::uint32_t{ISONORM_ACCUMULATE} : 0u;
}

template <>
struct c_args<forward_args> {
  explicit c_args(const forward_args& from) : rope(from.rope), quantization(to_c(from.quantization)) {
    // In C one field is read or written, as the kind says; here what may be written has a type of its own.
    const bool fixed = from.quantization.kind == scale_kind::fixed;
    if (from.quantization && (fixed ? from.scale : from.static_scale)) {
      throw error(ISONORM_ERROR_ARGUMENT, fixed ? "scale is given, but a fixed scale is read: it must be static_scale."
                                                : "static_scale is given, but the scale is computed: it must be scale.");
    }
    set_common(from, args);
    args.x = tensors(from.x);
    args.weight = tensors(from.weight);
    args.bias = tensors(from.bias);
    args.residual = tensors(from.residual);
    args.gate = tensors(from.gate);
    args.rope = rope;
    args.quantization = from.quantization ? &quantization : nullptr;
    args.scale = from.static_scale ? tensors(from.static_scale) : tensors(from.scale);
    args.y = tensors(from.y);
    args.residual_out = tensors(from.residual_out);
    args.mean = tensors(from.mean);
    args.rstd = tensors(from.rstd);
    args.window = from.window;
  }
  c_tensors<10> tensors;
  c_rope rope;
  isonorm_quantization quantization;
  isonorm_forward_args args = {};
};

template <>
struct c_args<backward_args> {
  explicit c_args(const backward_args& from) : rope(from.rope) {
    set_common(from, args);
    args.dy = tensors(from.dy);
    args.x = tensors(from.x);
    args.weight = tensors(from.weight);
    args.bias = tensors(from.bias);
    args.residual = tensors(from.residual);
    args.residual_out = tensors(from.residual_out);
    args.gate = tensors(from.gate);
    args.rope = rope;
    args.mean = tensors(from.mean);
    args.rstd = tensors(from.rstd);
    args.dresidual = tensors(from.dresidual);
    args.dx = tensors(from.dx);
    args.dweight = tensors(from.dweight);
    args.dbias = tensors(from.dbias);
    args.dgate = tensors(from.dgate);
    args.window = from.window;
  }
  c_tensors<14> tensors;
  c_rope rope;
  isonorm_backward_args args = {};
};

template <>
struct c_args<double_backward_args> {
  explicit c_args(const double_backward_args& from) {
    set_common(from, args);
    args.dy = tensors(from.dy);
    args.x = tensors(from.x);
    args.weight = tensors(from.weight);
    args.rstd = tensors(from.rstd);
    args.ddx = tensors(from.ddx);
    args.ddweight = tensors(from.ddweight);
    args.dx = tensors(from.dx);
    args.dweight = tensors(from.dweight);
    args.ddy = tensors(from.ddy);
  }
  c_tensors<9> tensors;
  isonorm_double_backward_args args = {};
};

// The C structures of several args, each of which leads to the next.
template <class Args>
class c_chain {
 public:
  explicit c_chain(std::initializer_list<Args> all) {
    if (all.size() == 0 || all.size() > chain_.size()) {
      throw error(ISONORM_ERROR_ARGUMENT, "the list has " + std::to_string(all.size()) + " args; 1 to 4 are allowed.");
    }
    for (std::size_t i = all.size(); i-- > 0;) {
      chain_[i].emplace(all.begin()[i]);
      if (i + 1 < all.size()) chain_[i]->args.also = &chain_[i + 1]->args;
    }
  }
  auto& args() { return chain_[0]->args; }

 private:
  std::array<std::optional<c_args<Args>>, 4> chain_;
};

// Bytes of workspace for the call.
inline std::size_t measure(const isonorm_contract& c, double eps, const isonorm_forward_args& args) {
  std::size_t bytes = 0;
  check(isonorm_forward_workspace(&c, eps, &args, &bytes));
  return bytes;
}
inline std::size_t measure(const isonorm_contract& c, double eps, const isonorm_backward_args& args) {
  std::size_t bytes = 0;
  check(isonorm_backward_workspace(&c, eps, &args, &bytes));
  return bytes;
}
inline std::size_t measure(const isonorm_contract& c, double eps, const isonorm_double_backward_args& args) {
  std::size_t bytes = 0;
  check(isonorm_double_backward_workspace(&c, eps, &args, &bytes));
  return bytes;
}

// What the call needs, where the caller has given none; it is to live as long as the call.
template <class C>
[[nodiscard]] std::unique_ptr<std::byte[]> provide_workspace(const isonorm_contract& c, double eps, C& args) {
  if (args.workspace_size != 0) return nullptr;
  args.workspace_size = measure(c, eps, args);
  auto memory = args.workspace_size == 0 ? nullptr : std::make_unique_for_overwrite<std::byte[]>(args.workspace_size);
  args.workspace = memory.get();
  return memory;
}
}  // namespace detail

}  // namespace isonorm
