// Calls of isonorm with everything set up beforehand, and the memory that they share with the loops beside them.
#pragma once

#include <isonorm/isonorm.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bench/timing.h"

namespace isonorm_cli::bench {

constexpr double kEps = 1e-6;

// Memory for the rows of the table, one after the other. All of it starts on a page: where y lies beside x modulo the page
// size moves the times of any loop by up to half, so both sides of a comparison use the same places.
class Arena {
 public:
  // Of which the next Prepare() makes everything.
  void UsePages(Pages pages) { pages_ = pages; }

  // At least `bytes` each for x, y and z, and a weight and a bias of `cols` ones of either sign; x and z are filled with random
  // values.
  void Prepare(isonorm::dtype type, size_t bytes, int64_t rows, int64_t cols);

  // Two more, for calls with more tensors.
  void PrepareMore(isonorm::dtype type, size_t bytes);

  void* x() const { return x_->data(); }
  void* y() const { return y_->data(); }
  void* z() const { return z_->data(); }
  void* u() const { return u_->data(); }
  void* v() const { return v_->data(); }
  void* weight() const { return weight_->data(); }
  void FillWeight(isonorm::dtype type) const { weight_->FillSigns(type); }  // of another type than x
  void* bias() const { return bias_->data(); }
  float* mean() const { return static_cast<float*>(mean_->data()); }
  float* rstd() const { return static_cast<float*>(rstd_->data()); }
  float* dweight() const { return static_cast<float*>(dweight_->data()); }
  float* dbias() const { return static_cast<float*>(dbias_->data()); }

 private:
  std::unique_ptr<Buffer> x_, y_, z_, u_, v_, weight_, bias_, mean_, rstd_, dweight_, dbias_;
  Pages pages_ = Pages::kHuge;
};

// Where the tensors of a call lie, and who helps.
struct Place {
  void* x;
  void* y;
  void* weight;
  const isonorm_executor* executor = nullptr;
  void* bias = nullptr;
};

// y = norm(x) * weight + bias, if there is one; throws isonorm::error if the library refuses.
class ForwardCall {
 public:
  // Without weight_type the weight is of x's type.
  ForwardCall(isonorm::dtype type, std::vector<int64_t> shape, const Place& place,
              const isonorm::contract& contract = isonorm::contracts::torch, std::optional<isonorm::dtype> weight_type = {});
  ForwardCall(const ForwardCall&) = delete;
  ForwardCall& operator=(const ForwardCall&) = delete;

  void WriteRstd(float* rstd, float* mean = nullptr);  // from now on
  void Run() const { isonorm::detail::check(isonorm_forward(&contract_, kEps, &args_)); }

 private:
  std::vector<int64_t> shape_;
  isonorm_contract contract_;
  isonorm_tensor x_, weight_, bias_, y_, mean_ = {}, rstd_ = {};
  isonorm_forward_args args_ = {};
};

// dx and dweight (in the weight's type, which is x's) from dy, x and the saved rstd; of LayerNorm dbias too, and from the mean.
class BackwardCall {
 public:
  BackwardCall(isonorm::dtype type, int64_t rows, int64_t cols, const Arena& arena,
               const isonorm::contract& contract = isonorm::contracts::torch);
  BackwardCall(const BackwardCall&) = delete;
  BackwardCall& operator=(const BackwardCall&) = delete;

  void Run() const { isonorm::detail::check(isonorm_backward(&contract_, kEps, &args_)); }

 private:
  std::vector<int64_t> shape_;
  isonorm_contract contract_;
  isonorm_tensor dy_, x_, weight_, mean_, rstd_, dx_, dweight_, dbias_;
  std::vector<std::byte> workspace_;
  isonorm_backward_args args_ = {};
};

}  // namespace isonorm_cli::bench
