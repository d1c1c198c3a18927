#include "frame.h"

#include <atomic>
#include <bit>
#include <exception>
#include <memory>
#include <stdexcept>

#include "../base/huge_pages.h"

namespace isonorm_jax {
namespace {

isonorm_dtype DtypeOf(XLA_FFI_DataType type) {
  switch (type) {
    case XLA_FFI_DataType_F32: return ISONORM_F32;
    case XLA_FFI_DataType_BF16: return ISONORM_BF16;
    case XLA_FFI_DataType_F16: return ISONORM_F16;
    case XLA_FFI_DataType_F64: return ISONORM_F64;
    case XLA_FFI_DataType_S8: return ISONORM_I8;
    case XLA_FFI_DataType_F8E4M3FN: return ISONORM_E4M3;
    case XLA_FFI_DataType_F8E5M2: return ISONORM_E5M2;
    case XLA_FFI_DataType_F8E8M0FNU: return ISONORM_E8M0;
    case XLA_FFI_DataType_S32: return ISONORM_I32;
    case XLA_FFI_DataType_S64: return ISONORM_I64;
    default: return {255, 8, 1};  // which the C ABI refuses by name of the argument
  }
}

// Work of several threads. It lives until the last task that XLA's queue holds has looked at it.
class Region {
 public:
  Region(std::int64_t count, void (*task)(void*, std::int64_t), void* context)
      : count_(count), task_(task), context_(context) {}

  void Work() {
    for (std::int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) {
      task_(context_, i);
      if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) done_.notify_all();
    }
  }
  void Wait() {
    for (std::int64_t done; (done = done_.load(std::memory_order_acquire)) < count_;) done_.wait(done);
  }

 private:
  const std::int64_t count_;
  void (*const task_)(void*, std::int64_t);
  void* const context_;
  std::atomic<std::int64_t> next_ = 0, done_ = 0;
};

void Destroy(const XLA_FFI_CallFrame& frame, XLA_FFI_Error* error) {
  XLA_FFI_Error_Destroy_Args args{XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, nullptr, error};
  frame.api->XLA_FFI_Error_Destroy(&args);
}

void ParallelFor(void* context, std::int64_t count, void (*task)(void*, std::int64_t), void* task_context) {
  const XLA_FFI_CallFrame& frame = *static_cast<const XLA_FFI_CallFrame*>(context);
  using Holder = std::shared_ptr<Region>;
  const auto region = std::make_shared<Region>(count, task, task_context);
  for (std::int64_t i = 1; i < count; ++i) {
    auto holder = std::make_unique<Holder>(region);
    XLA_FFI_ThreadPool_Schedule_Args args{XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE, nullptr, frame.ctx,
                                          [](void* data) {
                                            const std::unique_ptr<Holder> own(static_cast<Holder*>(data));
                                            (*own)->Work();
                                          },
                                          holder.get()};
    if (XLA_FFI_Error* const error = frame.api->XLA_FFI_ThreadPool_Schedule(&args)) {
      Destroy(frame, error);
      break;
    }
    static_cast<void>(holder.release());
  }
  region->Work();
  region->Wait();
}

XLA_FFI_Error* Failure(const XLA_FFI_CallFrame& frame, const char* sentence) {
  XLA_FFI_Error_Create_Args args{XLA_FFI_Error_Create_Args_STRUCT_SIZE, nullptr, sentence, XLA_FFI_Error_Code_INVALID_ARGUMENT};
  return frame.api->XLA_FFI_Error_Create(&args);
}

// What XLA asks a handler before it ever calls it: which version it was made for. True if that was all.
bool Introduced(const XLA_FFI_CallFrame& frame) {
  if (frame.extension_start == nullptr || frame.extension_start->type != XLA_FFI_Extension_Metadata) return false;
  XLA_FFI_Metadata& metadata = *reinterpret_cast<XLA_FFI_Metadata_Extension*>(frame.extension_start)->metadata;
  metadata.api_version.major_version = XLA_FFI_API_MAJOR;
  metadata.api_version.minor_version = XLA_FFI_API_MINOR;
  metadata.traits = 0;
  return true;
}

}  // namespace

void Array::Read(const XLA_FFI_Buffer& buffer, bool per_item, Shape shape) {
  const std::int64_t* const dims = buffer.dims + (per_item ? 1 : 0);
  const std::int64_t rank = buffer.rank - (per_item ? 1 : 0), kept = shape == Shape::kPerRow ? 0 : 1;
  present_ = true;
  data_ = buffer.data;
  tensor_ = {data_, {ISONORM_DEVICE_CPU, 0}, 0, DtypeOf(buffer.dtype), shape_.data(), nullptr, 0};
  bytes_ = tensor_.dtype.bits / 8;
  for (std::int64_t i = 0; i < rank; ++i) bytes_ *= dims[i];
  step_ = per_item ? bytes_ : 0;
  if (shape == Shape::kAsIs) {
    tensor_.ndim = static_cast<std::int32_t>(rank);
    tensor_.shape = const_cast<std::int64_t*>(dims);
    return;
  }
  shape_[0] = 1;
  for (std::int64_t i = 0; i < rank - kept; ++i) shape_[0] *= dims[i];
  if (kept == 1) shape_[1] = dims[rank - 1];
  tensor_.ndim = static_cast<std::int32_t>(kept + 1);
}

