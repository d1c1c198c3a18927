// isonorm in C++20: the C ABI of isonorm.h with views that carry their shape, and with exceptions.
//
//   std::vector<float> x(rows * cols), w(cols), y(rows * cols);
//   isonorm::forward(isonorm::contracts::llama, 1e-6, {.x = {x, rows, cols}, .weight = w, .y = isonorm::tensor{y, rows, cols}});
//
// Shapes, dtypes, aliasing and errors are those of the C functions, described in isonorm.h. A failed call writes nothing and
// throws isonorm::error with the library's one-sentence message. Every function may be called from many threads at once.
#pragma once

#include <isonorm/isonorm.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <isonorm/rope.hpp>
#include <isonorm/tensor.hpp>
#include <isonorm/thread_pool.hpp>

namespace isonorm {

// ----------------------------------------------------------------------------------------------------------- contracts

namespace contracts {
inline constexpr isonorm_contract torch = ISONORM_CONTRACT_TORCH;
inline constexpr isonorm_contract llama = ISONORM_CONTRACT_LLAMA;
inline constexpr isonorm_contract onnx = ISONORM_CONTRACT_ONNX;
inline constexpr isonorm_contract t5 = ISONORM_CONTRACT_T5;
inline constexpr isonorm_contract gemma = ISONORM_CONTRACT_GEMMA;
inline constexpr isonorm_contract paper = ISONORM_CONTRACT_PAPER;
inline constexpr isonorm_contract mamba2 = ISONORM_CONTRACT_MAMBA2;
inline constexpr isonorm_contract qwen3_next_gated = ISONORM_CONTRACT_QWEN3_NEXT_GATED;
inline constexpr isonorm_contract microgpt = ISONORM_CONTRACT_MICROGPT;
inline constexpr isonorm_contract layer_norm = ISONORM_CONTRACT_LAYER_NORM;

// The contract of that name; throws for an unknown one.
inline isonorm_contract by_name(const std::string& name) {
  isonorm_contract contract{};
  detail::check(isonorm_contract_by_name(name.c_str(), &contract, sizeof(contract)));
  return contract;
}
}  // namespace contracts

// ----------------------------------------------------------------------------------------------------------- executors

// The executor of every call that is not handed another: one pool for the process, made by the first call that is large
// enough to use it. Pass nullptr instead to stay on the calling thread, or thread_pool::executor(), or an executor of yours.
inline const isonorm_executor* shared_executor() { return thread_pool::shared().executor(); }

// --------------------------------------------------------------------------------------------------- forward, backward

namespace detail {
// The C view of an optional tensor, null if it is absent.
class c_optional {
 public:
  template <class T>
  explicit c_optional(const std::optional<T>& view) {
    if (view) tensor_ = view->c_tensor();
  }
  explicit c_optional(const const_tensor& view) : tensor_(view.c_tensor()) {}
  operator const isonorm_tensor*() const { return tensor_ ? &*tensor_ : nullptr; }

