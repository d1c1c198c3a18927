// A call of XLA as its handlers read it: buffers as the C ABI takes them, attributes, XLA's threads, errors.
#pragma once

#include <isonorm/isonorm.h>
#include <xla/ffi/api/c_api.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "../base/fields.h"

namespace isonorm_jax {

using isonorm_base::Sized;

constexpr int kMaxDims = 7;  // of the C ABI

// How an array becomes the tensor of a call. Rows of x lie one after the other, so that all leading dimensions are one, but where
// a rotation looks at them.
enum class Shape { kAsIs, kRows, kPerRow, kPerGroup };

// An operand or a result, of all items of a batch. XLA hands out buffers that are compact and row-major.
class Array {
 public:
  Array() = default;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  void Read(const XLA_FFI_Buffer& buffer, bool per_item, Shape shape);
  void Select(std::int64_t item) {
    if (present_) tensor_.data = static_cast<std::byte*>(data_) + item * step_;
  }
  const isonorm_tensor* get() const { return present_ ? &tensor_ : nullptr; }  // null if absent
  std::int64_t bytes() const { return bytes_; }                                // of one item

 private:
  bool present_ = false;
  void* data_ = nullptr;
  std::int64_t bytes_ = 0, step_ = 0;
  isonorm_tensor tensor_;
  std::array<std::int64_t, kMaxDims> shape_;
};

// Numbers of a call, as python/isonorm/jax/_options.py packs them into two arrays: to decode an attribute costs XLA more than a
// short row costs us.
enum Integer {
  kContract,                // seven choices
  kGroups = kContract + 7,  // columns apart
  kWindow,                  // 0: all
  kStyle,                   // of a rotation
  kPositionDim,
  kPositionOffset,
  kRanks,      // that share every row
  kPartRows,   // behind each of the gradients that are combined
  kScaleKind,  // of a quantised result; 0: none
  kRoundedTo,  // 0: nothing, 1: bf16, 2: f16
  kGroupCols,
  kOperands,  // bits: which operands are there
  kPerItem,   // which of them has a leading dimension of items, each a call of its own
  kResults,   // which results are wanted, which all have items if any operand has
  kIntegers,
};
enum Number { kEps, kWeightOffset, kMinScale, kScaleUb, kScale, kLambda, kNumbers };

// XLA's threads. A task that waits in XLA's queue is not waited for: whoever calls runs what nobody else has begun.
class Executor {
 public:
  Executor(const XLA_FFI_CallFrame& frame, std::int64_t bytes);
  const isonorm_executor* get() const { return executor_.concurrency > 1 ? &executor_ : nullptr; }

 private:
  isonorm_executor executor_;
};

class Call {
 public:
  explicit Call(const XLA_FFI_CallFrame& frame);

  const isonorm_contract& contract() const { return contract_; }
  double eps() const { return numbers_[kEps]; }
  std::int64_t operator[](Integer number) const { return integers_[number]; }
  double operator[](Number number) const { return numbers_[number]; }

  // The operands and results in the order of their bits. Those that are not there are left alone.
  void Operand(int bit, Array& array, Shape shape);
  void Result(int bit, Array& array, Shape shape);
  Shape rows() const { return rope_ ? Shape::kAsIs : Shape::kRows; }
  Shape per_scale() const { return rope_ ? Shape::kAsIs : integers_[kGroupCols] > 0 ? Shape::kPerGroup : Shape::kPerRow; }
  Shape per_row() const { return rope_ ? Shape::kAsIs : integers_[kGroups] > 1 ? Shape::kPerGroup : Shape::kPerRow; }
  std::int64_t items() const { return items_; }

 private:
  const XLA_FFI_CallFrame& frame_;
  const std::int64_t* integers_;
  const double* numbers_;
  isonorm_contract contract_;
  bool rope_;
  std::int64_t items_ = 1;
  int next_operand_ = 0, next_result_ = 0;
};

// The operands that calls of rows have in common, by their bits.
void Read(Call& call, isonorm_base::ForwardInputs<Array>& in);
void Read(Call& call, isonorm_base::BackwardInputs<Array>& in);

// How y is quantised, and a static scale, which is part of the program.
class Quantization {
 public:
  explicit Quantization(const Call& call);
  Quantization(const Quantization&) = delete;
  Quantization& operator=(const Quantization&) = delete;

  const isonorm_quantization* get() const { return quantization_.scale_kind == 0 ? nullptr : &quantization_; }
  const isonorm_tensor* scale() const { return quantization_.scale_kind == ISONORM_SCALE_STATIC ? &tensor_ : nullptr; }

 private:
  isonorm_quantization quantization_;
  float scale_;
  std::int64_t one_ = 1;
  isonorm_tensor tensor_;
};

// The tables of a rotation.
struct Rope {
  Array cos, sin, positions;
  isonorm_rope rope = Sized<isonorm_rope>();

  void Read(Call& call, int first_bit);
  const isonorm_rope* Select(std::int64_t item);  // null without tables
};

// Null, or the sentence of the library's last error.
XLA_FFI_Error* Checked(const XLA_FFI_CallFrame& frame, isonorm_status status);

// What a handler does when XLA calls it, also to ask for which version it was made; exceptions become errors.
XLA_FFI_Error* Run(XLA_FFI_Error* (*handler)(const XLA_FFI_CallFrame&), const XLA_FFI_CallFrame* frame);

}  // namespace isonorm_jax

#define ISONORM_HANDLER extern "C" __attribute__((visibility("default"))) XLA_FFI_Error*
