#include "call/usual.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <new>
#include <utility>

#include "call/contract.h"
#include "call/scalar.h"
#include "call/tensor.h"

namespace isonorm {
namespace {

constexpr double kMax = std::numeric_limits<float>::max();
constexpr int64_t kMostElements = int64_t{1} << 30;   // the product of two such numbers does not overflow
constexpr intptr_t kLastAddress = intptr_t{1} << 62;  // no sum of an address and so many elements overflows
constexpr int kOffsetBits = 62;                       // nor does that of an address and a byte_offset of so many bits

bool IsKnown(const isonorm_contract& contract) {
  return contract.struct_size == sizeof(contract) && static_cast<uint32_t>(contract.rotation_rounding) - 1 < 2 &&
         contract.reserved == 0 && static_cast<uint32_t>(contract.statistic) - 1 < 2 &&
         static_cast<uint32_t>(contract.eps_place) - 1 < 2 && static_cast<uint32_t>(contract.scaled_rounding) - 1 < 3 &&
         static_cast<uint32_t>(contract.sum_rounding) - 1 < 2 && contract.gate_place == ISONORM_GATE_NONE &&
         static_cast<uint32_t>(contract.gate_function) - 1 < 2;
}

bool IsKnown(const isonorm_forward_args& args) {
  if (args.struct_size != sizeof(args) || args.x == nullptr || args.y == nullptr) return false;
  const auto bits = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); };
  const uintptr_t unusual = bits(args.residual) | bits(args.gate) | bits(args.residual_out) | bits(args.stream) |
                            bits(args.quantization) | bits(args.scale) | bits(args.rope) | bits(args.also) |
                            static_cast<uintptr_t>(args.window) | (static_cast<uintptr_t>(args.groups) & ~uintptr_t{1});
  return unusual == 0;
}

bool IsKnown(const isonorm_executor& executor) {
  return executor.struct_size == sizeof(executor) && executor.concurrency >= 1 && executor.reserved == 0 &&
         executor.parallel_for != nullptr;
}

// Its type, or kNone for anything but elements of 16 or 32 bits in host memory.
Type NarrowTypeOf(const isonorm_tensor& tensor) {
  if (tensor.device.device_type != ISONORM_DEVICE_CPU || tensor.data == nullptr || tensor.shape == nullptr) return Type::kNone;
  const Type type = TypeOf(tensor.dtype);
  return type >= Type::kF64 ? Type::kNone : type;
}

bool IsKnownSize(int64_t size) { return size > 0 && size <= kMostElements; }

// Whether dimension i goes to its next element as if nothing lay between its elements; `below` elements lie in one of them.
bool IsCompactAt(const isonorm_tensor& tensor, int i, int64_t below) {
  return tensor.strides == nullptr || tensor.strides[i] == below || tensor.shape[i] == 1;
}

// As a number, for a byte_offset that leaves the address space must not be added to a pointer.
intptr_t AddressOf(const isonorm_tensor& tensor) {
  return static_cast<intptr_t>(reinterpret_cast<uintptr_t>(tensor.data) + tensor.byte_offset);
}

bool IsKnown(intptr_t address) { return address > 0 && address < kLastAddress; }

bool Apart(intptr_t a, intptr_t a_bytes, intptr_t b, intptr_t b_bytes) { return a + a_bytes <= b || b + b_bytes <= a; }

// What lies beside x and y.
struct Beside {
  intptr_t at = 0, bytes = 0;
  Type type = Type::kNone;

  // One entry for each column.
  [[gnu::always_inline]] bool TakeVector(const isonorm_tensor& from, int64_t cols) {
    return from.ndim == 1 && Take(from, cols) && from.shape[0] == cols && IsCompactAt(from, 0, 1);
  }
  // One entry for each row of x, as a last dimension of one or without it.
  bool TakeStatistic(const isonorm_tensor& from, const isonorm_tensor& x, int64_t rows) {
    const int last = x.ndim - 1;
    if ((from.ndim != last && from.ndim != x.ndim) || from.ndim == 0 || !Take(from, rows)) return false;
    if (from.ndim == x.ndim && (from.shape[last] != 1 || !IsCompactAt(from, last, 1))) return false;
    int64_t below = 1;
    for (int i = last - 1; i >= 0; below *= x.shape[i--]) {
      if (from.shape[i] != x.shape[i] || !IsCompactAt(from, i, below)) return false;
    }
    return true;
  }
  [[gnu::always_inline]] bool IsApart(intptr_t from, intptr_t count) const { return Apart(at, bytes, from, count); }
  [[gnu::always_inline]] bool IsApart(const Beside& other) const {
    return type == Type::kNone || other.type == Type::kNone || IsApart(other.at, other.bytes);
  }

 private:
  [[gnu::always_inline]] bool Take(const isonorm_tensor& from, int64_t count) {
    type = NarrowTypeOf(from);
    if (type == Type::kNone) return false;
    at = AddressOf(from);
    bytes = count << Log2SizeOf(type);
    return IsKnown(at) && from.byte_offset >> kOffsetBits == 0;
  }
};

