#include "rows.h"

#include <algorithm>

namespace isonorm_torch {
namespace {

const std::int32_t cpu = aoti_torch_device_type_cpu();
const std::int32_t strided = aoti_torch_layout_strided();

bool IsFloat(isonorm_dtype dtype) {
  return (dtype.code == ISONORM_CODE_FLOAT && (dtype.bits == 16 || dtype.bits == 32 || dtype.bits == 64)) ||
         (dtype.code == ISONORM_CODE_BFLOAT && dtype.bits == 16);
}

// Numbers that are not negative have the order of their bits, below those of infinity and NaN.
template <class Bits>
bool AllWithin(const isonorm_tensor& tensor, std::int64_t count, Bits mask, Bits low, Bits high) {
  const auto* values = static_cast<const Bits*>(tensor.data);
  bool within = true;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto bits = static_cast<Bits>(values[i] & mask);
    within = within & (bits >= low) & (bits <= high);
  }
  return within;
}

// Are all values, without their signs if the mask says so, from 2^low to 2^high, or from 0 where low is too small?
bool AllWithin(const isonorm_tensor& tensor, std::int64_t count, bool with_sign, int low, int high) {
  const auto biased = [](int exponent, int bias) { return static_cast<std::uint64_t>(std::max(exponent + bias, 0)); };
  const std::uint64_t mask = with_sign ? ~0ULL : ~0ULL >> 1;
  switch (tensor.dtype.bits) {
    case 64: return AllWithin<std::uint64_t>(tensor, count, mask, biased(low, 1023) << 52, biased(high, 1023) << 52);
    case 32:
      return AllWithin<std::uint32_t>(tensor, count, static_cast<std::uint32_t>(mask >> 32),
                                      static_cast<std::uint32_t>(biased(low, 127) << 23),
                                      static_cast<std::uint32_t>(biased(high, 127) << 23));
    default: {
      const auto narrow_mask = static_cast<std::uint16_t>(mask >> 48);
      if (tensor.dtype.code == ISONORM_CODE_BFLOAT) {
        return AllWithin<std::uint16_t>(tensor, count, narrow_mask, static_cast<std::uint16_t>(biased(low, 127) << 7),
                                        static_cast<std::uint16_t>(biased(high, 127) << 7));
      }
      // Every f16 that is finite is small enough; of those that are not 0, every one is large enough.
      return AllWithin<std::uint16_t>(tensor, count, narrow_mask, with_sign ? 1 : 0, 0x7bff);
    }
  }
}

}  // namespace

View View::Of(StableIValue tensor) {
  View view;
  view.handle = reinterpret_cast<AtenTensorHandle>(tensor);
  if (view.handle == nullptr) return view;
  CheckTorch(aoti_torch_is_defined(view.handle, &view.present));
  if (!view.present) return view;
  std::int32_t device, layout;
  if (aoti_torch_get_device_type(view.handle, &device) != 0 || device != cpu) return view;
  if (aoti_torch_get_layout(view.handle, &layout) != 0 || layout != strided) return view;
  if (aoti_torch_get_dim(view.handle, &view.ndim) != 0 || view.ndim > kMaxTorchDims) return view;
  if (aoti_torch_get_sizes(view.handle, &view.sizes) != 0 || aoti_torch_get_strides(view.handle, &view.strides) != 0)
    return view;
  if (aoti_torch_get_dtype(view.handle, &view.torch_dtype) != 0) return view;
  view.dtype = DtypeOf(view.torch_dtype);
  view.readable = IsFloat(view.dtype);
  return view;
}

View View::OfOptional(StableIValue optional) {
  return optional == 0 ? View() : Of(*reinterpret_cast<const StableIValue*>(optional));
}

bool View::IsCompact(std::int64_t first) const {
  std::int64_t stride = 1;
  for (std::int64_t i = ndim; i-- > first;) {
    if (sizes[i] != 1 && strides[i] != stride) return false;
    stride *= sizes[i];
  }
  return true;
}

