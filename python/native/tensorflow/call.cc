#include "call.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <isonorm/thread_pool.hpp>
#include <stdexcept>
#include <string>

#include "../base/huge_pages.h"

namespace isonorm_tensorflow {
namespace {

using Holder = std::unique_ptr<TF_Tensor, decltype([](TF_Tensor* tensor) {
                                 if (tensor != nullptr) TF_DeleteTensor(tensor);
                               })>;

std::atomic<int> most_threads = 0;

isonorm_dtype DtypeOf(TF_DataType type) {
  switch (type) {
    case TF_FLOAT: return ISONORM_F32;
    case TF_BFLOAT16: return ISONORM_BF16;
    case TF_HALF: return ISONORM_F16;
    case TF_DOUBLE: return ISONORM_F64;
    case TF_INT32: return ISONORM_I32;
    case TF_INT64: return ISONORM_I64;
    default: return {255, 8, 1};  // which the C ABI refuses by name of the argument
  }
}

std::string Attribute(TF_OpKernelConstruction* construction, const char* name) {
  const Status status;
  std::int32_t entries = 0, size = 0;
  TF_OpKernelConstruction_GetAttrSize(construction, name, &entries, &size, status.get());
  status.Check();
  std::string text(static_cast<std::size_t>(size), '\0');
  TF_OpKernelConstruction_GetAttrString(construction, name, text.data(), text.size(), status.get());
  status.Check();
  return text;
}

std::string Text(const std::int64_t* dims, int ndim) {
  std::string text = "(";
  for (int i = 0; i < ndim; ++i) text += std::to_string(dims[i]) + (i + 1 < ndim ? ", " : ndim == 1 ? "," : "");
  return text + ")";
}

}  // namespace

void Check(isonorm_status status) {
  if (status != ISONORM_OK) throw std::runtime_error(isonorm_last_error());
}

void Status::Check() const {
  if (TF_GetCode(status_) != TF_OK) throw std::runtime_error(TF_Message(status_));
}

Options::Options(TF_OpKernelConstruction* construction) : subject(Attribute(construction, "subject")) {
  const std::string text = Attribute(construction, "options");
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto unknown = [&] {
    throw std::runtime_error("isonorm.tensorflow does not know the options '" + text +
                             "': they are of a graph that another version made");
  };
  const auto next = [&](auto& number) {
    const auto read = std::from_chars(at, end, number);
    if (read.ec != std::errc() || (read.ptr != end && *read.ptr != ',')) unknown();
    at = read.ptr == end ? end : read.ptr + 1;
  };
  next(eps);
  for (std::int32_t* field : {&contract.statistic, &contract.eps_place, &contract.scaled_rounding, &contract.sum_rounding,
                              &contract.gate_place, &contract.gate_function, &contract.rotation_rounding}) {
    next(*field);
  }
  next(contract.weight_offset);
  next(groups);
  next(window);
  next(style);
  next(position_dim);
  next(position_offset);
  next(operands);
  next(results);
  if (at != end) unknown();
}

void Executor::SetThreads(int threads) { most_threads = threads; }

Executor::Executor(std::int64_t bytes) {
  const int most = most_threads;
  if (bytes < isonorm_base::kFewBytes || most == 1) return;
  executor_ = *isonorm::thread_pool::shared().executor();
  if (most > 0) executor_.concurrency = std::min(executor_.concurrency, most);
  parallel_ = true;
}

void Call::Describe(Array& array, void* data, TF_DataType type, const std::int64_t* dims, int ndim, Shape shape) const {
  array.present = true;
  array.tensor = {data, {ISONORM_DEVICE_CPU, 0}, ndim, DtypeOf(type), array.shape.data(), nullptr, 0};
  array.bytes = array.tensor.dtype.bits / 8;
  for (int i = 0; i < ndim; ++i) array.bytes *= dims[i];
  const int folded = shape == Shape::kAsIs ? 0 : folded_;
  std::copy_n(dims + folded, std::min(ndim - folded, kMaxDims), array.shape.begin());
  for (int i = 0; i < folded; ++i) array.shape[0] *= dims[i];
  array.tensor.ndim -= folded;
  if (shape == Shape::kPerRow && ndim == 0) {  // of a vector
    array.shape[0] = array.tensor.ndim = 1;
  }
}

void Call::Read(Array& array, const char* name, Shape shape) {
  array.input = next_input_++;
  TF_Tensor* tensor = nullptr;
  TF_GetInput(context_, array.input, &tensor, status_.get());
  status_.Check();
  const Holder holder(tensor);  // for this function alone: of what is held there are two, and nobody may write over it
  const bool first = array.input == 0;
  std::array<std::int64_t, kTfMaxDims> own;
  std::int64_t* const dims = first ? dims_.data() : own.data();
  const int ndim = TF_NumDims(tensor);
  for (int i = 0; i < ndim; ++i) dims[i] = TF_Dim(tensor, i);
  if (first) {
    ndim_ = ndim;
    folded_ = options_.style == 0 ? std::max(ndim - kMaxDims, 0) : 0;  // a rotation looks at all of them
  } else if (shape == Shape::kRows && folded_ > 0 && !std::equal(dims, dims + ndim, dims_.data(), dims_.data() + ndim_)) {
    throw std::runtime_error(std::string(name) + " has shape " + Text(dims, ndim) + ", but must have " +
                             Text(dims_.data(), ndim_) + ".");
  }
  Describe(array, TF_TensorData(tensor), TF_TensorType(tensor), dims, ndim, shape);
}

void Call::Operand(int bit, Array& array, const char* name, Shape shape) {
  if ((options_.operands >> bit & 1) != 0) Read(array, name, shape);
}

void Call::Write(Array& array, const std::int64_t* dims, int ndim, Shape shape, std::initializer_list<const Array*> reusable) {
  const int output = next_output_++;
  std::array<int, 4> inputs{};
  int count = 0, taken = -1;
  for (const Array* input : reusable) {
    if (input->present) inputs[static_cast<std::size_t>(count++)] = input->input;
  }
  const Holder tensor(
      TF_ForwardInputOrAllocateOutput(context_, inputs.data(), count, output, dims, ndim, &taken, status_.get()));
  status_.Check();
  Describe(array, TF_TensorData(tensor.get()), TF_TensorType(tensor.get()), dims, ndim, shape);
  if (taken < 0) isonorm_base::AskForHugePages(array.tensor.data, array.bytes);
}

void Call::Rows(Array& array, std::initializer_list<const Array*> reusable) {
  Write(array, dims_.data(), ndim_, Shape::kRows, reusable);
}

void Call::Result(int bit, Array& array, Shape shape, const Array* like) {
  if ((options_.results >> bit & 1) == 0) return;
  if (shape == Shape::kRows) {
    Write(array, dims_.data(), ndim_, shape, {});
  } else if (shape == Shape::kAsIs) {  // of a row, or as a vector that is given
    const std::int64_t cols = ndim_ > 0 ? dims_[static_cast<std::size_t>(ndim_) - 1] : 0;
    if (like != nullptr && like->present && like->tensor.ndim <= kMaxDims) {
      Write(array, like->shape.data(), like->tensor.ndim, shape, {});
    } else {
      Write(array, &cols, 1, shape, {});
    }
  } else {
    std::array<std::int64_t, kTfMaxDims> dims = dims_;
    int ndim = std::max(ndim_ - 1, 0);
    // What the library will refuse may be of any size.
    const std::int64_t cols = ndim_ > 0 ? dims_[static_cast<std::size_t>(ndim)] : 0;
    if (options_.groups > 1 && options_.groups <= cols) dims[static_cast<std::size_t>(ndim++)] = options_.groups;
    Write(array, dims.data(), ndim, shape, {});
  }
}

void Rope::Read(Call& call, const Options& options, int first_bit) {
  call.Operand(first_bit, cos, "cos", Shape::kAsIs);
  call.Operand(first_bit + 1, sin, "sin", Shape::kAsIs);
  call.Operand(first_bit + 2, positions, "positions", Shape::kAsIs);
  rope.style = options.style;
  rope.position_dim = options.position_dim;
  rope.position_offset = options.position_offset;
  rope.cos = cos.get();
  rope.sin = sin.get();
  rope.positions = positions.get();
}

}  // namespace isonorm_tensorflow