 private:
  std::optional<isonorm_tensor> tensor_;
};
}  // namespace detail

// As isonorm_forward_args. What is left out is absent.
struct forward_args {
  const_tensor x;
  std::optional<const_tensor> weight = {};
  std::optional<const_tensor> bias = {};
  std::optional<const_tensor> residual = {};
  std::optional<const_tensor> gate = {};
  std::optional<tensor> y = {};
  std::optional<tensor> residual_out = {};
  std::optional<tensor> mean = {};  // LayerNorm only
  std::optional<tensor> rstd = {};
  std::int64_t groups = 1;
  std::int64_t window = 0;
  std::optional<isonorm_quantization> quantization = {};  // y is i8, e4m3 or e5m2
  std::optional<const_tensor> static_scale = {};          // the scale to use, or
  std::optional<tensor> scale = {};                       // where the scales are written
  std::optional<isonorm::rope> rope = {};
};

namespace detail {
template <class Use>
void with_c(const forward_args& args, const isonorm_executor* executor, Use use) {
  const c_optional x(args.x), weight(args.weight), bias(args.bias), residual(args.residual), gate(args.gate);
  const c_optional y(args.y), residual_out(args.residual_out), mean(args.mean), rstd(args.rstd);
  const c_optional static_scale(args.static_scale), scale(args.scale);
  const c_rope rope(args.rope);
  isonorm_forward_args c = {};
  c.struct_size = sizeof(c);
  c.x = x;
  c.weight = weight;
  c.bias = bias;
  c.residual = residual;
  c.gate = gate;
  c.y = y;
  c.residual_out = residual_out;
  c.mean = mean;
  c.rstd = rstd;
  c.groups = args.groups;
  c.window = args.window;
  c.executor = executor;
  c.quantization = args.quantization ? &*args.quantization : nullptr;
  c.scale = args.static_scale ? static_scale : scale;
  c.rope = rope;
  use(c);
}

// use(c) with the C structures of all args, each of which leads to the next.
template <class C, class Args>
void with_chain(std::initializer_list<Args> all, const Args* at, const isonorm_executor* executor,
                const std::function<void(C&)>& use) {
  if (at == all.end()) throw error(ISONORM_ERROR_NULL, "the list of args is empty; a call needs at least one");
  with_c(*at, executor, [&](C& c) {
    if (at + 1 == all.end()) return use(c);
    with_chain<C, Args>(all, at + 1, nullptr, [&](C& next) {
      c.also = &next;
      use(c);
    });
  });
}
}  // namespace detail

inline void forward(const isonorm_contract& contract, double eps, const forward_args& args,
                    const isonorm_executor* executor = shared_executor()) {
  detail::with_c(args, executor, [&](const isonorm_forward_args& c) { detail::check(isonorm_forward(&contract, eps, &c)); });
}

// Up to four in one call, such as q and k: forward(contract, eps, {q, k}).
inline void forward(const isonorm_contract& contract, double eps, std::initializer_list<forward_args> all,
                    const isonorm_executor* executor = shared_executor()) {
  detail::with_chain<isonorm_forward_args>(
      all, all.begin(), executor, [&](const isonorm_forward_args& c) { detail::check(isonorm_forward(&contract, eps, &c)); });
}

// As isonorm_backward_args. Without `workspace` the call allocates what it needs.
struct backward_args {
  const_tensor dy;
  std::optional<const_tensor> x = {};
  std::optional<const_tensor> weight = {};
  std::optional<const_tensor> residual = {};
  std::optional<const_tensor> residual_out = {};
  std::optional<const_tensor> gate = {};
  std::optional<const_tensor> bias = {};
  std::optional<const_tensor> mean = {};  // LayerNorm only
  std::optional<const_tensor> rstd = {};
  std::optional<const_tensor> dresidual = {};
  std::optional<tensor> dx = {};
  std::optional<tensor> dweight = {};
  std::optional<tensor> dbias = {};
  std::optional<tensor> dgate = {};
  std::int64_t groups = 1;
  std::int64_t window = 0;
  bool accumulate = false;  // add to what dweight and dbias hold
  std::span<std::byte> workspace = {};
  std::optional<isonorm::rope> rope = {};
};

namespace detail {
template <class Use>
void with_c(const backward_args& args, const isonorm_executor* executor, Use use) {
  const c_optional dy(args.dy), x(args.x), weight(args.weight), residual(args.residual), residual_out(args.residual_out);
  const c_optional gate(args.gate), bias(args.bias), mean(args.mean), rstd(args.rstd), dresidual(args.dresidual);
  const c_optional dx(args.dx), dweight(args.dweight), dbias(args.dbias), dgate(args.dgate);
  const c_rope rope(args.rope);
  isonorm_backward_args c = {};
  c.struct_size = sizeof(c);
  c.dy = dy;
  c.x = x;
  c.weight = weight;
  c.bias = bias;
  c.residual = residual;
  c.residual_out = residual_out;
  c.gate = gate;
  c.rope = rope;
  c.mean = mean;
  c.rstd = rstd;
  c.dresidual = dresidual;
  c.dx = dx;
  c.dweight = dweight;
  c.dbias = dbias;
  c.dgate = dgate;
  c.groups = args.groups;
  c.window = args.window;
  c.flags = args.accumulate ? ISONORM_ACCUMULATE : 0;
  c.workspace = args.workspace.data();
  c.workspace_size = args.workspace.size();
  c.executor = executor;
  use(c);
}

inline isonorm_status measure(const isonorm_contract& contract, double eps, isonorm_backward_args& c) {
  return isonorm_backward_workspace(&contract, eps, &c, &c.workspace_size);
}
inline isonorm_status measure(const isonorm_contract& contract, double eps, isonorm_double_backward_args& c) {
  return isonorm_double_backward_workspace(&contract, eps, &c, &c.workspace_size);
}

// use() with arguments that need workspace; without one of the caller's it is allocated.
template <class C, class Use>
void in_workspace(const isonorm_contract& contract, double eps, C& c, Use use) {
  std::unique_ptr<std::byte[]> own;
  if (c.workspace_size == 0) {
    check(measure(contract, eps, c));
    if (c.workspace_size > 0) own = std::make_unique_for_overwrite<std::byte[]>(c.workspace_size);
    c.workspace = own.get();
  }
  use(c);
}

template <class Args, class Use>
void with_workspace(const isonorm_contract& contract, double eps, const Args& args, const isonorm_executor* executor, Use use) {
  with_c(args, executor, [&](auto& c) { in_workspace(contract, eps, c, use); });
}
}  // namespace detail

// Bytes of workspace that backward() with these arguments needs.
inline std::size_t backward_workspace(const isonorm_contract& contract, double eps, const backward_args& args,
                                      const isonorm_executor* executor = shared_executor()) {
  std::size_t bytes = 0;
  detail::with_c(args, executor, [&](const isonorm_backward_args& c) {
    detail::check(isonorm_backward_workspace(&contract, eps, &c, &bytes));
  });
  return bytes;
}

inline void backward(const isonorm_contract& contract, double eps, const backward_args& args,
                     const isonorm_executor* executor = shared_executor()) {
  detail::with_workspace(contract, eps, args, executor,
                         [&](const isonorm_backward_args& c) { detail::check(isonorm_backward(&contract, eps, &c)); });
}

// Up to four in one call; the first one's workspace serves all.
inline void backward(const isonorm_contract& contract, double eps, std::initializer_list<backward_args> all,
                     const isonorm_executor* executor = shared_executor()) {
  detail::with_chain<isonorm_backward_args>(all, all.begin(), executor, [&](isonorm_backward_args& c) {
    detail::in_workspace(contract, eps, c,
                         [&](const isonorm_backward_args& in) { detail::check(isonorm_backward(&contract, eps, &in)); });
  });
}

// ----------------------------------------------------------------------------------------------------- double backward

// As isonorm_double_backward_args: the gradients dx, dweight and ddy of backward's x, weight and dy from the cotangents ddx and
// ddweight of its dx and dweight. Without `workspace` the call allocates what it needs.
struct double_backward_args {
  const_tensor dy;
  const_tensor x;
  std::optional<const_tensor> weight = {};
  std::optional<const_tensor> rstd = {};
  std::optional<const_tensor> ddx = {};
  std::optional<const_tensor> ddweight = {};
  std::optional<tensor> dx = {};
  std::optional<tensor> dweight = {};
  std::optional<tensor> ddy = {};
  std::int64_t groups = 1;
  bool accumulate = false;  // add to what dweight holds
  std::span<std::byte> workspace = {};
};

namespace detail {
template <class Use>
void with_c(const double_backward_args& args, const isonorm_executor* executor, Use use) {
  const c_optional dy(args.dy), x(args.x), weight(args.weight), rstd(args.rstd), ddx(args.ddx), ddweight(args.ddweight);
  const c_optional dx(args.dx), dweight(args.dweight), ddy(args.ddy);
  isonorm_double_backward_args c = {};
  c.struct_size = sizeof(c);
  c.dy = dy;
  c.x = x;
  c.weight = weight;
  c.rstd = rstd;
  c.ddx = ddx;
  c.ddweight = ddweight;
  c.dx = dx;
  c.dweight = dweight;
  c.ddy = ddy;
  c.groups = args.groups;
  c.flags = args.accumulate ? ISONORM_ACCUMULATE : 0;
  c.workspace = args.workspace.data();
  c.workspace_size = args.workspace.size();
  c.executor = executor;
  use(c);
}
}  // namespace detail

// Bytes of workspace that double_backward() with these arguments needs.
inline std::size_t double_backward_workspace(const isonorm_contract& contract, double eps, const double_backward_args& args,
                                             const isonorm_executor* executor = shared_executor()) {
  std::size_t bytes = 0;
  detail::with_c(args, executor, [&](const isonorm_double_backward_args& c) {
    detail::check(isonorm_double_backward_workspace(&contract, eps, &c, &bytes));
  });
  return bytes;
}

inline void double_backward(const isonorm_contract& contract, double eps, const double_backward_args& args,
                            const isonorm_executor* executor = shared_executor()) {
  detail::with_workspace(contract, eps, args, executor, [&](const isonorm_double_backward_args& c) {
    detail::check(isonorm_double_backward(&contract, eps, &c));
  });
}

// ------------------------------------------------------------------------------------------------- RMS of vectors, penalty

// rms[...] = sqrt(mean(v^2)) of every row of x.
inline void rms(const const_tensor& x, const tensor& rms, const isonorm_executor* executor = shared_executor()) {
  const isonorm_tensor in = x.c_tensor(), out = rms.c_tensor();
  const isonorm_rms_args c = {sizeof(c), &in, &out, nullptr, executor};
  detail::check(isonorm_rms(&c));
}

// The RMS of one vector of float or double: isonorm::rms(v). It must not be empty.
template <values R>
auto rms(const R& vector) {
  std::array<std::remove_cv_t<std::ranges::range_value_t<R>>, 1> result{};
  static_assert(std::is_floating_point_v<typename decltype(result)::value_type>);
  rms(const_tensor(vector), tensor(result), nullptr);
  return result[0];
}

// dx = drms * x / (cols * rms), row by row.
inline void rms_backward(const const_tensor& x, const const_tensor& drms, const tensor& dx,
                         const isonorm_executor* executor = shared_executor()) {
  const isonorm_tensor in = x.c_tensor(), d = drms.c_tensor(), out = dx.c_tensor();
  const isonorm_rms_backward_args c = {sizeof(c), &in, &d, &out, nullptr, executor};
  detail::check(isonorm_rms_backward(&c));
}

// penalty[...] = lambda * rms^2 of every row, and its gradient 2 * lambda / cols * x, added to dx where accumulate is set.
inline void rms_penalty(const const_tensor& x, double lambda, const std::optional<tensor>& penalty,
                        const std::optional<tensor>& dx, bool accumulate = false,
                        const isonorm_executor* executor = shared_executor()) {
  const isonorm_tensor in = x.c_tensor();
  const detail::c_optional value(penalty), gradient(dx);
  const std::uint32_t flags = accumulate ? std::uint32_t{ISONORM_ACCUMULATE} : 0u;
  const isonorm_rms_penalty_args c = {sizeof(c), &in, value, gradient, lambda, flags, 0, nullptr, executor};
  detail::check(isonorm_rms_penalty(&c));
}

// -------------------------------------------------------------------------------------------------------- introspection

namespace detail {
inline std::vector<std::string> names(std::size_t count, const char* (*name)(std::size_t)) {
  std::vector<std::string> result;
  for (std::size_t i = 0; i < count; ++i) result.emplace_back(name(i));
  return result;
}
}  // namespace detail

inline std::string version() { return isonorm_version(); }
inline std::vector<std::string> list_targets() { return detail::names(isonorm_target_count(), isonorm_target_name); }
inline std::vector<std::string> list_contracts() { return detail::names(isonorm_contract_count(), isonorm_contract_name); }
inline std::vector<std::string> list_kernels() { return detail::names(isonorm_kernel_count(), isonorm_kernel_name); }

// The target in use, and what this thread's last computation ran; see isonorm_target() and isonorm_last_kernel().
inline std::string target() { return isonorm_target(); }
inline std::string last_kernel() { return isonorm_last_kernel(); }

// Chooses the target for the whole process; "" goes back to the best.
inline void set_target(const std::string& name) { detail::check(isonorm_set_target(name.c_str())); }

}  // namespace isonorm

#include <isonorm/parallel.hpp>
