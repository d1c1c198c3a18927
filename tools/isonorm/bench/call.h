// Calls of isonorm with everything set up beforehand, and the memory that they share with the loops beside them.
#pragma once

#include <isonorm/isonorm.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "bench/timing.h"

namespace isonorm_cli::bench {

constexpr double kEps = 1e-6;

// Memory for the rows of the table, one after the other. All of it starts on a page: where y lies beside x modulo the page
// size moves the times of any loop by up to half, so both sides of a comparison use the same places.
class Arena {
 public:
  // At least `bytes` each for x, y and z, and a weight of `cols` ones of either sign; x and z are filled with random values.
  void Prepare(isonorm::dtype type, size_t bytes, int64_t rows, int64_t cols);

  // Two more, for calls with more tensors.
  void PrepareMore(isonorm::dtype type, size_t bytes);

  void* x() const { return x_->data(); }
  void* y() const { return y_->data(); }
  void* z() const { return z_->data(); }
  void* u() const { return u_->data(); }
  void* v() const { return v_->data(); }
  void* weight() const { return weight_->data(); }
  float* rstd() const { return static_cast<float*>(rstd_->data()); }
  float* dweight() const { return static_cast<float*>(dweight_->data()); }

 private:
  std::unique_ptr<Buffer> x_, y_, z_, u_, v_, weight_, rstd_, dweight_;
};

// Where the tensors of a call lie, and who helps.
struct Place {
  void* x;
  void* y;
  void* weight;
  const isonorm_executor* executor = nullptr;
};

// y = norm(x) * weight; throws isonorm::error if the library refuses.
class ForwardCall {
 public:
  ForwardCall(isonorm::dtype type, std::vector<int64_t> shape, const Place& place,
              const isonorm::contract& contract = isonorm::contracts::torch);
  ForwardCall(const ForwardCall&) = delete;
  ForwardCall& operator=(const ForwardCall&) = delete;

  void WriteRstd(float* rstd);  // from now on
  void Run() const { isonorm::detail::check(isonorm_forward(&contract_, kEps, &args_)); }

 private:
  std::vector<int64_t> shape_;
  isonorm_contract contract_;
  isonorm_tensor x_, weight_, y_, rstd_ = {};
  isonorm_forward_args args_ = {};
};

// dx and dweight (in the weight's type, which is x's) from dy, x and the saved rstd.
class BackwardCall {
 public:
  BackwardCall(isonorm::dtype type, int64_t rows, int64_t cols, const Arena& arena);
  BackwardCall(const BackwardCall&) = delete;
  BackwardCall& operator=(const BackwardCall&) = delete;

  void Run() const { isonorm::detail::check(isonorm_backward(&contract_, kEps, &args_)); }

 private:
  std::vector<int64_t> shape_;
  isonorm_contract contract_ = ISONORM_CONTRACT_TORCH;
  isonorm_tensor dy_, x_, weight_, rstd_, dx_, dweight_;
  std::vector<std::byte> workspace_;
  isonorm_backward_args args_ = {};
};

}  // namespace isonorm_cli::bench