Executor::Executor(const XLA_FFI_CallFrame& frame, std::int64_t bytes) : executor_(Sized<isonorm_executor>()) {
  executor_.concurrency = 1;
  if (bytes < isonorm_base::kFewBytes) return;
  std::int64_t threads = 1;
  XLA_FFI_ThreadPool_NumThreads_Args args{XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE, nullptr, frame.ctx, &threads};
  if (XLA_FFI_Error* const error = frame.api->XLA_FFI_ThreadPool_NumThreads(&args)) {
    Destroy(frame, error);
    return;
  }
  executor_.concurrency = static_cast<std::int32_t>(threads);
  executor_.context = const_cast<XLA_FFI_CallFrame*>(&frame);
  executor_.parallel_for = &ParallelFor;
}

Call::Call(const XLA_FFI_CallFrame& frame) : frame_(frame), contract_(Sized<isonorm_contract>()) {
  // Attributes are sorted by their names, integers and numbers.
  if (frame.attrs.size != 2) throw std::runtime_error("isonorm.jax and libisonorm_jax.so are of different versions");
  const auto& integers = *static_cast<const XLA_FFI_Array*>(frame.attrs.attrs[0]);
  const auto& numbers = *static_cast<const XLA_FFI_Array*>(frame.attrs.attrs[1]);
  integers_ = static_cast<const std::int64_t*>(integers.data);
  numbers_ = static_cast<const double*>(numbers.data);
  if (integers.size != kIntegers || numbers.size != kNumbers ||
      std::popcount(static_cast<std::uint64_t>(integers_[kOperands])) != frame.args.size ||
      std::popcount(static_cast<std::uint64_t>(integers_[kResults])) != frame.rets.size) {
    throw std::runtime_error("isonorm.jax and libisonorm_jax.so are of different versions");
  }
  const std::int64_t* next = integers_ + kContract;
  for (std::int32_t* field : {&contract_.statistic, &contract_.eps_place, &contract_.scaled_rounding, &contract_.sum_rounding,
                              &contract_.gate_place, &contract_.gate_function, &contract_.rotation_rounding}) {
    *field = static_cast<std::int32_t>(*next++);
  }
  contract_.weight_offset = numbers_[kWeightOffset];
  rope_ = integers_[kStyle] != 0;
}

void Call::Operand(int bit, Array& array, Shape shape) {
  if ((integers_[kOperands] >> bit & 1) == 0) return;
  const auto& buffer = *static_cast<const XLA_FFI_Buffer*>(frame_.args.args[next_operand_++]);
  const bool per_item = (integers_[kPerItem] >> bit & 1) != 0;
  if (per_item) items_ = buffer.dims[0];
  array.Read(buffer, per_item, shape);
}

void Call::Result(int bit, Array& array, Shape shape) {
  if ((integers_[kResults] >> bit & 1) == 0) return;
  const auto& buffer = *static_cast<const XLA_FFI_Buffer*>(frame_.rets.rets[next_result_++]);
  array.Read(buffer, integers_[kPerItem] != 0, shape);
  isonorm_base::AskForHugePages(buffer.data, array.bytes() * items_);
}

void Read(Call& call, isonorm_base::ForwardInputs<Array>& in) {
  call.Operand(0, in.x, call.rows());
  call.Operand(1, in.weight, Shape::kAsIs);
  call.Operand(2, in.bias, Shape::kAsIs);
  call.Operand(3, in.residual, call.rows());
  call.Operand(4, in.gate, call.rows());
}

void Read(Call& call, isonorm_base::BackwardInputs<Array>& in) {
  call.Operand(0, in.dy, call.rows());
  call.Operand(1, in.x, call.rows());
  call.Operand(2, in.weight, Shape::kAsIs);
  call.Operand(3, in.bias, Shape::kAsIs);
  call.Operand(4, in.residual, call.rows());
  call.Operand(5, in.residual_out, call.rows());
  call.Operand(6, in.dresidual, call.rows());
  call.Operand(7, in.gate, call.rows());
}

Quantization::Quantization(const Call& call)
    : quantization_(Sized<isonorm_quantization>()),
      scale_(static_cast<float>(call[kScale])),
      tensor_{&scale_, {ISONORM_DEVICE_CPU, 0}, 1, ISONORM_F32, &one_, nullptr, 0} {
  constexpr isonorm_dtype kTypes[] = {{0, 0, 0}, ISONORM_BF16, ISONORM_F16};
  quantization_.scale_kind = static_cast<std::int32_t>(call[kScaleKind]);
  quantization_.rounded_to = kTypes[call[kRoundedTo]];
  quantization_.group_cols = call[kGroupCols];
  quantization_.min_scale = call[kMinScale];
  quantization_.scale_ub = call[kScaleUb];
}

void Rope::Read(Call& call, int first_bit) {
  call.Operand(first_bit, cos, Shape::kAsIs);
  call.Operand(first_bit + 1, sin, Shape::kAsIs);
  call.Operand(first_bit + 2, positions, Shape::kAsIs);
  rope.style = static_cast<std::int32_t>(call[kStyle]);
  rope.position_dim = static_cast<std::int32_t>(call[kPositionDim]);
  rope.position_offset = call[kPositionOffset];
}

const isonorm_rope* Rope::Select(std::int64_t item) {
  for (Array* array : {&cos, &sin, &positions}) array->Select(item);
  rope.cos = cos.get();
  rope.sin = sin.get();
  rope.positions = positions.get();
  return rope.cos == nullptr ? nullptr : &rope;
}

XLA_FFI_Error* Checked(const XLA_FFI_CallFrame& frame, isonorm_status status) {
  return status == ISONORM_OK ? nullptr : Failure(frame, isonorm_last_error());
}

XLA_FFI_Error* Run(XLA_FFI_Error* (*handler)(const XLA_FFI_CallFrame&), const XLA_FFI_CallFrame* frame) {
  if (Introduced(*frame)) return nullptr;
  try {
    return handler(*frame);
  } catch (const std::exception& error) {
    return Failure(*frame, error.what());
  }
}

}  // namespace isonorm_jax
