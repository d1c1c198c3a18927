// Kernels that take the places of torch's own on the CPU: what isonorm.torch.enable() registers and disable() takes away again.
//
// Each looks at its arguments where they lie on the stack. What the C ABI does not compute, or would compute otherwise than
// torch does, is handed on as it came to an operator of python/isonorm/torch/override.py that has torch's own kernel: to call
// the operator itself again would end here again.
#include <algorithm>
#include <cfloat>
#include <cstring>
#include <stdexcept>
#include <string>

#include "call.h"
#include "kernels.h"
#include "rows.h"

namespace isonorm_torch {
namespace {

constexpr isonorm_contract kRms = ISONORM_CONTRACT_TORCH;
constexpr isonorm_contract kLayer = ISONORM_CONTRACT_LAYER_NORM;

void ByTorch(const char* name, StableIValue* stack) {
  if (torch_call_dispatcher(name, "", stack, kBuiltFor) == 0) return;
  if (!torch_exception_get_what_without_backtrace) return CheckTorch(1);
  // The operator is Python's, which puts the name of the exception before torch's text, and its own lines after it.
  std::string text = torch_exception_get_what_without_backtrace();
  const std::size_t colon = text.find(": ");
  if (colon != std::string::npos && text.find_first_of(" \n\"") > colon) text.erase(0, colon + 2);
  throw std::runtime_error(text.substr(0, text.find("\n\nAt:\n")));
}

double DoubleOf(StableIValue value) {
  double number;
  std::memcpy(&number, &value, sizeof number);
  return number;
}

// Is it one that the C ABI takes, in the compute type of x?
bool IsEps(double eps, const View& x) { return eps >= 0 && eps <= (x.IsF64() ? DBL_MAX : static_cast<double>(FLT_MAX)); }

// The output_mask of a backward.
class Mask {
 public:
  explicit Mask(StableIValue list) : list_(reinterpret_cast<StableListHandle>(list)) {}
  bool operator[](std::size_t index) const {
    StableIValue item;
    CheckTorch(torch_list_get_item(list_, index, &item));
    return (item & 0xff) != 0;
  }

 private:
  StableListHandle list_;
};

bool IsAbsentOrVectorOfType(const Rows& rows, const View& vector, const View& type) {
  return !vector.present || (rows.IsVector(vector) && SameType(vector, type));
}

struct Result {
  Output output;
  Operand operand;

  const isonorm_tensor* LikeX(Rows& rows, std::int32_t dtype) {
    output.Allocate(rows.torch_ndim(), rows.sizes(), dtype);
    operand.Write(output, rows.shape(), rows.ndim());
    return operand.get();
  }
  const isonorm_tensor* Statistic(Rows& rows, std::int32_t dtype) {
    output.Allocate(rows.torch_ndim(), rows.kept_sizes(), dtype);
    operand.Write(output, rows.statistic_shape(), rows.statistic_ndim());
    return operand.get();
  }
  const isonorm_tensor* Vector(Rows& rows, std::int32_t dtype) {
    output.Allocate(rows.normalized_ndim(), rows.normalized_sizes(), dtype);
    operand.Write(output, rows.vector_shape(), 1);
    return operand.get();
  }
};

// Torch's result has the memory format of such an x: suggest_memory_format() of c10/core/TensorImpl.h decides.
bool IsChannelsLast(const View& x) {
  if ((x.ndim != 4 && x.ndim != 5) || x.strides[1] == 0) return false;
  std::int64_t least = 0;
  const auto next_lies_around = [&](std::int64_t dim) {
    if (x.sizes[dim] == 0 || x.strides[dim] < least || (dim == 0 && least == x.strides[1])) return false;
    least = x.strides[dim] * std::max<std::int64_t>(x.sizes[dim], 1);
    return true;
  };
  if (!next_lies_around(1)) return false;
  for (std::int64_t dim = x.ndim - 1; dim > 1; --dim) {
    if (!next_lies_around(dim)) return false;
  }
  return next_lies_around(0);
}

// (Tensor input, int[] normalized_shape, Tensor? weight, float? eps) -> (Tensor, Tensor)
void FusedRmsNorm(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const View x = View::Of(stack[0]), weight = View::OfOptional(stack[2]);
  const auto* const given_eps = reinterpret_cast<const StableIValue*>(stack[3]);
  const double eps = given_eps != nullptr ? DoubleOf(*given_eps) : x.IsF64() ? DBL_EPSILON : static_cast<double>(FLT_EPSILON);
  Rows rows;
  if (!rows.Read(x, stack[1]) || !IsAbsentOrVectorOfType(rows, weight, x) || !IsEps(eps, x) || IsChannelsLast(x)) {
    return ByTorch("isonorm::_torch_fused_rms_norm", stack);
  }
  Arguments a(stack);
  const Handle x_handle = a.Tensor();
  a.SkipList();
  const Handle weight_handle = a.OptionalTensor();
  a.SkipOptionalNumber();

  Operand x_operand, weight_operand;
  x_operand.ReadRows(x, rows);
  weight_operand.ReadVector(weight, rows);
  Result y, rstd;
  const Executor executor;
  auto args = Sized<isonorm_forward_args>();
  args.x = x_operand.get();
  args.weight = weight_operand.get();
  args.y = y.LikeX(rows, x.torch_dtype);
  args.rstd = rstd.Statistic(rows, ComputeDtype(x.torch_dtype));
  args.executor = executor.get();
  Check(isonorm_forward(&kRms, eps, &args));
  stack[0] = y.output.Release();
  stack[1] = rstd.output.Release();
}

bool IsStatistic(const Rows& rows, const View& x, const View& statistic) {
  if (!statistic.readable || statistic.IsF64() != x.IsF64()) return false;
  std::int64_t count = 1;
  for (std::int64_t i = 0; i < statistic.ndim; ++i) count *= statistic.sizes[i];
  return count == rows.rows();
}

// What the two backwards share.
class BackwardCall {
 public:
  BackwardCall(const View& dy, const View& x, const View& weight) : dy_(dy), x_(x), weight_(weight) {}

