// What a kernel is, the rows of kernels.inc as data, and what a target offers: one function for each row, or none.
#pragma once

#include <cstddef>
#include <cstdint>

#include "call/call.h"

namespace isonorm {

// Named as in kernels.inc.
enum class Operation : uint8_t {
  k_forward,
  k_backward,
  k_forward_partial,
  k_backward_partial,
  k_rms,
  k_rms_backward,
  k_rms_penalty,
  k_double_backward,
  kCount
};

enum KernelId : int {
#define ISONORM_KERNEL(operation, source, sink, x, weight, out) k_##operation##_##source##_##sink##_##x##_##weight##_##out,
#include "table/kernels.inc"
  kKernels
};

// "forward.plain.cast.f32.f32.f32"
const char* KernelName(int id);

// How the values of a row arise, and how they leave: as in kernels.inc.
enum class Source : uint8_t { k_plain, k_residual, k_gate, k_centred, k_any };
enum class Sink : uint8_t { k_cast, k_gate, k_quantize, k_rope, k_sum, k_rms, k_any };

// The row of loops for exactly these parts and types, the weight's kNone where there is none or it may be any; kKernels if the
// table has none. Types up to f64, but for `out`, which may be one of 8 bits.
int FindRow(Operation operation, Source source, Sink sink, Type x, Type weight, Type out);

// The row that takes every part and type.
int FindGeneralRow(Operation operation, bool wide);

// Neighbouring rows at constant strides: where a Call's leading dimensions collapse, all of them are one run. Both arrays have
// an entry for each RowTensor and outlive the run.
struct Run {
  int64_t first;  // index of the first row in the call
  int64_t count;
  char* const* data;      // of the first row; null where the call has none
  const int64_t* stride;  // bytes from row to row; 0 where the call has none
};

// A run of one of another's rows; `data` holds its addresses.
inline Run OneRow(const Run& run, int64_t row, char** data) {
  for (int t = 0; t < kRowTensors; ++t) data[t] = run.data[t] == nullptr ? nullptr : run.data[t] + row * run.stride[t];
  return {run.first + row, 1, data, run.stride};
}

// Sums over the rows of a block, in the compute type, `cols` each; null where not wanted. A kernel adds its rows in order.
struct ColumnSums {
  void* dweight;
  void* dbias;
};

using Kernel = void (*)(const Call& call, const Run& run, const ColumnSums& sums);

// An instruction set, or the reference: functions for rows in host memory.
struct Target {
  const char* name;  // given by the code of the target itself
  Kernel kernels[kKernels];
  bool (*all_finite)(const void* data, Type type, int64_t count);
};

}  // namespace isonorm
