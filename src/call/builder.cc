#include "call/builder.h"

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <utility>

#include "call/error.h"
#include "call/scalar.h"
#include "call/structure.h"

namespace isonorm {
isonorm_status CallBuilder::SetShapeFrom(RowTensor slot, const char* name, const isonorm_tensor* x) {
  if (x == nullptr) return Fail(ISONORM_ERROR_NULL, "%s is null, but is required.", name);
  Entry& entry = entries_[0];
  const View& view = entry.view;
  const isonorm_status status = CheckTensor(name, x, &entry.view);
  if (status != ISONORM_OK) return status;
  if (!IsFloat(view.type)) {
    return Fail(ISONORM_ERROR_DTYPE, "%s is %s, but must be f32, bf16, f16 or f64.", name, NameOf(view.type));
  }
  entry.slot = slot;
  entry.output = false;
  count_ = 1;
  const int last = view.ndim() - 1;
  call_->device = x->device;
  call_->type[slot] = view.type;
  call_->wide = view.type == Type::kF64;
  call_->cols = view.size(last);
  if (call_->cols == 0) {
    return Fail(ISONORM_ERROR_SHAPE, "%s.shape[%d] is 0, but a row must have at least 1 value.", name, last);
  }
  call_->rows = 1;
  for (int i = 0; i < last; ++i) call_->rows *= view.size(i);
  return ISONORM_OK;
}

isonorm_status CallBuilder::CheckType(const View& view, int slot) const {
  const bool wide = call_->wide;
  if (slot == kY && IsByte(view.type) && view.type != Type::kE8M0) {
    if (call_->quantizer.on) return ISONORM_OK;
    return Fail(ISONORM_ERROR_DTYPE, "y is %s, but quantization is null; a quantised output needs both.", NameOf(view.type));
  }
  if (slot == kY && call_->quantizer.on) {
    return Fail(ISONORM_ERROR_DTYPE, "y is %s, but must be i8, e4m3 or e5m2 where quantization is given.", NameOf(view.type));
  }
  if (IsFloat(view.type) && wide == (view.type == Type::kF64)) return ISONORM_OK;
  if (wide && slot == kY && view.type == Type::kF32) return ISONORM_OK;  // by one rounding
  return Fail(ISONORM_ERROR_DTYPE, "%s is %s, but where %s is %s %s must be %s.", view.name, NameOf(view.type), shape().name,
              NameOf(shape().type), !IsFloat(view.type) ? "it" : "every tensor",
              wide ? "f64 (y may be f32)" : "f32, bf16 or f16");
}

// Nobody asks which number host memory has.
isonorm_status CallBuilder::CheckDevice(const View& view) const {
  const isonorm_device device = view.tensor->device, first = call_->device;
  if (device.device_type == first.device_type &&
      (device.device_id == first.device_id || device.device_type == ISONORM_DEVICE_CPU)) {
    return ISONORM_OK;
  }
  return Fail(ISONORM_ERROR_DEVICE,
              "%s.device is {%d, %d}, but must be {%d, %d} as %s.device: the tensors of a call lie on one device.", view.name,
              static_cast<int>(device.device_type), static_cast<int>(device.device_id), static_cast<int>(first.device_type),
              static_cast<int>(first.device_id), shape().name);
}

isonorm_status CallBuilder::Check(const char* name, const isonorm_tensor* tensor, bool output, int slot, View** out) {
  Entry& entry = entries_[count_];
  View& view = entry.view;
  isonorm_status status = CheckTensor(name, tensor, &view);
  if (status != ISONORM_OK) return status;
  status = CheckDevice(view);
  if (status == ISONORM_OK && slot != kScale && slot != kTable) status = CheckType(view, slot);
  if (status == ISONORM_OK && output && view.data != nullptr) status = CheckOutput(view);
  if (status != ISONORM_OK) return status;
  entry.slot = slot;
  entry.output = output;
  ++count_;
  *out = &view;
  return ISONORM_OK;
}

isonorm_status CallBuilder::AddRows(RowTensor slot, const char* name, const isonorm_tensor* tensor, bool output) {
  if (tensor == nullptr) return ISONORM_OK;
  View* view = nullptr;
  const isonorm_status status = Check(name, tensor, output, slot, &view);
  if (status != ISONORM_OK) return status;
  if (view->ndim() != shape().ndim()) {
    return Fail(ISONORM_ERROR_RANK, "%s.ndim is %d, but must be %d as that of %s.", name, view->ndim(), shape().ndim(),
                shape().name);
  }
  for (int i = 0; i < view->ndim(); ++i) {
    if (view->size(i) != shape().size(i)) {
      return Fail(ISONORM_ERROR_SHAPE, "%s.shape[%d] is %" PRId64 ", but must be %" PRId64 " as that of %s.", name, i,
                  view->size(i), shape().size(i), shape().name);
    }
  }
  call_->type[slot] = view->type;
  return ISONORM_OK;
}

isonorm_status CallBuilder::CheckPerRow(const View& view, int64_t per_row, const char* extent) const {
  const int leading = shape().ndim() - 1;
  const bool has_last = view.ndim() == leading + 1;
  const bool no_last = per_row == 1 && view.ndim() == leading;
  if (!has_last && !no_last) {
    const bool only_leading = per_row == 1 && leading > 0;
    return Fail(ISONORM_ERROR_RANK, "%s.ndim is %d, but must be %d: the leading dimensions of %s%s%s.", view.name, view.ndim(),
                only_leading ? leading : leading + 1, shape().name, only_leading ? "" : " and one of size ",
                only_leading ? "" : extent);
  }
  for (int i = 0; i < view.ndim(); ++i) {
    const int64_t expected = i < leading ? shape().size(i) : per_row;
    if (view.size(i) != expected) {
      return Fail(ISONORM_ERROR_SHAPE, "%s.shape[%d] is %" PRId64 ", but must be %" PRId64 ".", view.name, i, view.size(i),
                  expected);
    }
  }
  return ISONORM_OK;
}

isonorm_status CallBuilder::AddStatistic(RowTensor slot, const char* name, const isonorm_tensor* tensor, bool output) {
  if (tensor == nullptr) return ISONORM_OK;
  View* view = nullptr;
  isonorm_status status = Check(name, tensor, output, slot, &view);
  if (status == ISONORM_OK) status = CheckPerRow(*view, call_->groups, "groups");
  if (status == ISONORM_OK && view->ndim() == shape().ndim()) status = CheckContiguous(*view);
  if (status == ISONORM_OK) call_->type[slot] = view->type;
  return status;
}

isonorm_status CallBuilder::AddPerRow(RowTensor slot, const char* name, const isonorm_tensor* tensor, bool output) {
  const isonorm_status status = AddStatistic(slot, name, tensor, output);
  return status != ISONORM_OK || tensor == nullptr ? status : CheckComputeType(entries_[count_ - 1].view);
}

isonorm_status CallBuilder::CheckComputeType(const View& view) const {
  const Type compute = call_->wide ? Type::kF64 : Type::kF32;
  if (view.type == compute) return ISONORM_OK;
  return Fail(ISONORM_ERROR_DTYPE, "%s is %s, but must be %s, the compute type.", view.name, NameOf(view.type),
              NameOf(compute));
}

isonorm_status CallBuilder::AddExact(const char* name, const isonorm_tensor* tensor, bool output,
                                     std::initializer_list<int64_t> shape, const View** view) {
  if (tensor == nullptr) return Fail(ISONORM_ERROR_NULL, "%s is null, but is required.", name);
  View* added = nullptr;
  isonorm_status status = Check(name, tensor, output, kVector, &added);
  if (status == ISONORM_OK) status = CheckContiguous(*added);
  if (status != ISONORM_OK) return status;
  if (added->ndim() != static_cast<int>(shape.size())) {
    return Fail(ISONORM_ERROR_RANK, "%s.ndim is %d, but must be %zu.", name, added->ndim(), shape.size());
  }
  int i = 0;
  for (const int64_t size : shape) {
    if (added->size(i) != size) {
      return Fail(ISONORM_ERROR_SHAPE, "%s.shape[%d] is %" PRId64 ", but must be %" PRId64 ".", name, i, added->size(i), size);
    }
    ++i;
  }
  *view = added;
  return CheckComputeType(*added);
}

// [cols], [1, cols], and where columns are in groups [groups, group_cols]: no other reading has as many entries.
isonorm_status CallBuilder::AddVector(const char* name, const isonorm_tensor* tensor, bool output, const View** added) {
  View* view = nullptr;
  const isonorm_status status = Check(name, tensor, output, kVector, &view);
  if (status != ISONORM_OK) return status;
  *added = view;
  const int last = view->ndim() - 1;
  const bool grouped = last == 1 && view->size(0) == call_->groups && view->size(0) > 1;
  for (int i = 0; i < last && !grouped; ++i) {
    if (view->size(i) == 1) continue;
    return Fail(ISONORM_ERROR_SHAPE,
                "%s.shape[%d] is %" PRId64
                ", but must be 1 before the columns%s; where each head has a weight of its own, pass %s as "
                "[..., heads * columns of a head] with groups = heads.",
                name, i, view->size(i), call_->groups > 1 ? ", or the number of groups" : "", shape().name);
  }
  const int64_t expected = grouped ? call_->group_cols : call_->cols;
  if (view->size(last) != expected) {
    return Fail(ISONORM_ERROR_SHAPE, "%s.shape[%d] is %" PRId64 ", but must be %" PRId64 ", the %s; nothing is broadcast.",
                name, last, view->size(last), expected, grouped ? "columns of a group" : "columns of a row");
  }
  return ISONORM_OK;
}

isonorm_status CallBuilder::AddInput(InputVector vector, const char* name, const isonorm_tensor* tensor, const void** data,
                                     Type* type) {
  if (tensor == nullptr) return ISONORM_OK;
  const View* view = nullptr;
  const isonorm_status status = AddVector(name, tensor, false, &view);
  if (status != ISONORM_OK) return status;
  const bool by_group = view->size(view->ndim() - 1) != call_->cols;
  call_->group_stride[PlaceOf(vector)] = by_group ? view->strides[0] : view->repeats() ? 0 : call_->group_cols;
  if (view->repeats()) call_->repeated |= 1u << vector;
  *data = view->data;
  *type = view->type;
  return ISONORM_OK;
}

isonorm_status CallBuilder::AddOutput(const char* name, const isonorm_tensor* tensor, void** data, Type* type) {
  if (tensor == nullptr) return ISONORM_OK;
  const View* view = nullptr;
  const isonorm_status status = AddVector(name, tensor, true, &view);
  if (status != ISONORM_OK) return status;
  if (view->size(view->ndim() - 1) != call_->cols && view->strides[0] != call_->group_cols) {
    return Fail(ISONORM_ERROR_STRIDE, "%s.strides[0] is %" PRId64 ", but an output must be contiguous: %" PRId64 ".", name,
                view->strides[0], call_->group_cols);
  }
  *data = view->data;
  *type = view->type;
  return ISONORM_OK;
}

isonorm_status CallBuilder::SetGroups(int64_t groups, int64_t window) {
  call_->groups = groups == 0 ? 1 : groups;
  const bool whole = call_->groups == 1;  // spares the common call two divisions
  if (groups < 0 || (!whole && call_->cols % call_->groups != 0)) {
    return Fail(ISONORM_ERROR_GROUPS,
                "groups is %" PRId64 ", but must divide the %" PRId64 " columns; 0 or 1 is the whole row.", groups,
                call_->cols);
  }
  call_->group_cols = whole ? call_->cols : call_->cols / call_->groups;
  if (window < 0 || window > call_->group_cols) {
    return Fail(ISONORM_ERROR_WINDOW,
                "window is %" PRId64 ", but must be from 1 to %" PRId64 ", the columns of a group, or 0 for all.", window,
                call_->group_cols);
  }
  if (window != 0 && call_->norm.centres()) {
    return Fail(ISONORM_ERROR_WINDOW, "window is %" PRId64 ", but LayerNorm has no window; pass 0.", window);
  }
  call_->window = call_->norm.count = window == 0 ? call_->group_cols : window;
  return ISONORM_OK;
}

isonorm_status CallBuilder::SetScalars(const isonorm_contract& contract, double eps) {
  Norm& norm = call_->norm;
  norm.statistic = contract.statistic == ISONORM_STATISTIC_LAYER ? Statistic::kLayerNorm : Statistic::kRms;
  norm.eps_outside = contract.eps_place == ISONORM_EPS_OUTSIDE;
  norm.eps = call_->wide ? eps : RoundedToF32(eps);
  call_->gate = contract.gate_place == ISONORM_GATE_BEFORE  ? Gate::kBefore
                : contract.gate_place == ISONORM_GATE_AFTER ? Gate::kAfter
                                                            : Gate::kNone;
  call_->gate_function = contract.gate_function == ISONORM_GATE_SIGMOID ? GateFunction::kSigmoid : GateFunction::kSilu;
  call_->weight_offset = call_->wide ? contract.weight_offset : RoundedToF32(contract.weight_offset);
  if (!std::isfinite(norm.eps) || eps < 0) {
    return Fail(ISONORM_ERROR_EPS, "eps is %g, but must be 0 or more and finite in the compute type.", eps);
  }
  if (!std::isfinite(call_->weight_offset)) {
    return Fail(ISONORM_ERROR_CONTRACT, "contract.weight_offset is %g, but must be finite in the compute type.",
                contract.weight_offset);
  }
  return ISONORM_OK;
}

isonorm_status CallBuilder::SetExecutor(const isonorm_executor* from) {
  if (from == nullptr) return ISONORM_OK;
  isonorm_executor& executor = call_->executor;
  const isonorm_status status = TakeStructure(from, "executor", "isonorm_executor", &executor);
  if (status != ISONORM_OK) return status;
  if (executor.concurrency < 1) {
    return Fail(ISONORM_ERROR_EXECUTOR, "executor.concurrency is %d, but must be at least 1.",
                static_cast<int>(executor.concurrency));
  }
  if (executor.reserved != 0) {
    return Fail(ISONORM_ERROR_EXECUTOR, "executor.reserved is %d, but must be 0.", static_cast<int>(executor.reserved));
  }
  if (executor.parallel_for == nullptr) {
    return Fail(ISONORM_ERROR_EXECUTOR, "executor.parallel_for is null, but must run the tasks of a call.");
  }
  return ISONORM_OK;
}

isonorm_status CallBuilder::Finish() {
  for (int i = 0; i < count_; ++i) {
    const Entry& output = entries_[i];
    if (!output.output) continue;
    for (int j = 0; j < count_; ++j) {
      const Entry& other = entries_[j];
      if (other.view.low >= output.view.high || output.view.low >= other.view.high || i == j) continue;
      if (other.output && j < i) continue;
      // A row is read before it is written, element by element; a statistic per row and a vector are not rows.
      const bool in_place = !call_->accumulates_rows && !other.output && output.slot >= 0 && other.slot >= 0 &&
                            output.slot < kRstd && other.slot < kRstd;
      const isonorm_status status = CheckMeeting(output.view, other.view, in_place);
      if (status != ISONORM_OK) return status;
    }
  }
  Collapse();
  return ISONORM_OK;
}

isonorm_status CallBuilder::CheckApartFrom(const CallBuilder& other) const {
  for (const auto& [first, second] : {std::pair{this, &other}, std::pair{&other, this}}) {
    for (int i = 0; i < first->count_; ++i) {
      const Entry& output = first->entries_[i];
      if (!output.output) continue;
      for (int j = 0; j < second->count_; ++j) {
        const View& view = second->entries_[j].view;
        if (view.low >= output.view.high || output.view.low >= view.high) continue;
        const isonorm_status status = CheckMeeting(output.view, view, false);
        if (status != ISONORM_OK) return status;
      }
    }
  }
  return ISONORM_OK;
}

isonorm_status CallBuilder::CheckApartFrom(const void* workspace, size_t bytes) const {
  const auto low = reinterpret_cast<intptr_t>(workspace);
  intptr_t high = 0;
  if (__builtin_add_overflow(low, bytes, &high)) high = INTPTR_MAX;  // a size that says "enough"
  for (int i = 0; i < count_; ++i) {
    const View& view = entries_[i].view;
    if (high <= view.low || view.high <= low) continue;
    return Fail(ISONORM_ERROR_OVERLAP, "workspace overlaps %s; its %zu bytes must be apart from every tensor of the call.",
                view.name, bytes);
  }
  return ISONORM_OK;
}

isonorm_status CheckWorkspaceSize(const Call& call, size_t needed) {
  if (call.workspace == nullptr) {
    return Fail(ISONORM_ERROR_WORKSPACE, "workspace is null, but this call needs %zu bytes.", needed);
  }
  if (call.workspace_size < needed) {
    return Fail(ISONORM_ERROR_WORKSPACE, "workspace_size is %zu, but this call needs %zu bytes.", call.workspace_size, needed);
  }
  return ISONORM_OK;
}

isonorm_status CallBuilder::CheckWorkspace(size_t needed) const {
  if (needed == 0) return ISONORM_OK;
  const isonorm_status status = CheckWorkspaceSize(*call_, needed);
  return status == ISONORM_OK ? CheckApartFrom(call_->workspace, call_->workspace_size) : status;
}

// Every tensor goes from one index of the outer dimension to the next as if it went on along this one.
bool CallBuilder::Merges(int dimension, int outer) const {
  for (int i = 0; i < count_; ++i) {
    const Entry& entry = entries_[i];
    if (entry.slot < 0) continue;
    const int64_t bytes = entry.view.strides[dimension] << Log2SizeOf(entry.view.type);
    if (call_->stride[outer][entry.slot] != bytes * shape().size(dimension)) return false;
  }
  return true;
}

void CallBuilder::Collapse() {
  int leading = 0;
  const auto clear = [this](int at) { std::fill_n(call_->stride[at], kRowTensors, 0); };
  for (int dimension = 0; dimension + 1 < shape().ndim(); ++dimension) {
    const int64_t size = shape().size(dimension);
    if (size == 1) continue;
    const bool merge = leading > 0 && Merges(dimension, leading - 1);
    const int at = merge ? leading - 1 : leading++;
    call_->shape[at] = merge ? call_->shape[at] * size : size;
    if (!merge) clear(at);
    for (int i = 0; i < count_; ++i) {
      const Entry& entry = entries_[i];
      if (entry.slot >= 0) call_->stride[at][entry.slot] = entry.view.strides[dimension] << Log2SizeOf(entry.view.type);
    }
  }
  for (int i = 0; i < count_; ++i) {
    const Entry& entry = entries_[i];
    if (entry.slot < 0) continue;
    call_->data[entry.slot] = entry.view.data;
    if (entry.slot < kRstd && entry.view.repeats()) call_->repeated |= 1u << entry.slot;
  }
  call_->leading = leading;
  if (leading == 0) clear(0);
  if (read_x_from_ != kX) {
    call_->data[kX] = call_->data[read_x_from_];
    call_->type[kX] = call_->type[read_x_from_];
    for (int i = 0; i < std::max(leading, 1); ++i) call_->stride[i][kX] = call_->stride[i][read_x_from_];
    call_->data[read_x_from_] = nullptr;
    call_->repeated &= ~(1u << kX);  // what was said of x itself, if that is given too
    if (call_->repeats(read_x_from_)) call_->repeated |= 1u << kX;
  }
}

}  // namespace isonorm