  bool Accepts(StableIValue normalized_shape, const View& rstd) {
    return rows.Read(x_, normalized_shape) && rows.IsLikeX(dy_) && dy_.IsF64() == x_.IsF64() &&
           (!weight_.present || (rows.IsVector(weight_) && weight_.IsF64() == x_.IsF64())) && IsStatistic(rows, x_, rstd) &&
           ReadRstd(rstd);
  }

  void Run(const isonorm_contract& contract, const isonorm_tensor* mean, bool want_dx, bool want_dweight,
           const View* bias_if_wanted) {
    dy_operand_.ReadRows(dy_, rows);
    x_operand_.ReadRows(x_, rows);
    weight_operand_.ReadVector(weight_, rows);
    const Executor executor;
    auto args = Sized<isonorm_backward_args>();
    args.dy = dy_operand_.get();
    args.x = x_operand_.get();
    args.weight = weight_operand_.get();
    args.mean = mean;
    args.rstd = rstd_operand_.get();
    if (want_dx) args.dx = dx.LikeX(rows, x_.torch_dtype);
    if (want_dweight) args.dweight = dweight.Vector(rows, weight_.torch_dtype);
    if (bias_if_wanted != nullptr) args.dbias = dbias.Vector(rows, bias_if_wanted->torch_dtype);
    args.executor = executor.get();
    if (want_dx || want_dweight || bias_if_wanted != nullptr) {
      // eps is not known here, nor looked at, as all statistics are used as they are.
      Check(WithWorkspace(contract, 0.0, args, isonorm_backward_workspace, isonorm_backward));
    }
  }

  Rows rows;
  Result dx, dweight, dbias;

 private:
  bool ReadRstd(const View& rstd) {
    rstd_operand_.ReadStatistic(rstd, rows);
    return IsUsableRstd(*rstd_operand_.get(), rows.rows());
  }

  const View &dy_, &x_, &weight_;
  Operand dy_operand_, x_operand_, weight_operand_, rstd_operand_;
};

// (Tensor grad_out, Tensor input, int[] normalized_shape, Tensor rstd, Tensor? weight, bool[2] output_mask) -> (Tensor, Tensor)
void FusedRmsNormBackward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const View dy = View::Of(stack[0]), x = View::Of(stack[1]), rstd = View::Of(stack[3]), weight = View::OfOptional(stack[4]);
  const Mask mask(stack[5]);
  BackwardCall call(dy, x, weight);
  if (!call.Accepts(stack[2], rstd)) return ByTorch("isonorm::_torch_fused_rms_norm_backward", stack);
  const bool want_dx = mask[0], want_dweight = mask[1] && weight.present;
  Arguments a(stack);
  const Handle dy_handle = a.Tensor(), x_handle = a.Tensor();
  a.SkipList();
  const Handle rstd_handle = a.Tensor(), weight_handle = a.OptionalTensor();
  a.SkipList();