bool SameType(const View& a, const View& b) { return a.torch_dtype == b.torch_dtype; }

bool Rows::Read(const View& x, StableIValue normalized_shape) {
  if (!x.present || !x.readable) return false;
  x_ = x;
  const auto list = reinterpret_cast<StableListHandle>(normalized_shape);
  std::size_t count = 0;
  CheckTorch(torch_list_size(list, &count));
  lead_ = x.ndim - static_cast<std::int64_t>(count);
  if (count == 0 || lead_ < 0) return false;
  for (std::int64_t i = 0; i < x.ndim; ++i) {
    const std::int64_t size = x.sizes[i];
    if (i < lead_) {
      rows_ *= size;
      kept_[static_cast<std::size_t>(i)] = size;
      continue;
    }
    StableIValue item;
    CheckTorch(torch_list_get_item(list, static_cast<std::size_t>(i - lead_), &item));
    if (static_cast<std::int64_t>(item) != size) return false;
    cols_ *= size;
    kept_[static_cast<std::size_t>(i)] = 1;
  }
  if (cols_ == 0) return false;
  if (lead_ < kMaxDims) {
    ndim_ = static_cast<std::int32_t>(lead_ + 1);
    std::copy_n(x.sizes, lead_, shape_.begin());
    shape_[static_cast<std::size_t>(lead_)] = cols_;
  } else {
    ndim_ = 2;
    shape_[0] = rows_;
    shape_[1] = cols_;
  }
  return true;
}

bool Rows::IsVector(const View& vector) const {
  return vector.readable && vector.ndim == normalized_ndim() &&
         std::equal(vector.sizes, vector.sizes + vector.ndim, normalized_sizes());
}

bool Rows::IsLikeX(const View& other) const {
  return other.readable && other.ndim == x_.ndim && std::equal(other.sizes, other.sizes + other.ndim, x_.sizes);
}

void Operand::Read(const View& view, std::int64_t* shape, std::int32_t ndim) {
  present_ = true;
  tensor_ = {nullptr, {ISONORM_DEVICE_CPU, 0}, ndim, view.dtype, shape, nullptr, 0};
  const void* data;
  CheckTorch(torch_get_const_data_ptr(view.handle, &data));
  tensor_.data = const_cast<void*>(data);
}

void Operand::Copy(const View& view) {
  if (tensor_.data == nullptr) return;  // torch would read it; the C ABI says what is wrong, unless there are no values
  copy_ = Empty(view.ndim, view.sizes, view.torch_dtype);
  CheckTorch(aoti_torch_copy_(copy_.get(), view.handle, 0));
  CheckTorch(torch_get_mutable_data_ptr(copy_.get(), &tensor_.data));
}

void Operand::ReadRows(const View& view, Rows& rows) {
  Read(view, rows.shape(), rows.ndim());
  if (view.IsCompact()) return;
  if (rows.folded() || !view.IsCompact(rows.lead())) return Copy(view);
  std::copy_n(view.strides, rows.lead(), strides_.begin());
  strides_[static_cast<std::size_t>(rows.lead())] = 1;
  tensor_.strides = strides_.data();
}

void Operand::ReadVector(const View& view, Rows& rows) {
  if (!view.present) return;
  Read(view, rows.vector_shape(), 1);
  if (!view.IsCompact()) Copy(view);
}

void Operand::ReadStatistic(const View& view, Rows& rows) {
  Read(view, rows.statistic_shape(), rows.statistic_ndim());
  if (!view.IsCompact()) Copy(view);
}

void Operand::Write(const Output& output, std::int64_t* shape, std::int32_t ndim) {
  present_ = true;
  tensor_ = *output.get();
  tensor_.shape = shape;
  tensor_.ndim = ndim;
}

bool IsUsableRstd(const isonorm_tensor& rstd, std::int64_t count) { return AllWithin(rstd, count, true, -48, 47); }

bool IsUsableMean(const isonorm_tensor& mean, std::int64_t count) { return AllWithin(mean, count, false, -9999, 95); }

}  // namespace isonorm_torch
