// The steps of a call that concern rotation.
#include <algorithm>
#include <cinttypes>

#include "call/builder.h"
#include "call/error.h"
#include "call/structure.h"

namespace isonorm {
namespace {

isonorm_status CheckFields(const isonorm_contract& contract, const isonorm_rope& rope) {
  if (rope.style != ISONORM_ROPE_HALF && rope.style != ISONORM_ROPE_INTERLEAVED) {
    return Fail(ISONORM_ERROR_ROPE, "rope.style is %d, but must be set to ISONORM_ROPE_HALF or ISONORM_ROPE_INTERLEAVED.",
                static_cast<int>(rope.style));
  }
  if (contract.gate_place == ISONORM_GATE_AFTER) {
    return Fail(ISONORM_ERROR_ARGUMENT, "rope is given together with a gate after the norm, but only one of them may be.");
  }
  if (rope.cos == nullptr) return Fail(ISONORM_ERROR_NULL, "rope.cos is null, but is required.");
  if (rope.sin == nullptr) return Fail(ISONORM_ERROR_NULL, "rope.sin is null, but is required.");
  if (rope.positions != nullptr && (rope.position_offset != 0 || rope.position_dim != 0)) {
    return Fail(ISONORM_ERROR_ROPE,
                "rope.position_offset is %" PRId64
                " and rope.position_dim is %d, but both must be 0 where positions are given.",
                rope.position_offset, static_cast<int>(rope.position_dim));
  }
  return ISONORM_OK;
}

}  // namespace

// [table positions, R / 2]
isonorm_status CallBuilder::AddTable(const char* name, const isonorm_tensor* tensor, Type x, View** view) {
  isonorm_status status = Check(name, tensor, false, kTable, view);
  if (status == ISONORM_OK) status = CheckContiguous(**view);
  if (status != ISONORM_OK) return status;
  const View& table = **view;
  if (table.type != Type::kF32 && table.type != x) {
    if (x == Type::kF32) return Fail(ISONORM_ERROR_DTYPE, "%s is %s, but must be f32.", name, NameOf(table.type));
    return Fail(ISONORM_ERROR_DTYPE, "%s is %s, but must be f32 or %s, the type of x.", name, NameOf(table.type), NameOf(x));
  }
  if (table.ndim() != 2) {
    return Fail(ISONORM_ERROR_RANK, "%s.ndim is %d, but must be 2: positions, and half of the rotary dimension.", name,
                table.ndim());
  }
  if (table.size(1) < 1 || 2 * table.size(1) > call_->group_cols) {
    return Fail(ISONORM_ERROR_ROPE,
                "%s.shape[1] is %" PRId64 ", which rotates twice as many columns, but must be from 1 to half of the %" PRId64
                " columns of a head.",
                name, table.size(1), call_->group_cols);
  }
  return ISONORM_OK;
}

// The sizes of the first leading dimensions of x.
isonorm_status CallBuilder::AddPositions(const isonorm_tensor* tensor) {
  View* view = nullptr;
  const isonorm_status status = Check("rope.positions", tensor, false, kTable, &view);
  if (status != ISONORM_OK) return status;
  if (view->type != Type::kI32 && view->type != Type::kI64) {
    return Fail(ISONORM_ERROR_DTYPE, "rope.positions is %s, but must be i32 or i64.", NameOf(view->type));
  }
  const int leading = shape().ndim() - 1;
  if (view->ndim() > leading) {
    return Fail(ISONORM_ERROR_RANK, "rope.positions.ndim is %d, but must be at most %d, the leading dimensions of %s.",
                view->ndim(), leading, shape().name);
  }
  Rope& rope = call_->rope;
  rope.positions = view->data;
  rope.wide_positions = view->type == Type::kI64;
  for (int i = 0; i < leading; ++i) {
    const int64_t size = shape().size(i);
    if (i >= view->ndim()) {
      rope.rows_each *= size;
      continue;
    }
    if (view->size(i) != size) {
      return Fail(ISONORM_ERROR_SHAPE, "rope.positions.shape[%d] is %" PRId64 ", but must be %" PRId64 " as that of %s.", i,
                  view->size(i), size, shape().name);
    }
    if (size == 1) continue;
    const bool joins = rope.dims > 0 && rope.stride[rope.dims - 1] == size * view->strides[i];
    const int at = joins ? rope.dims - 1 : rope.dims++;
    rope.size[at] = joins ? rope.size[at] * size : size;
    rope.stride[at] = view->strides[i];
  }
  return ISONORM_OK;
}

isonorm_status CallBuilder::SetPositionsFrom(int64_t offset, int32_t dimension) {
  const int leading = shape().ndim() - 1;
  if (dimension < 0 || dimension >= std::max(leading, 1)) {
    return Fail(ISONORM_ERROR_ROPE, "rope.position_dim is %d, but must be one of the %d leading dimensions of %s.",
                static_cast<int>(dimension), leading, shape().name);
  }
  Rope& rope = call_->rope;
  rope.offset = offset;
  if (leading > 0) rope.period = shape().size(dimension);
  for (int i = dimension + 1; i < leading; ++i) rope.rows_each *= shape().size(i);
  if (rope.period == 0 || (offset >= 0 && offset <= rope.table_rows - rope.period)) return ISONORM_OK;
  return Fail(ISONORM_ERROR_ROPE,
              "rope.position_offset is %" PRId64 " for %" PRId64 " tokens, but their positions must be from 0 to %" PRId64
              ", the last of the %" PRId64 " rows of rope.cos and rope.sin.",
              offset, rope.period, rope.table_rows - 1, rope.table_rows);
}

isonorm_status CallBuilder::SetRope(const isonorm_contract& contract, const isonorm_rope* given, Type x) {
  if (given == nullptr) return ISONORM_OK;
  isonorm_rope from = {};
  isonorm_status status = TakeStructure(given, "rope", "isonorm_rope", &from);
  if (status == ISONORM_OK) status = CheckFields(contract, from);
  if (status != ISONORM_OK) return status;
  if (call_->group_cols > kMaxHead) {
    return Fail(ISONORM_ERROR_ROPE, "rope is given, but the head, a group, has %" PRId64 " columns; %" PRId64 " are allowed.",
                call_->group_cols, kMaxHead);
  }
  View *cos = nullptr, *sin = nullptr;
  status = AddTable("rope.cos", from.cos, x, &cos);
  if (status == ISONORM_OK) status = AddTable("rope.sin", from.sin, x, &sin);
  if (status != ISONORM_OK) return status;
  if (sin->type != cos->type) {
    return Fail(ISONORM_ERROR_DTYPE, "rope.sin is %s, but must be %s as rope.cos.", NameOf(sin->type), NameOf(cos->type));
  }
  for (int i = 0; i < 2; ++i) {
    if (sin->size(i) == cos->size(i)) continue;
    return Fail(ISONORM_ERROR_SHAPE, "rope.sin.shape[%d] is %" PRId64 ", but must be %" PRId64 " as that of rope.cos.", i,
                sin->size(i), cos->size(i));
  }
  Rope& rope = call_->rope;
  rope.on = true;
  rope.interleaved = from.style == ISONORM_ROPE_INTERLEAVED;
  rope.table = cos->type;
  rope.half = cos->size(1);
  rope.cos = cos->data;
  rope.sin = sin->data;
  rope.cos_stride = cos->strides[0] << Log2SizeOf(cos->type);
  rope.sin_stride = sin->strides[0] << Log2SizeOf(sin->type);
  rope.rounded_to = contract.rotation_rounding == ISONORM_ROUND_TO_X && SizeOf(x) == 2 ? x : Type::kNone;
  rope.rows_each = rope.period = 1;
  rope.offset = rope.dims = 0;
  rope.positions = nullptr;
  rope.table_rows = cos->size(0);
  return from.positions != nullptr ? AddPositions(from.positions) : SetPositionsFrom(from.position_offset, from.position_dim);
}

}  // namespace isonorm
