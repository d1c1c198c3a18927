// What torch's own operators of norms are called with: looked at before anything is taken from the stack, and as the C ABI
// reads it.
#pragma once

#include <isonorm/isonorm.h>

#include <array>
#include <cstdint>

#include "shim.h"
#include "value.h"

namespace isonorm_torch {

// A tensor on the stack, borrowed. `present` is false for an absent and for an undefined one.
struct View {
  bool present = false;
  bool readable = false;  // dense, in memory of this CPU, of f32, bf16, f16 or f64
  AtenTensorHandle handle = nullptr;
  std::int64_t ndim = 0;
  std::int64_t* sizes = nullptr;
  std::int64_t* strides = nullptr;
  std::int32_t torch_dtype = 0;
  isonorm_dtype dtype{};

  static View Of(StableIValue tensor);
  static View OfOptional(StableIValue optional);

  bool IsF64() const { return dtype.bits == 64; }
  // Are the dimensions from `first` on one run of neighbours?
  bool IsCompact(std::int64_t first = 0) const;
};

bool SameType(const View& a, const View& b);

// The rows of x: [leading..., cols], or [rows, cols] where those are more dimensions than the C ABI takes.
class Rows {
 public:
  // False unless x can be read, ends with the sizes of the list, and has values to normalise in each row.
  bool Read(const View& x, StableIValue normalized_shape);
  // Has the tensor these sizes, to be a weight or a bias?
  bool IsVector(const View& vector) const;
  bool IsLikeX(const View& other) const;

  // Shapes for the C ABI.
  std::int64_t* shape() { return shape_.data(); }
  std::int32_t ndim() const { return ndim_; }
  std::int64_t* vector_shape() { return &cols_; }
  std::int32_t statistic_ndim() const { return ndim_ > 1 ? ndim_ - 1 : 1; }
  std::int64_t* statistic_shape() { return ndim_ > 1 ? shape_.data() : &one_; }

  std::int64_t rows() const { return rows_; }
  std::int64_t lead() const { return lead_; }
  bool folded() const { return ndim_ != lead_ + 1; }
  // Of torch's statistics: x's, but 1 for every dimension that is normalised.
  const std::int64_t* kept_sizes() const { return kept_.data(); }
  const std::int64_t* sizes() const { return x_.sizes; }
  std::int64_t torch_ndim() const { return x_.ndim; }
  const std::int64_t* normalized_sizes() const { return x_.sizes + lead_; }
  std::int64_t normalized_ndim() const { return x_.ndim - lead_; }

 private:
  View x_;
  std::int64_t lead_ = 0, rows_ = 1, cols_ = 1, one_ = 1;
  std::int32_t ndim_ = 0;
  std::array<std::int64_t, kMaxDims> shape_{};
  std::array<std::int64_t, kMaxTorchDims> kept_{};
};

// A tensor for the C ABI: the memory of torch's, or a compact copy where the C ABI cannot say how it lies.
class Operand {
 public:
  Operand() = default;
  Operand(const Operand&) = delete;
  Operand& operator=(const Operand&) = delete;

  void ReadRows(const View& view, Rows& rows);
  void ReadVector(const View& view, Rows& rows);
  void ReadStatistic(const View& view, Rows& rows);
  void Write(const Output& output, std::int64_t* shape, std::int32_t ndim);

  const isonorm_tensor* get() const { return present_ ? &tensor_ : nullptr; }

 private:
  void Read(const View& view, std::int64_t* shape, std::int32_t ndim);
  void Copy(const View& view);

  bool present_ = false;
  isonorm_tensor tensor_{};
  std::array<std::int64_t, kMaxDims> strides_{};
  Handle copy_;
};

// Do statistics of another library, which may be rounded, lie where the C ABI uses them as they are (docs/numerics.md, 4)?
bool IsUsableRstd(const isonorm_tensor& rstd, std::int64_t count);
bool IsUsableMean(const isonorm_tensor& mean, std::int64_t count);

}  // namespace isonorm_torch
