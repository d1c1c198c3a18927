// Values of torch's operators in C++: arguments that are freed when they go out of scope, tensors as the C ABI takes them.
#pragma once

#include <isonorm/isonorm.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "shim.h"

namespace isonorm_torch {

// std::runtime_error, which users see as RuntimeError, with the sentence of the library, or of torch.
void Check(isonorm_status status);
void CheckTorch(AOTITorchError error);

// Owns a tensor; may be empty.
class Handle {
 public:
  Handle() = default;
  explicit Handle(AtenTensorHandle tensor) : tensor_(tensor) {}
  Handle(Handle&& other) noexcept : tensor_(std::exchange(other.tensor_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(tensor_, other.tensor_);
    return *this;
  }
  ~Handle() {
    if (tensor_ != nullptr) aoti_torch_delete_tensor_object(tensor_);
  }
  AtenTensorHandle get() const { return tensor_; }
  AtenTensorHandle release() { return std::exchange(tensor_, nullptr); }
  explicit operator bool() const { return tensor_ != nullptr; }

 private:
  AtenTensorHandle tensor_ = nullptr;
};

// A fresh tensor in this CPU's memory, compact and row-major.
Handle Empty(std::int64_t ndim, const std::int64_t* sizes, std::int32_t dtype);

// Takes the arguments of a kernel from its stack, in the order of the schema. Nothing here throws, so that a kernel owns all of
// them before anything can go wrong.
class Arguments {
 public:
  explicit Arguments(StableIValue* stack) : next_(stack) {}
  Handle Tensor() { return Handle(reinterpret_cast<AtenTensorHandle>(*next_++)); }
  Handle OptionalTensor();
  void SkipOptionalNumber();
  void SkipList();
  std::int64_t Int() { return static_cast<std::int64_t>(*next_++); }
  // Cut to 32 bits where it is larger, which no choice allows.
  std::int32_t Choice();
  bool Bool() { return (*next_++ & 0xff) != 0; }
  double Double();
  std::optional<std::int32_t> OptionalDtype();
  std::string String();

 private:
  std::optional<StableIValue> Optional();

  StableIValue* next_;
};

constexpr int kMaxDims = 7;        // of the C ABI
constexpr int kMaxTorchDims = 64;  // of torch's own operators

// What a tensor with more dimensions than the C ABI takes becomes: [rows, cols], or an error of the C ABI.
enum class Fold { kNo, kRows };

// An argument as the C ABI reads it: as it lies, or a contiguous copy where the last dimension has another stride than 1 or 0,
// or where there are more than 7 dimensions that do not lie one after the other.
class Input {
 public:
  Input() = default;
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  // The tensor must outlive this. An empty handle, and an undefined tensor, is an absent argument.
  void Read(const Handle& tensor, Fold fold = Fold::kNo);

  // Numbers of each row of x, as Output::PerRow() lays them out.
  void ReadPerRow(const Handle& tensor, const Input& x, std::int64_t groups);

  const isonorm_tensor* get() const { return present_ ? &tensor_ : nullptr; }  // null if absent
  // Those of torch's tensor.
  std::int64_t ndim() const { return ndim_; }
  const std::int64_t* sizes() const { return sizes_; }
  std::int32_t dtype() const { return dtype_; }

 private:
  void Copy(AtenTensorHandle tensor);
  void FoldRows();

  bool present_ = false;
  isonorm_tensor tensor_;
  std::int64_t ndim_ = 0;
  std::int64_t* sizes_ = nullptr;
  std::int32_t dtype_ = 0;
  Handle copy_;
  std::array<std::int64_t, kMaxDims> shape_, strides_;
};

// A fresh result, compact and row-major.
class Output {
 public:
  Output() = default;
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  // Of x's shape.
  void Like(const Input& x, std::int32_t dtype) { Allocate(x.ndim(), x.sizes(), dtype, Fold::kRows); }
  // Numbers of each row of x: its shape without the last dimension, and then a last one of `count`, unless that is 0.
  void PerRow(const Input& x, std::int64_t count, std::int32_t dtype);
  void Allocate(std::int64_t ndim, const std::int64_t* sizes, std::int32_t dtype, Fold fold = Fold::kNo);

  const isonorm_tensor* get() const { return handle_ ? &tensor_ : nullptr; }  // null if absent
  // For the stack; an undefined tensor, which is None in Python, if absent.
  StableIValue Release();

 private:
  Handle handle_;
  isonorm_tensor tensor_;
  std::array<std::int64_t, kMaxDims> shape_;
};

std::int32_t TorchDtype(isonorm_dtype dtype);
isonorm_dtype DtypeOf(std::int32_t torch_dtype);
// The type of statistics of an x: f64 for f64, else f32.
std::int32_t ComputeDtype(std::int32_t torch_dtype);

}  // namespace isonorm_torch