  call.Run(kRms, nullptr, want_dx, want_dweight, nullptr);
  stack[0] = call.dx.output.Release();
  stack[1] = call.dweight.output.Release();
}

// (Tensor input, SymInt[] normalized_shape, Tensor? weight, Tensor? bias, float eps) -> (Tensor, Tensor, Tensor)
void NativeLayerNorm(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const View x = View::Of(stack[0]), weight = View::OfOptional(stack[2]), bias = View::OfOptional(stack[3]);
  const double eps = DoubleOf(stack[4]);
  // Weight and bias are of one type: x's, or f32 beside an x of 16 bits. Statistics are of that type, too.
  const View& type = weight.present ? weight : bias.present ? bias : x;
  Rows rows;
  if (!rows.Read(x, stack[1]) || !IsAbsentOrVectorOfType(rows, weight, type) || !IsAbsentOrVectorOfType(rows, bias, type) ||
      !(SameType(type, x) || (x.dtype.bits == 16 && type.dtype.bits == 32)) || !IsEps(eps, x)) {
    return ByTorch("isonorm::_torch_native_layer_norm", stack);
  }
  Arguments a(stack);
  const Handle x_handle = a.Tensor();
  a.SkipList();
  const Handle weight_handle = a.OptionalTensor(), bias_handle = a.OptionalTensor();

  Operand x_operand, weight_operand, bias_operand;
  x_operand.ReadRows(x, rows);
  weight_operand.ReadVector(weight, rows);
  bias_operand.ReadVector(bias, rows);
  Result y, mean, rstd;
  const Executor executor;
  auto args = Sized<isonorm_forward_args>();
  args.x = x_operand.get();
  args.weight = weight_operand.get();
  args.bias = bias_operand.get();
  args.y = y.LikeX(rows, x.torch_dtype);
  args.mean = mean.Statistic(rows, type.torch_dtype);
  args.rstd = rstd.Statistic(rows, type.torch_dtype);
  args.executor = executor.get();
  Check(isonorm_forward(&kLayer, eps, &args));
  stack[0] = y.output.Release();
  stack[1] = mean.output.Release();
  stack[2] = rstd.output.Release();
}

// (Tensor grad_out, Tensor input, SymInt[] normalized_shape, Tensor mean, Tensor rstd, Tensor? weight, Tensor? bias,
//  bool[3] output_mask) -> (Tensor, Tensor, Tensor)
void NativeLayerNormBackward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const View dy = View::Of(stack[0]), x = View::Of(stack[1]), mean = View::Of(stack[3]), rstd = View::Of(stack[4]),
             weight = View::OfOptional(stack[5]), bias = View::OfOptional(stack[6]);
  const Mask mask(stack[7]);
  BackwardCall call(dy, x, weight);
  Operand mean_operand;
  const auto is_mean_usable = [&] {
    if (!IsStatistic(call.rows, x, mean)) return false;
    mean_operand.ReadStatistic(mean, call.rows);
    return IsUsableMean(*mean_operand.get(), call.rows.rows());
  };
  const bool want_dx = mask[0], want_dweight = mask[1], want_dbias = mask[2];
  if (!call.Accepts(stack[2], rstd) || !is_mean_usable() || (want_dweight && !weight.present) ||
      (want_dbias && (!call.rows.IsVector(bias) || bias.IsF64() != x.IsF64()))) {
    return ByTorch("isonorm::_torch_native_layer_norm_backward", stack);
  }
  Arguments a(stack);
  const Handle dy_handle = a.Tensor(), x_handle = a.Tensor();
  a.SkipList();
  const Handle mean_handle = a.Tensor(), rstd_handle = a.Tensor(), weight_handle = a.OptionalTensor(),
               bias_handle = a.OptionalTensor();
  a.SkipList();

  call.Run(kLayer, mean_operand.get(), want_dx, want_dweight, want_dbias ? &bias : nullptr);
  stack[0] = call.dx.output.Release();
  stack[1] = call.dweight.output.Release();
  stack[2] = call.dbias.output.Release();
}

struct Replacement {
  const char* name;
  Kernel* kernel;
  TorchLibraryHandle library;  // null: torch's own
};

Replacement replacements[] = {
    {"_fused_rms_norm", &FusedRmsNorm, nullptr},
    {"_fused_rms_norm_backward", &FusedRmsNormBackward, nullptr},
    {"native_layer_norm", &NativeLayerNorm, nullptr},
    {"native_layer_norm_backward", &NativeLayerNormBackward, nullptr},
};

}  // namespace
}  // namespace isonorm_torch

// Registers one of these kernels, or takes it away, which restores what was there. Returns false if torch refused. The caller
// sees to it that no two threads are in here.
extern "C" [[gnu::visibility("default")]] bool isonorm_torch_replace(const char* name, bool on) {
  using namespace isonorm_torch;
  for (Replacement& own : replacements) {
    if (std::strcmp(own.name, name) != 0) continue;
    if (on == (own.library != nullptr)) return true;
    if (!on) return aoti_torch_delete_library_object(std::exchange(own.library, nullptr)) == 0;
    if (aoti_torch_library_init_impl("aten", "CPU", "isonorm", 0, &own.library) != 0) return false;
    if (torch_library_impl(own.library, name, own.kernel, kBuiltFor) == 0) return true;
    aoti_torch_delete_library_object(std::exchange(own.library, nullptr));
    return false;
  }
  return false;
}
