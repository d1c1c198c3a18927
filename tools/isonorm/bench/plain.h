// The loop that a good compiler makes of the textbook: -O3 -march=native -ffast-math. The baseline beside isonorm.
#pragma once

namespace isonorm_cli::bench {

// cols values per row; x, weight and y of one type, which the void pointers hide.
using PlainForward = void (*)(const void* x, const void* weight, void* y, long rows, long cols, float eps);
// dx and dweight (overwritten, f32) from dy, x, weight and the saved rstd.
using PlainBackward = void (*)(const void* dy, const void* x, const void* weight, const float* rstd, void* dx, float* dweight,
                               long rows, long cols);

struct PlainLoops {
  int level;                                            // which CPU the compiler meant: 512 AVX-512, 2 AVX2, 0 the baseline
  PlainForward forward_f32, forward_bf16, forward_f16;  // null: the compiler has no such type
  PlainBackward backward_f32, backward_bf16;
};

extern const PlainLoops kPlainLoops;

// False where this CPU lacks what kPlainLoops was compiled for.
bool PlainLoopsRun();

}  // namespace isonorm_cli::bench
