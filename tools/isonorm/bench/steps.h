// The steps that fused calls save: one more sweep over the tensors before or behind a norm, as a good compiler makes them of
// textbook loops. Only where TextbookLoopsRun().
#pragma once

namespace isonorm_cli::bench {

// Elementwise, in f32 or bf16, over `count` elements; outputs may lie over inputs.
struct Steps {
  void (*add)(const void* a, const void* b, void* to, long count);
  void (*times_silu)(const void* v, const void* gate, void* to, long count);
  // Of a gate behind the norm: dv = dy * silu(gate), dgate = dy * v * silu'(gate); v is what left the norm.
  void (*silu_backward)(const void* dy, const void* v, const void* gate, void* dv, void* dgate, long count);
};
extern const Steps kStepsF32, kStepsBf16;

// bf16 to i8 or e4m3, rows of `cols`, by one scale or, if static_scale is 0, by one for each row, which is written.
using QuantizeStep = void (*)(const void* v, long rows, long cols, float static_scale, float* scales, void* to);
void QuantizeToI8(const void* v, long rows, long cols, float static_scale, float* scales, void* to);
void QuantizeToE4M3(const void* v, long rows, long cols, float static_scale, float* scales, void* to);

// Rotates heads of bf16 in place, halves against each other; tables of [tokens, cols / 2].
void RotateHeads(void* x, const void* cos, const void* sin, long tokens, long heads, long cols);

}  // namespace isonorm_cli::bench
