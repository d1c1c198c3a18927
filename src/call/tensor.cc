#include "call/tensor.h"

#include <algorithm>
#include <bit>
#include <cinttypes>
#include <cstdlib>

#include "call/error.h"

namespace isonorm {
namespace {

// A dimension that moves in memory, of one tensor or of two with the same stride, for the question whether their bytes meet.
struct Step {
  int64_t bytes;           // > 0, but where a tensor is broadcast
  int64_t count, count_b;  // of elements in the first tensor and in the second; one of them > 1
  bool backwards;          // the stride is negative
};

void Insert(Step step, Step* steps, int* count) {  // by falling stride
  int at = (*count)++;
  for (; at > 0 && steps[at - 1].bytes < step.bytes; --at) steps[at] = steps[at - 1];
  steps[at] = step;
}

// Dimensions of one element do not move.
int StepsOf(const View& view, Step* steps) {
  int count = 0;
  for (int i = 0; i + 1 < view.ndim(); ++i) {
    if (view.size(i) <= 1) continue;
    Insert({std::abs(view.strides[i]) << Log2SizeOf(view.type), view.size(i), 1, view.strides[i] < 0}, steps, &count);
  }
  return count;
}

// The steps of both; -1 where a dimension has other strides in one than in the other. Of a single element the stride may be any
// number, even one that overflows in bytes.
int StepsOfBoth(const View& a, const View& b, Step* steps) {
  int count = 0;
  if (a.ndim() != b.ndim()) return -1;
  for (int i = 0; i + 1 < a.ndim(); ++i) {
    const bool a_moves = a.size(i) > 1, b_moves = b.size(i) > 1;
    if (!a_moves && !b_moves) continue;
    const int64_t in_a = a_moves ? a.strides[i] << Log2SizeOf(a.type) : 0,
                  in_b = b_moves ? b.strides[i] << Log2SizeOf(b.type) : 0;
    if (a_moves && b_moves && in_a != in_b) return -1;
    const int64_t bytes = a_moves ? in_a : in_b;
    Insert({std::abs(bytes), a.size(i), b.size(i), bytes < 0}, steps, &count);
  }
  return count;
}

// Whether every step is at least as long as all that lies below it, in both tensors, of which the wider has rows of `width`
// bytes.
bool Nested(int64_t width, const Step* steps, int count) {
  int64_t below = width;
  for (int i = count - 1; i >= 0; --i) {
    if (steps[i].bytes < below) return false;
    // Cannot overflow: it is at most what one of the tensors reaches and a row of the other.
    below += steps[i].bytes * (std::max(steps[i].count, steps[i].count_b) - 1);
  }
  return true;
}

// Whether two blocks of `width` bytes, the second `distance` behind the first, share a byte as each is repeated by its steps.
// Exact where the steps are nested: then only the turns next to the distance can.
bool Meet(int64_t distance, int64_t width, const Step* steps, int count) {
  if (count == 0) return std::abs(distance) < width;
  const Step& step = steps[0];
  const int64_t most = step.backwards ? step.count_b : step.count, least = step.backwards ? step.count : step.count_b;
  const int64_t nearest = distance / step.bytes;
  for (int64_t turn = nearest - 1; turn <= nearest + 1; ++turn) {
    if (turn < most && -turn < least && Meet(distance - turn * step.bytes, width, steps + 1, count - 1)) return true;
  }
  return false;
}

bool SameLayout(const View& a, const View& b) {
  if (a.ndim() != b.ndim() || a.type != b.type) return false;
  for (int i = 0; i < a.ndim(); ++i) {
    if (a.size(i) != b.size(i) || (a.size(i) > 1 && a.strides[i] != b.strides[i])) return false;
  }
  return true;
}

[[gnu::cold]] isonorm_status TooLarge(const char* name) {
  return Fail(ISONORM_ERROR_OVERFLOW, "%s spans more bytes than int64_t can count; its sizes and strides must fit.", name);
}

[[gnu::cold]] isonorm_status BadLastStride(const char* name, const isonorm_tensor& tensor) {
  return Fail(ISONORM_ERROR_STRIDE,
              "%s.strides[%d] is %" PRId64
              ", but the last dimension must be contiguous (stride 1), or in inputs broadcast (0).",
              name, tensor.ndim - 1, tensor.strides[tensor.ndim - 1]);
}

[[gnu::cold]] isonorm_status NegativeSize(const char* name, const isonorm_tensor& tensor, int dimension) {
  return Fail(ISONORM_ERROR_SHAPE, "%s.shape[%d] is %" PRId64 ", but must not be negative.", name, dimension,
              tensor.shape[dimension]);
}

// Nobody goes from one element of an empty tensor to the next: its strides may be anything, as the 0 that NumPy exports.
bool IsEmpty(const isonorm_tensor& tensor) {
  return std::find(tensor.shape, tensor.shape + tensor.ndim, 0) != tensor.shape + tensor.ndim;
}

// The elements of a tensor without strides, or of an empty one, and the strides that it has. A size of 0 must not hide that the
// other sizes overflow, so it counts as 1 then.
isonorm_status SpanCompact(const char* name, const isonorm_tensor& tensor, Type type, View* view, int64_t* after, bool* empty) {
  int64_t elements = 1;
  for (int i = tensor.ndim - 1; i >= 0; --i) {
    int64_t size = tensor.shape[i];
    if (__builtin_expect(size <= 0, 0)) {
      if (size < 0) return NegativeSize(name, tensor, i);
      *empty = true;
      size = 1;
    }
    view->strides[i] = elements;
    if (__builtin_mul_overflow(elements, size, &elements)) return TooLarge(name);
  }
  if (elements > INT64_MAX >> Log2SizeOf(type)) return TooLarge(name);
  *after = elements << Log2SizeOf(type);
  return ISONORM_OK;
}

// Strides, and the bytes that the elements reach before and after the first one.
isonorm_status SpanStrided(const char* name, const isonorm_tensor& tensor, Type type, View* view, int64_t* before,
                           int64_t* after) {
  const int64_t size_of = static_cast<int64_t>(SizeOf(type));
  const int last = tensor.ndim - 1;
  int64_t bytes = size_of;
  for (int i = last; i >= 0; --i) {
    const int64_t size = tensor.shape[i], stride = tensor.strides[i];
    if (size < 0) return NegativeSize(name, tensor, i);
    view->strides[i] = stride;
    if (size <= 1) continue;
    int64_t reach = 0;
    if (__builtin_mul_overflow(size - 1, stride, &reach) || __builtin_mul_overflow(reach, size_of, &reach) ||
        (reach < 0 ? __builtin_add_overflow(*before, reach, before) : __builtin_add_overflow(*after, reach, after)) ||
        __builtin_mul_overflow(bytes, size, &bytes)) {
      return TooLarge(name);
    }
  }
  if (__builtin_add_overflow(*after, size_of, after)) return TooLarge(name);
  if (tensor.shape[last] > 1 && tensor.strides[last] != 1 && tensor.strides[last] != 0) return BadLastStride(name, tensor);
  return ISONORM_OK;
}

// What is wrong with a tensor before its sizes are looked at.
[[gnu::cold]] isonorm_status BadTensor(const char* name, const isonorm_tensor& tensor) {
  if (tensor.ndim < 1 || tensor.ndim > 7) {
    return Fail(ISONORM_ERROR_RANK, "%s.ndim is %d, but must be from 1 to 7 (up to 6 leading dimensions).", name,
                static_cast<int>(tensor.ndim));
  }
  if (tensor.shape == nullptr) return Fail(ISONORM_ERROR_NULL, "%s.shape is null, but must hold ndim sizes.", name);
  return Fail(ISONORM_ERROR_DTYPE, "%s.dtype is {code %d, bits %d, lanes %d}, but must be f32, bf16, f16 or f64.", name,
              tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes);
}

}  // namespace

// In place, interleaved without meeting, or a fault.
isonorm_status CheckMeeting(const View& output, const View& other, bool in_place) {
  if (in_place && output.data == other.data && SameLayout(output, other)) return ISONORM_OK;
  // Slices of one packed buffer interleave without meeting. Decided exactly if both move by the same strides.
  Step steps[7];
  const int count = StepsOfBoth(output, other, steps);
  if (count >= 0) {
    const int64_t width_a = output.row_bytes(), width_b = other.row_bytes();
    bool meet = !Nested(std::max(width_a, width_b), steps, count);
    // Blocks [0, a) and [t, t + b) meet where -b < t < a: as two equal blocks if the narrow one is moved along the wide one.
    const int64_t distance = other.data - output.data;
    for (int64_t shift = 0; !meet; shift += std::min(width_a, width_b)) {
      const int64_t wide = std::max(width_a, width_b), narrow = std::min(width_a, width_b);
      const int64_t at = std::min(shift, wide - narrow);
      meet = Meet(width_a >= width_b ? distance - at : distance + at, narrow, steps, count);
      if (at == wide - narrow) break;
    }
    if (!meet) return ISONORM_OK;
  }
  return Fail(ISONORM_ERROR_OVERLAP, "%s overlaps %s; %s.", output.name, other.name,
              in_place ? "it may lie exactly over it, with the same dtype, shape and strides, or apart from it"
                       : "the two must not share memory");
}

Type TypeOf(isonorm_dtype dtype) {
  const auto packed = std::bit_cast<uint32_t>(dtype);
  if (packed == std::bit_cast<uint32_t>(ISONORM_F32)) return Type::kF32;
  if (packed == std::bit_cast<uint32_t>(ISONORM_BF16)) return Type::kBF16;
  if (packed == std::bit_cast<uint32_t>(ISONORM_F16)) return Type::kF16;
  if (packed == std::bit_cast<uint32_t>(ISONORM_F64)) return Type::kF64;
  if (packed == std::bit_cast<uint32_t>(ISONORM_I8)) return Type::kI8;
  if (packed == std::bit_cast<uint32_t>(ISONORM_E4M3)) return Type::kE4M3;
  if (packed == std::bit_cast<uint32_t>(ISONORM_E5M2)) return Type::kE5M2;
  if (packed == std::bit_cast<uint32_t>(ISONORM_I32)) return Type::kI32;
  if (packed == std::bit_cast<uint32_t>(ISONORM_I64)) return Type::kI64;
  const bool power = packed == std::bit_cast<uint32_t>(ISONORM_E8M0) || packed == std::bit_cast<uint32_t>(ISONORM_U8);
  return power ? Type::kE8M0 : Type::kNone;
}

const char* NameOf(Type type) {
  switch (type) {
    case Type::kF32: return "f32";
    case Type::kBF16: return "bf16";
    case Type::kF16: return "f16";
    case Type::kF64: return "f64";
    case Type::kI8: return "i8";
    case Type::kE4M3: return "e4m3";
    case Type::kE5M2: return "e5m2";
    case Type::kE8M0: return "e8m0";
    case Type::kI32: return "i32";
    case Type::kI64: return "i64";
    case Type::kNone: break;
  }
  return "none";
}

isonorm_status CheckTensor(const char* name, const isonorm_tensor* tensor, View* view) {
  const Type type = TypeOf(tensor->dtype);
  if (tensor->ndim < 1 || tensor->ndim > 7 || tensor->shape == nullptr || type == Type::kNone) return BadTensor(name, *tensor);
  view->name = name;
  view->tensor = tensor;
  view->type = type;
  int64_t before = 0, after = 0;  // bytes reached below and above the first element
  bool empty = false;
  const isonorm_status status = tensor->strides == nullptr || IsEmpty(*tensor)
                                    ? SpanCompact(name, *tensor, type, view, &after, &empty)
                                    : SpanStrided(name, *tensor, type, view, &before, &after);
  if (status != ISONORM_OK) return status;
  view->data = nullptr;
  view->low = view->high = 0;
  if (empty) return ISONORM_OK;
  if (tensor->data == nullptr) return Fail(ISONORM_ERROR_NULL, "%s.data is null, but the tensor is not empty.", name);
  intptr_t address = 0;
  if (__builtin_add_overflow(reinterpret_cast<intptr_t>(tensor->data), tensor->byte_offset, &address)) {
    return Fail(ISONORM_ERROR_OVERFLOW, "%s.byte_offset is %" PRIu64 ", which leads from data out of the address space.", name,
                tensor->byte_offset);
  }
  view->data = reinterpret_cast<char*>(address);  // data alone need not point to anything
  if (__builtin_add_overflow(address, before, &view->low) || __builtin_add_overflow(address, after, &view->high)) {
    return TooLarge(name);
  }
  return ISONORM_OK;
}

isonorm_status CheckContiguous(const View& view) {
  return view.repeats() ? BadLastStride(view.name, *view.tensor) : ISONORM_OK;
}

isonorm_status CheckOutput(const View& view) {
  if (view.tensor->strides == nullptr) return ISONORM_OK;  // compact
  const isonorm_status status = CheckContiguous(view);
  if (status != ISONORM_OK) return status;
  Step steps[7];
  const int count = StepsOf(view, steps);
  int64_t below = view.row_bytes();
  for (int i = count - 1; i >= 0; --i) {
    if (steps[i].bytes < below) {
      return Fail(ISONORM_ERROR_STRIDE,
                  "%s is an output whose rows overlap: a stride of %" PRId64 " bytes, but %" PRId64 " are needed.", view.name,
                  steps[i].bytes, below);
    }
    below = steps[i].bytes * (steps[i].count - 1) + below;  // cannot overflow: CheckTensor counted these bytes
  }
  return ISONORM_OK;
}

}  // namespace isonorm