// rstd and mean, apart from all else. Not inlined, as most calls have none.
[[gnu::noinline]] bool TakeStatistics(const isonorm_forward_args& args, int64_t rows, bool centres, const Beside (&others)[4],
                                      Beside* rstd, Beside* mean) {
  if (args.rstd != nullptr && !rstd->TakeStatistic(*args.rstd, *args.x, rows)) return false;
  if (args.mean != nullptr && !mean->TakeStatistic(*args.mean, *args.x, rows)) return false;
  // RMSNorm has no mean, and its loops an rstd in f32 alone.
  if (!rstd->IsApart(*mean) || !(centres || (args.mean == nullptr && rstd->type == Type::kF32))) return false;
  for (const Beside& other : others) {
    if (!rstd->IsApart(other) || !mean->IsApart(other)) return false;
  }
  return true;
}

}  // namespace

bool MakeUsualForward(const isonorm_contract* contract, double eps, const isonorm_forward_args* args, CallRoom* room) {
  if (contract == nullptr || args == nullptr || !IsKnown(*contract) || !IsKnown(*args)) return false;
  if (args->executor != nullptr && !IsKnown(*args->executor)) return false;
  const double narrow_eps = RoundedToF32(eps), offset = RoundedToF32(contract->weight_offset);
  if (!(eps >= 0 && narrow_eps <= kMax && std::abs(offset) <= kMax)) return false;

  const isonorm_tensor &x = *args->x, &y = *args->y;
  const Type x_type = NarrowTypeOf(x), y_type = NarrowTypeOf(y);
  const int last = x.ndim - 1;
  if (x_type == Type::kNone || y_type == Type::kNone || last < 0 || last > kMaxLeading || y.ndim != x.ndim) return false;
  const int64_t cols = x.shape[last];
  if (!IsKnownSize(cols) || cols != y.shape[last] || !IsCompactAt(x, last, 1) || !IsCompactAt(y, last, 1)) {
    return false;
  }
  int64_t rows = 1, elements = cols;
  for (int i = last - 1; i >= 0; --i) {
    const int64_t size = x.shape[i];
    if (!IsKnownSize(size) || size != y.shape[i] || !IsCompactAt(x, i, elements) || !IsCompactAt(y, i, elements)) return false;
    elements *= size;
    rows *= size;
    if (elements > kMostElements) return false;
  }
  const intptr_t x_at = AddressOf(x), x_bytes = elements << Log2SizeOf(x_type);
  const intptr_t y_at = AddressOf(y), y_bytes = elements << Log2SizeOf(y_type);
  if (!IsKnown(x_at) || !IsKnown(y_at) || ((x.byte_offset | y.byte_offset) >> kOffsetBits) != 0) return false;
  if (!Apart(x_at, x_bytes, y_at, y_bytes) && !(x_at == y_at && x_type == y_type)) return false;

  const bool centres = contract->statistic == ISONORM_STATISTIC_LAYER;
  Beside weight, bias, rstd, mean;
  if (args->weight != nullptr && !(weight.TakeVector(*args->weight, cols) && weight.IsApart(y_at, y_bytes))) return false;
  if (args->bias != nullptr && !(centres && bias.TakeVector(*args->bias, cols) && bias.IsApart(y_at, y_bytes))) return false;
  const bool has_statistics = args->rstd != nullptr || args->mean != nullptr;
  if (has_statistics &&
      !TakeStatistics(*args, rows, centres, {{x_at, x_bytes, x_type}, {y_at, y_bytes, y_type}, weight, bias}, &rstd, &mean)) {
    return false;
  }

  Call& call = *new (&room->call) Call;
  call.usual = true;
  call.weight = reinterpret_cast<const void*>(weight.at);
  call.weight_type = weight.type;
  call.bias = reinterpret_cast<const void*>(bias.at);
  call.bias_type = bias.type;
  if (args->executor != nullptr) call.executor = *args->executor;
  call.workspace = args->workspace;
  if (centres) call.norm.statistic = Statistic::kLayerNorm;
  call.norm.eps_outside = contract->eps_place == ISONORM_EPS_OUTSIDE;
  call.norm.eps = narrow_eps;
  call.norm.count = cols;
  call.weight_offset = offset;
  call.cols = call.group_cols = call.window = cols;
  call.rows = call.shape[0] = rows;
  if (rows > 1) {
    call.leading = 1;
    call.stride[0][kX] = cols << Log2SizeOf(x_type);
    call.stride[0][kY] = cols << Log2SizeOf(y_type);
  }
  if (has_statistics) {
    for (const auto& [at, from] : {std::pair{kRstd, &rstd}, {kMean, &mean}}) {
      call.data[at] = reinterpret_cast<char*>(from->at);
      call.type[at] = from->type;
      if (rows > 1 && from->at != 0) call.stride[0][at] = int64_t{1} << Log2SizeOf(from->type);
    }
  }
  call.data[kX] = reinterpret_cast<char*>(x_at);
  call.data[kY] = reinterpret_cast<char*>(y_at);
  call.type[kX] = x_type;
  call.type[kY] = y_type;
  SetRoundings(*contract, x_type, Type::kNone, &call);
  return true;
}

}  // namespace isonorm
