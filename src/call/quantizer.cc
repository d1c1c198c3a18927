// The steps of a call that concern quantised output.
#include <cinttypes>
#include <cmath>
#include <limits>

#include "call/builder.h"
#include "call/error.h"
#include "call/scalar.h"
#include "call/structure.h"
#include "numbers/quantize.h"

namespace isonorm {
namespace {

isonorm_status CheckFields(const isonorm_quantization& q) {
  if (q.scale_kind < ISONORM_SCALE_STATIC || q.scale_kind > ISONORM_SCALE_POWER_OF_TWO) {
    return Fail(ISONORM_ERROR_QUANTIZATION,
                "quantization.scale_kind is %d, but must be set to one of ISONORM_SCALE_STATIC, ISONORM_SCALE_DYNAMIC, "
                "ISONORM_SCALE_POWER_OF_TWO.",
                static_cast<int>(q.scale_kind));
  }
  const Type rounded_to = TypeOf(q.rounded_to);
  const bool unset = q.rounded_to.code == 0 && q.rounded_to.bits == 0 && q.rounded_to.lanes == 0;
  if (!unset && !Is16Bit(rounded_to)) {
    return Fail(ISONORM_ERROR_QUANTIZATION,
                "quantization.rounded_to is {code %d, bits %d, lanes %d}, but must be bf16, f16, or all 0 for no rounding.",
                q.rounded_to.code, q.rounded_to.bits, q.rounded_to.lanes);
  }
  if (q.scale_kind == ISONORM_SCALE_STATIC) {
    if (q.group_cols == 0 && q.min_scale == 0 && q.scale_ub == 0) return ISONORM_OK;
    return Fail(ISONORM_ERROR_QUANTIZATION,
                "quantization.group_cols is %" PRId64 ", min_scale %g and scale_ub %g, but all must be 0 for a static scale.",
                q.group_cols, q.min_scale, q.scale_ub);
  }
  int exponent = 0;
  const bool power = q.scale_kind == ISONORM_SCALE_POWER_OF_TWO;
  if (q.min_scale != 0 && (!IsScale(q.min_scale) || (power && std::frexp(q.min_scale, &exponent) != 0.5))) {
    return Fail(ISONORM_ERROR_QUANTIZATION, "quantization.min_scale is %g, but must be %sfrom 2^-126 to 2^126, or 0.",
                q.min_scale, power ? "a power of two " : "");
  }
  if (!(q.scale_ub >= 0 && q.scale_ub <= std::numeric_limits<float>::max())) {
    return Fail(ISONORM_ERROR_QUANTIZATION, "quantization.scale_ub is %g, but must be positive and finite in f32, or 0.",
                q.scale_ub);
  }
  return ISONORM_OK;
}

}  // namespace

isonorm_status CallBuilder::SetQuantizer(const isonorm_quantization* quantization) {
  if (quantization == nullptr) return ISONORM_OK;
  isonorm_quantization q = {};
  isonorm_status status = TakeStructure(quantization, "quantization", "isonorm_quantization", &q);
  if (status == ISONORM_OK) status = CheckFields(q);
  if (status != ISONORM_OK) return status;
  if (call_->wide) {
    return Fail(ISONORM_ERROR_DTYPE, "quantization is given with f64 data, but is defined for f32, bf16 and f16 data only.");
  }
  if (q.group_cols != 0) {
    if (q.group_cols != 32 && q.group_cols != 64 && q.group_cols != 128) {
      return Fail(ISONORM_ERROR_QUANTIZATION,
                  "quantization.group_cols is %" PRId64 ", but must be 32, 64 or 128, or 0 for the row.", q.group_cols);
    }
    if (call_->group_cols % q.group_cols != 0) {
      return Fail(ISONORM_ERROR_GROUPS, "quantization.group_cols is %" PRId64 ", but must divide the %" PRId64 " columns%s.",
                  q.group_cols, call_->group_cols, call_->groups == 1 ? "" : " of a group");
    }
  }
  Quantizer& quantizer = call_->quantizer;
  quantizer.on = true;
  quantizer.dynamic = q.scale_kind != ISONORM_SCALE_STATIC;
  quantizer.power_of_two = q.scale_kind == ISONORM_SCALE_POWER_OF_TWO;
  quantizer.per_row = quantizer.dynamic && q.group_cols == 0;
  quantizer.rounded_to = TypeOf(q.rounded_to);
  quantizer.scale_cols = q.group_cols == 0 ? call_->cols : q.group_cols;
  const double least = quantizer.power_of_two ? 0x1p-127 : kLeastScale;
  quantizer.min_scale = static_cast<float>(RoundedToF32(q.min_scale == 0 ? least : q.min_scale));
  quantizer.scale_ub = q.scale_ub == 0 ? std::numeric_limits<float>::infinity() : static_cast<float>(RoundedToF32(q.scale_ub));
  return ISONORM_OK;
}

isonorm_status CallBuilder::AddScale(const isonorm_tensor* tensor) {
  Quantizer& quantizer = call_->quantizer;
  if (!quantizer.on) {
    if (tensor == nullptr) return ISONORM_OK;
    return Fail(ISONORM_ERROR_ARGUMENT, "scale is given, but quantization is null.");
  }
  if (tensor == nullptr) {
    return Fail(ISONORM_ERROR_NULL, "scale is null, but a quantised output needs it: %s.",
                quantizer.dynamic ? "the scales are written there" : "the static scale is read there");
  }
  View* view = nullptr;
  isonorm_status status = Check("scale", tensor, quantizer.dynamic, kScale, &view);
  if (status != ISONORM_OK) return status;
  const Type type = quantizer.power_of_two ? Type::kE8M0 : Type::kF32;
  if (view->type != type) {
    return Fail(ISONORM_ERROR_DTYPE, "scale is %s, but must be %s.", NameOf(view->type),
                quantizer.power_of_two ? "e8m0 (or u8) for powers of two" : "f32");
  }
  if (quantizer.dynamic) {
    const int64_t per_row = call_->cols / quantizer.scale_cols;
    status = CheckPerRow(*view, per_row, "cols / quantization.group_cols");
    call_->type[kScale] = view->type;
    return status;
  }
  if (view->ndim() != 1 || view->size(0) != 1) {
    return Fail(ISONORM_ERROR_SHAPE, "scale has %d dimensions, the first of size %" PRId64 ", but a static scale must be [1].",
                view->ndim(), view->size(0));
  }
  quantizer.scale = view->data;
  entries_[count_ - 1].slot = kVector;  // it does not move from row to row
  return ISONORM_OK;
}

}  // namespace isonorm
