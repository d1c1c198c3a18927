#include "value.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>

#include "../base/huge_pages.h"

namespace isonorm_torch {
namespace {

// Torch's numbers of types, which are no part of its ABI, beside ours.
struct Dtypes {
  struct Pair {
    std::int32_t torch;
    isonorm_dtype own;
  };
  const std::array<Pair, 10> all{{
      {aoti_torch_dtype_float32(), ISONORM_F32},
      {aoti_torch_dtype_bfloat16(), ISONORM_BF16},
      {aoti_torch_dtype_float16(), ISONORM_F16},
      {aoti_torch_dtype_float64(), ISONORM_F64},
      {aoti_torch_dtype_int8(), ISONORM_I8},
      {aoti_torch_dtype_float8_e4m3fn(), ISONORM_E4M3},
      {aoti_torch_dtype_float8_e5m2(), ISONORM_E5M2},
      {aoti_torch_dtype_int32(), ISONORM_I32},
      {aoti_torch_dtype_int64(), ISONORM_I64},
      {aoti_torch_dtype_uint8(), ISONORM_U8},
  }};
};

const Dtypes dtypes;
const std::int32_t cpu = aoti_torch_device_type_cpu();

// Copies are no part of a graph.
class NoGrad {
 public:
  NoGrad() : enabled_(aoti_torch_grad_mode_is_enabled()) { aoti_torch_grad_mode_set_enabled(false); }
  ~NoGrad() { aoti_torch_grad_mode_set_enabled(enabled_); }

 private:
  bool enabled_;
};

void CompactStrides(std::int64_t ndim, const std::int64_t* sizes, std::int64_t* strides) {
  std::uint64_t stride = 1;  // a size that is too large is for torch to refuse
  for (std::int64_t i = ndim; i-- > 0;) {
    strides[i] = static_cast<std::int64_t>(stride);
    stride *= static_cast<std::uint64_t>(std::max<std::int64_t>(sizes[i], 1));
  }
}

isonorm_tensor Described(void* data, std::int64_t ndim, std::int64_t* sizes, std::int64_t* strides, std::int32_t dtype) {
  return {data, {ISONORM_DEVICE_CPU, 0}, static_cast<std::int32_t>(ndim), DtypeOf(dtype), sizes, strides, 0};
}

std::int64_t Product(const std::int64_t* sizes, std::int64_t count) {
  std::uint64_t product = 1;
  for (std::int64_t i = 0; i < count; ++i) product *= static_cast<std::uint64_t>(sizes[i]);
  return static_cast<std::int64_t>(product);
}

}  // namespace

Handle Empty(std::int64_t ndim, const std::int64_t* sizes, std::int32_t dtype) {
  std::int64_t strides[kMaxTorchDims + 1] = {};
  CompactStrides(ndim, sizes, strides);
  AtenTensorHandle tensor = nullptr;
  CheckTorch(aoti_torch_empty_strided(ndim, sizes, strides, dtype, cpu, 0, &tensor));
  Handle handle(tensor);
  const std::int64_t bytes = Product(sizes, ndim) * DtypeOf(dtype).bits / 8;
  if (bytes >= isonorm_base::kLargeBytes) {
    void* data;
    CheckTorch(torch_get_mutable_data_ptr(tensor, &data));
    isonorm_base::AskForHugePages(data, bytes);
  }
  return handle;
}

void Check(isonorm_status status) {
  if (status == ISONORM_OK) return;
  std::string text = isonorm_last_error();
  // Chains are those of q and k.
  for (const auto& [from, to] : {std::pair<std::string, const char*>("In args.also", "In k"),
                                 {"In args and args.also", "In q and k"},
                                 {"In args", "In q"},
                                 {"shard.ranks", "the number of ranks in group"}}) {
    if (text.starts_with(from)) text.replace(0, from.size(), to);
  }
  throw std::runtime_error(text);
}

void CheckTorch(AOTITorchError error) {
  if (error == 0) return;
  const char* what = torch_exception_get_what_without_backtrace ? torch_exception_get_what_without_backtrace() : nullptr;
  throw std::runtime_error(what != nullptr ? what : "a function of torch failed; its message stands above");
}

isonorm_dtype DtypeOf(std::int32_t torch_dtype) {
  for (const auto& pair : dtypes.all) {
    if (pair.torch == torch_dtype) return pair.own;
  }
  return {255, 0, 0};  // no type of the C ABI, which says so
}

std::int32_t TorchDtype(isonorm_dtype dtype) {
  for (const auto& pair : dtypes.all) {
    if (pair.own.code == dtype.code && pair.own.bits == dtype.bits) return pair.torch;
  }
  throw std::runtime_error("torch has no such dtype");
}

std::int32_t ComputeDtype(std::int32_t torch_dtype) {
  return TorchDtype(DtypeOf(torch_dtype).bits == 64 ? ISONORM_F64 : ISONORM_F32);
}

std::optional<StableIValue> Arguments::Optional() {
  auto* const pointer = reinterpret_cast<StableIValue*>(*next_++);
  if (pointer == nullptr) return std::nullopt;
  const StableIValue value = *pointer;
  if (torch_delete_stable_ivalue) {
    torch_delete_stable_ivalue(pointer);
  } else {
    delete pointer;
  }
  return value;
}

Handle Arguments::OptionalTensor() {
  const auto value = Optional();
  return value ? Handle(reinterpret_cast<AtenTensorHandle>(*value)) : Handle();
}

void Arguments::SkipOptionalNumber() { static_cast<void>(Optional()); }

std::optional<std::int32_t> Arguments::OptionalDtype() {
  const auto value = Optional();
  return value ? std::optional(static_cast<std::int32_t>(*value)) : std::nullopt;
}

void Arguments::SkipList() { torch_delete_list(reinterpret_cast<StableListHandle>(*next_++)); }

std::int32_t Arguments::Choice() {
  using Limits = std::numeric_limits<std::int32_t>;
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(Int(), Limits::min(), Limits::max()));
}

