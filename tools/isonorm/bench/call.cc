#include "bench/call.h"

#include <utility>

namespace isonorm_cli::bench {
namespace {

isonorm_tensor Tensor(void* data, isonorm::dtype type, int64_t* shape, size_t ndim) {
  return {data, {ISONORM_DEVICE_CPU, 0}, static_cast<int32_t>(ndim), isonorm::to_c(type), shape, nullptr, 0};
}

void Grow(std::unique_ptr<Buffer>& buffer, size_t bytes, Pages pages) {
  if (buffer && buffer->bytes() >= bytes && buffer->pages() == pages) return;
  buffer.reset();  // first, so that the two never need room at once
  buffer = std::make_unique<Buffer>(bytes, pages);
}

}  // namespace

void Arena::Prepare(isonorm::dtype type, size_t bytes, int64_t rows, int64_t cols) {
  for (auto* buffer : {&x_, &y_, &z_}) Grow(*buffer, bytes, pages_);
  for (auto* buffer : {&weight_, &bias_, &dweight_, &dbias_}) Grow(*buffer, static_cast<size_t>(cols) * sizeof(float), pages_);
  for (auto* buffer : {&mean_, &rstd_}) Grow(*buffer, static_cast<size_t>(rows) * sizeof(float), pages_);
  x_->FillRandom(type, bytes);
  z_->FillRandom(type, bytes);
  weight_->FillSigns(type);
  bias_->FillSigns(type);
}

void Arena::PrepareMore(isonorm::dtype type, size_t bytes) {
  for (auto* buffer : {&u_, &v_}) Grow(*buffer, bytes, pages_);
  v_->FillRandom(type, bytes);
}

ForwardCall::ForwardCall(isonorm::dtype type, std::vector<int64_t> shape, const Place& place, const isonorm::contract& contract,
                         std::optional<isonorm::dtype> weight_type)
    : shape_(std::move(shape)),
      contract_(isonorm::to_c(contract)),
      x_(Tensor(place.x, type, shape_.data(), shape_.size())),
      weight_(Tensor(place.weight, weight_type.value_or(type), &shape_.back(), 1)),
      bias_(Tensor(place.bias, type, &shape_.back(), 1)),
      y_(Tensor(place.y, type, shape_.data(), shape_.size())) {
  args_.struct_size = sizeof args_;
  args_.x = &x_;
  args_.weight = &weight_;
  if (place.bias != nullptr) args_.bias = &bias_;
  args_.y = &y_;
  args_.executor = place.executor;
}

void ForwardCall::WriteRstd(float* rstd, float* mean) {
  mean_ = Tensor(mean, isonorm::dtype::f32, shape_.data(), shape_.size() - 1);
  if (mean != nullptr) args_.mean = &mean_;
  rstd_ = Tensor(rstd, isonorm::dtype::f32, shape_.data(), shape_.size() - 1);
  args_.rstd = &rstd_;
}

BackwardCall::BackwardCall(isonorm::dtype type, int64_t rows, int64_t cols, const Arena& arena,
                           const isonorm::contract& contract)
    : shape_({rows, cols}),
      contract_(isonorm::to_c(contract)),
      dy_(Tensor(arena.z(), type, shape_.data(), 2)),
      x_(Tensor(arena.x(), type, shape_.data(), 2)),
      weight_(Tensor(arena.weight(), type, &shape_[1], 1)),
      mean_(Tensor(arena.mean(), isonorm::dtype::f32, shape_.data(), 1)),
      rstd_(Tensor(arena.rstd(), isonorm::dtype::f32, shape_.data(), 1)),
      dx_(Tensor(arena.y(), type, shape_.data(), 2)),
      dweight_(Tensor(arena.dweight(), type, &shape_[1], 1)),
      dbias_(Tensor(arena.dbias(), type, &shape_[1], 1)) {
  args_.struct_size = sizeof args_;
  args_.dy = &dy_;
  args_.x = &x_;
  args_.weight = &weight_;
  args_.rstd = &rstd_;
  args_.dx = &dx_;
  args_.dweight = &dweight_;
  if (contract.statistic == isonorm::statistic::layer) {
    args_.mean = &mean_;
    args_.dbias = &dbias_;
  }
  isonorm::detail::check(isonorm_backward_workspace(&contract_, kEps, &args_, &args_.workspace_size));
  workspace_.resize(args_.workspace_size);
  args_.workspace = workspace_.data();
}

}  // namespace isonorm_cli::bench
