// The loop that a good compiler makes of the textbook: -O3 -march=native -ffast-math. The baseline beside isonorm.
#pragma once

namespace isonorm_cli::bench {

// cols values per row; the void pointers hide the types. Only LayerNorm looks at the bias.
using TextbookForward = void (*)(const void* x, const void* weight, const void* bias, void* y, long rows, long cols, float eps);
// What a backward loop reads and writes: dx and dweight (overwritten, f32); of LayerNorm dbias too, and from the saved mean.
struct TextbookGradients {
  const void *dy, *x, *weight;
  const float *mean, *rstd;
  void* dx;
  float *dweight, *dbias;
};
using TextbookBackward = void (*)(const TextbookGradients& tensors, long rows, long cols);

inline constexpr const char* kTextbookName = "textbook loop";

struct TextbookLoops {
  int level;  // which CPU the compiler meant: 512 AVX-512, 2 AVX2, 0 the baseline
  // Weights of x's type. forward_f16 is null where the compiler has no such type.
  TextbookForward forward_f32, forward_bf16, forward_f16;
  TextbookForward forward_bf16_f32;     // a weight of f32
  TextbookForward forward_bf16_offset;  // 1 is added to the weight
  TextbookForward layer_norm_f32, layer_norm_bf16;
  TextbookBackward backward_f32, backward_bf16, layer_norm_backward_f32, layer_norm_backward_bf16;
};

extern const TextbookLoops kTextbookLoops;

struct Row;
// The one that computes what the row does; null where there is none or this CPU cannot run it.
TextbookForward TextbookForwardOf(const Row& row);
TextbookBackward TextbookBackwardOf(const Row& row);

// False where this CPU lacks what kTextbookLoops was compiled for.
bool TextbookLoopsRun();

}  // namespace isonorm_cli::bench
