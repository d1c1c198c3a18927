// isonorm in C++20: the C ABI of isonorm.h with views that carry their shape, and with exceptions.
//
//   std::vector<float> x(rows * cols), w(cols), y(rows * cols);
//   isonorm::forward(isonorm::contracts::llama, 1e-6, {.x = {x, rows, cols}, .weight = w, .y = {y, rows, cols}});
//
// Shapes, dtypes, aliasing and errors are those of the C functions, described in isonorm.h. What is left out, or {}, is absent.
// A failed call throws isonorm::error with the library's one-sentence message, or std::bad_alloc for its workspace. Every
// function may be called from many threads at once.
// A call computes on the calling thread alone unless it is handed an executor.
#pragma once

#include <isonorm/isonorm.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <ranges>
#include <string>
#include <type_traits>
#include <vector>

#include <isonorm/arguments.hpp>
#include <isonorm/contract.hpp>
#include <isonorm/tensor.hpp>
#include <isonorm/thread_pool.hpp>

namespace isonorm {

// The version of these headers; version() is that of the library.
inline constexpr int version_major = ISONORM_VERSION_MAJOR;
inline constexpr int version_minor = ISONORM_VERSION_MINOR;
inline constexpr int version_patch = ISONORM_VERSION_PATCH;

// ----------------------------------------------------------------------------------------------------------- executors

// An executor for .executor: one pool for the process, with a thread for each CPU. They start with the first job that is large
// enough for them. Others are thread_pool::executor(), and one of your own, as isonorm_executor describes it.
[[nodiscard]] inline const isonorm_executor* shared_executor() { return thread_pool::shared().executor(); }

// ----------------------------------------------------------------------------------------------------------- the calls

inline void forward(const contract& what, double eps, const forward_args& args) {
  const isonorm_contract c = to_c(what);
  const detail::c_args<forward_args> call(args);
  detail::check(isonorm_forward(&c, eps, &call.args));
}

// Up to four in one call, such as q and k: forward(contract, eps, {q, k}). Only the first has workspace, stream and executor.
inline void forward(const contract& what, double eps, std::initializer_list<forward_args> all) {
  const isonorm_contract c = to_c(what);
  detail::c_chain<forward_args> call(all);
  detail::check(isonorm_forward(&c, eps, &call.args()));
}

inline void backward(const contract& what, double eps, const backward_args& args) {
  const isonorm_contract c = to_c(what);
  detail::c_args<backward_args> call(args);
  const auto workspace = detail::provide_workspace(c, eps, call.args);
  detail::check(isonorm_backward(&c, eps, &call.args));
}

inline void backward(const contract& what, double eps, std::initializer_list<backward_args> all) {
  const isonorm_contract c = to_c(what);
  detail::c_chain<backward_args> call(all);
  const auto workspace = detail::provide_workspace(c, eps, call.args());
  detail::check(isonorm_backward(&c, eps, &call.args()));
}

inline void double_backward(const contract& what, double eps, const double_backward_args& args) {
  const isonorm_contract c = to_c(what);
  detail::c_args<double_backward_args> call(args);
  const auto workspace = detail::provide_workspace(c, eps, call.args);
  detail::check(isonorm_double_backward(&c, eps, &call.args));
}

// Bytes of workspace that the call with these arguments needs.
[[nodiscard]] inline std::size_t forward_workspace(const contract& what, double eps, const forward_args& args) {
  return detail::measure(to_c(what), eps, detail::c_args<forward_args>(args).args);
}
[[nodiscard]] inline std::size_t backward_workspace(const contract& what, double eps, const backward_args& args) {
  return detail::measure(to_c(what), eps, detail::c_args<backward_args>(args).args);
}
[[nodiscard]] inline std::size_t double_backward_workspace(const contract& what, double eps, const double_backward_args& args) {
  return detail::measure(to_c(what), eps, detail::c_args<double_backward_args>(args).args);
}

// ------------------------------------------------------------------------------------------------- RMS of vectors, penalty

// rms = sqrt(mean(v^2)) of every row of x.
struct rms_args {
  const_tensor x = {};
  tensor rms = {};
  void* stream = nullptr;
  const isonorm_executor* executor = nullptr;
};

inline void rms(const rms_args& args) {
  detail::c_tensors<2> tensors;
  const isonorm_rms_args c = {sizeof(c), tensors(args.x), tensors(args.rms), args.stream, args.executor};
  detail::check(isonorm_rms(&c));
}

// The RMS of one vector of float or double: isonorm::rms(v). It must not be empty.
template <values R>
[[nodiscard]] auto rms(const R& vector) {
  std::array<std::remove_cv_t<std::ranges::range_value_t<R>>, 1> result{};
  static_assert(std::is_floating_point_v<typename decltype(result)::value_type>);
  rms({.x = vector, .rms = result});
  return result[0];
}

// dx = drms * x / (cols * rms), row by row.
struct rms_backward_args {
  const_tensor x = {};
  const_tensor drms = {};
  tensor dx = {};
  void* stream = nullptr;
  const isonorm_executor* executor = nullptr;
};

inline void rms_backward(const rms_backward_args& args) {
  detail::c_tensors<3> tensors;
  const isonorm_rms_backward_args c = {sizeof(c),        tensors(args.x), tensors(args.drms),
                                       tensors(args.dx), args.stream,     args.executor};
  detail::check(isonorm_rms_backward(&c));
}

// penalty = lambda * rms^2 of every row, and its gradient dx = 2 * lambda / cols * x, added to dx where accumulate is set.
struct rms_penalty_args {
  const_tensor x = {};
  tensor penalty = {};
  tensor dx = {};
  double lambda = 1;
  bool accumulate = false;
  void* stream = nullptr;
  const isonorm_executor* executor = nullptr;
};

inline void rms_penalty(const rms_penalty_args& args) {
  detail::c_tensors<3> tensors;
  const isonorm_rms_penalty_args c = {sizeof(c),
                                      tensors(args.x),
                                      tensors(args.penalty),
                                      tensors(args.dx),
                                      args.lambda,
                                      args.accumulate ? std::uint32_t{ISONORM_ACCUMULATE} : 0u,
                                      0u,
                                      args.stream,
                                      args.executor};
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

[[nodiscard]] inline std::string version() { return isonorm_version(); }
[[nodiscard]] inline std::vector<std::string> list_targets() {
  return detail::names(isonorm_target_count(), isonorm_target_name);
}
[[nodiscard]] inline std::vector<std::string> list_contracts() {
  return detail::names(isonorm_contract_count(), isonorm_contract_name);
}
[[nodiscard]] inline std::vector<std::string> list_kernels() {
  return detail::names(isonorm_kernel_count(), isonorm_kernel_name);
}

// The target in use, and what this thread's last computation ran; see isonorm_target() and isonorm_last_kernel().
[[nodiscard]] inline std::string target() { return isonorm_target(); }
[[nodiscard]] inline std::string last_kernel() { return isonorm_last_kernel(); }

// Chooses the target for the whole process; "" goes back to the best.
inline void set_target(const std::string& name) {
  detail::check(isonorm_set_target(detail::c_name(name, ISONORM_ERROR_TARGET)));
}

}  // namespace isonorm

#include <isonorm/parallel.hpp>
