// A call of TensorFlow as its kernels read it: tensors as the C ABI takes them, options, threads, errors.
#pragma once

#include <isonorm/isonorm.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "../base/fields.h"
#include "tf_c_api.h"

namespace isonorm_tensorflow {

using isonorm_base::Sized;

constexpr int kMaxDims = 7;  // of the C ABI
constexpr int kTfMaxDims = 254;

class Status {
 public:
  Status() : status_(TF_NewStatus()) {}
  Status(const Status&) = delete;
  Status& operator=(const Status&) = delete;
  ~Status() { TF_DeleteStatus(status_); }
  TF_Status* get() const { return status_; }
  void Check() const;  // throws what went wrong

 private:
  TF_Status* status_;
};

// What a call is told beside tensors, from the text that python/isonorm/tensorflow/_options.py makes of it.
struct Options {
  explicit Options(TF_OpKernelConstruction* construction);

  std::string subject;  // which of several norms errors are said of, or nothing
  isonorm_contract contract = Sized<isonorm_contract>();
  double eps = 0;
  std::int64_t groups = 1, window = 0;
  std::int32_t style = 0, position_dim = 0;
  std::int64_t position_offset = 0;
  std::uint32_t operands = 0, results = 0;  // bits: which of those there may be are there
};

// What the sizes of a tensor are: leading dimensions and columns, the former alone, or anything else.
enum class Shape { kRows, kPerRow, kAsIs };

// An input or an output. TensorFlow holds the memory of inputs until the kernel returns, and that of outputs longer.
struct Array {
  const isonorm_tensor* get() const { return present ? &tensor : nullptr; }  // null if absent

  bool present = false;
  int input = -1;  // its index, if it is one
  std::int64_t bytes = 0;
  isonorm_tensor tensor;
  std::array<std::int64_t, kMaxDims> shape;
};

// Threads of this process, as TensorFlow lends none by its C API: at most so many, 0: one for each CPU.
class Executor {
 public:
  static void SetThreads(int threads);
  explicit Executor(std::int64_t bytes);
  const isonorm_executor* get() const { return parallel_ ? &executor_ : nullptr; }

 private:
  bool parallel_ = false;
  isonorm_executor executor_;
};

// Inputs and outputs in their order. The first input is there in every call, and has the shape of all rows.
class Call {
 public:
  Call(const Options& options, TF_OpKernelContext* context) : options_(options), context_(context) {}

  void First(Array& array, const char* name) { Read(array, name, Shape::kRows); }
  void Operand(int bit, Array& array, const char* name, Shape shape);  // if its bit is set
  // In the memory of one of those inputs, if nobody else needs it.
  void Rows(Array& array, std::initializer_list<const Array*> reusable);
  void Result(int bit, Array& array, Shape shape, const Array* like = nullptr);  // if its bit is set

 private:
  void Read(Array& array, const char* name, Shape shape);
  void Write(Array& array, const std::int64_t* dims, int ndim, Shape shape, std::initializer_list<const Array*> reusable);
  void Describe(Array& array, void* data, TF_DataType type, const std::int64_t* dims, int ndim, Shape shape) const;

  const Options& options_;
  TF_OpKernelContext* context_;
  Status status_;
  int next_input_ = 0, next_output_ = 0;
  int ndim_ = 0, folded_ = 0;  // of rows, and how many of these dimensions are more than the C ABI has
  std::array<std::int64_t, kTfMaxDims> dims_;
};

// The tables of a rotation.
struct Rope {
  void Read(Call& call, const Options& options, int first_bit);
  const isonorm_rope* get() const { return rope.cos == nullptr ? nullptr : &rope; }  // null without tables

  Array cos, sin, positions;
  isonorm_rope rope = Sized<isonorm_rope>();
};

void Check(isonorm_status status);  // throws the sentence of the library's last error

}  // namespace isonorm_tensorflow