double Arguments::Double() {
  double value;
  std::memcpy(&value, next_++, sizeof value);
  return value;
}

std::string Arguments::String() {
  const auto string = reinterpret_cast<StringHandle>(*next_++);
  const char* data = nullptr;
  std::size_t length = 0;
  torch_string_c_str(string, &data);
  torch_string_length(string, &length);
  std::string copy(data, length);
  torch_delete_string(string);
  return copy;
}

void Input::Read(const Handle& tensor, Fold fold) {
  if (!tensor) return;
  CheckTorch(aoti_torch_get_dim(tensor.get(), &ndim_));
  if (ndim_ > kMaxTorchDims) throw std::runtime_error("a tensor has more than 64 dimensions");
  CheckTorch(aoti_torch_get_sizes(tensor.get(), &sizes_));
  CheckTorch(aoti_torch_get_dtype(tensor.get(), &dtype_));
  std::int64_t* strides;
  CheckTorch(aoti_torch_get_strides(tensor.get(), &strides));
  const void* data;
  CheckTorch(torch_get_const_data_ptr(tensor.get(), &data));
  present_ = true;
  tensor_ = Described(const_cast<void*>(data), ndim_, sizes_, strides, dtype_);
  if (ndim_ == 0) return;
  const std::int64_t last = ndim_ - 1;
  if (ndim_ > kMaxDims) {
    if (fold == Fold::kNo) return;
    std::int64_t compact[kMaxTorchDims];
    CompactStrides(ndim_, sizes_, compact);
    bool lies_compact = true;
    for (std::int64_t i = 0; i < ndim_; ++i) lies_compact = lies_compact && (sizes_[i] == 1 || strides[i] == compact[i]);
    if (!lies_compact) Copy(tensor.get());
    FoldRows();
  } else if (strides[last] != 1 && strides[last] != 0) {
    if (sizes_[last] > 1) {
      Copy(tensor.get());
    } else {  // the stride of a dimension of one value means nothing
      std::copy_n(strides, ndim_, strides_.begin());
      strides_[static_cast<std::size_t>(last)] = 1;
      tensor_.strides = strides_.data();
    }
  }
}

void Input::ReadPerRow(const Handle& tensor, const Input& x, std::int64_t groups) {
  Read(tensor);
  if (!present_) return;
  const std::int64_t lead = x.ndim() - 1;
  if (ndim_ == 0 && lead == 0) {
    shape_[0] = 1;
    tensor_.ndim = 1;
    tensor_.shape = shape_.data();
    tensor_.strides = nullptr;
  } else if (lead >= kMaxDims && ndim_ == lead + (groups > 1 ? 1 : 0)) {
    Copy(tensor.get());
    shape_[0] = Product(sizes_, lead);
    shape_[1] = groups;
    tensor_.ndim = groups > 1 ? 2 : 1;
    tensor_.shape = shape_.data();
  }
}

void Input::Copy(AtenTensorHandle tensor) {
  if (tensor_.data == nullptr && Product(sizes_, ndim_) > 0) {  // torch would read it; the C ABI says what is wrong
    tensor_.strides = nullptr;
    return;
  }
  copy_ = Empty(ndim_, sizes_, dtype_);
  const NoGrad no_grad;
  CheckTorch(aoti_torch_copy_(copy_.get(), tensor, 0));
  CheckTorch(torch_get_mutable_data_ptr(copy_.get(), &tensor_.data));
  tensor_.strides = nullptr;
}

void Input::FoldRows() {
  shape_[0] = Product(sizes_, ndim_ - 1);
  shape_[1] = sizes_[ndim_ - 1];
  tensor_.ndim = 2;
  tensor_.shape = shape_.data();
  tensor_.strides = nullptr;
}

void Output::Allocate(std::int64_t ndim, const std::int64_t* sizes, std::int32_t dtype, Fold fold) {
  handle_ = Empty(ndim, sizes, dtype);
  void* data;
  CheckTorch(torch_get_mutable_data_ptr(handle_.get(), &data));
  if (ndim > kMaxDims && fold == Fold::kRows) {
    shape_[0] = Product(sizes, ndim - 1);
    shape_[1] = sizes[ndim - 1];
    ndim = 2;
  } else {
    ndim = std::min<std::int64_t>(ndim, kMaxDims);
    std::copy_n(sizes, ndim, shape_.begin());
  }
  tensor_ = Described(data, ndim, shape_.data(), nullptr, dtype);
}

void Output::PerRow(const Input& x, std::int64_t count, std::int32_t dtype) {
  std::int64_t sizes[kMaxTorchDims];
  const std::int64_t lead = std::max<std::int64_t>(x.ndim() - 1, 0);
  std::copy_n(x.sizes(), lead, sizes);
  sizes[lead] = count;
  Allocate(lead + (count > 0 ? 1 : 0), sizes, dtype);
  if (lead >= kMaxDims) {  // x was folded
    shape_[0] = Product(sizes, lead);
    shape_[1] = count;
    tensor_.ndim = count > 0 ? 2 : 1;
  } else if (tensor_.ndim == 0) {  // of a vector, for which the C ABI has [1]
    shape_[0] = 1;
    tensor_.ndim = 1;
  }
}

StableIValue Output::Release() {
  AtenTensorHandle tensor = handle_.release();
  if (tensor == nullptr) CheckTorch(aoti_torch_new_uninitialized_tensor(&tensor));
  return reinterpret_cast<StableIValue>(tensor);
}

}  // namespace isonorm_torch
