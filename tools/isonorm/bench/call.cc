#include "bench/call.h"

#include <utility>

namespace isonorm_cli::bench {
namespace {

isonorm_tensor Tensor(void* data, isonorm::dtype type, int64_t* shape, size_t ndim) {
  return {data, {ISONORM_DEVICE_CPU, 0}, static_cast<int32_t>(ndim), isonorm::to_c(type), shape, nullptr, 0};
}

void Grow(std::unique_ptr<Buffer>& buffer, size_t bytes) {
  if (buffer && buffer->bytes() >= bytes) return;
  buffer.reset();  // first, so that the two never need room at once
  buffer = std::make_unique<Buffer>(bytes);
}

}  // namespace

void Arena::Prepare(isonorm::dtype type, size_t bytes, int64_t rows, int64_t cols) {
  for (auto* buffer : {&x_, &y_, &z_}) Grow(*buffer, bytes);
  for (auto* buffer : {&weight_, &dweight_}) Grow(*buffer, static_cast<size_t>(cols) * sizeof(float));
  Grow(rstd_, static_cast<size_t>(rows) * sizeof(float));
  x_->FillRandom(type, bytes);
  z_->FillRandom(type, bytes);
  weight_->FillSigns(type);
}

void Arena::PrepareMore(isonorm::dtype type, size_t bytes) {
  for (auto* buffer : {&u_, &v_}) Grow(*buffer, bytes);
  v_->FillRandom(type, bytes);
}

ForwardCall::ForwardCall(isonorm::dtype type, std::vector<int64_t> shape, const Place& place, const isonorm::contract& contract)
    : shape_(std::move(shape)),
      contract_(isonorm::to_c(contract)),
      x_(Tensor(place.x, type, shape_.data(), shape_.size())),
      weight_(Tensor(place.weight, type, &shape_.back(), 1)),
      y_(Tensor(place.y, type, shape_.data(), shape_.size())) {
  args_.struct_size = sizeof args_;
  args_.x = &x_;
  args_.weight = &weight_;
  args_.y = &y_;
  args_.executor = place.executor;
}

void ForwardCall::WriteRstd(float* rstd) {
  rstd_ = Tensor(rstd, isonorm::dtype::f32, shape_.data(), shape_.size() - 1);
  args_.rstd = &rstd_;
}

BackwardCall::BackwardCall(isonorm::dtype type, int64_t rows, int64_t cols, const Arena& arena)
    : shape_({rows, cols}),
      dy_(Tensor(arena.z(), type, shape_.data(), 2)),
      x_(Tensor(arena.x(), type, shape_.data(), 2)),
      weight_(Tensor(arena.weight(), type, &shape_[1], 1)),
      rstd_(Tensor(arena.rstd(), isonorm::dtype::f32, shape_.data(), 1)),
      dx_(Tensor(arena.y(), type, shape_.data(), 2)),
      dweight_(Tensor(arena.dweight(), type, &shape_[1], 1)) {
  args_.struct_size = sizeof args_;
  args_.dy = &dy_;
  args_.x = &x_;
  args_.weight = &weight_;
  args_.rstd = &rstd_;
  args_.dx = &dx_;
  args_.dweight = &dweight_;
  isonorm::detail::check(isonorm_backward_workspace(&contract_, kEps, &args_, &args_.workspace_size));
  workspace_.resize(args_.workspace_size);
  args_.workspace = workspace_.data();
}

}  // namespace isonorm_cli::bench
