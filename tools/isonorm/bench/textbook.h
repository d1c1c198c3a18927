// The loop that a good compiler makes of the textbook: -O3 -march=native -ffast-math. The baseline beside isonorm.
#pragma once

namespace isonorm_cli::bench {

// cols values per row; x, weight and y of one type, which the void pointers hide.
using TextbookForward = void (*)(const void* x, const void* weight, void* y, long rows, long cols, float eps);
// dx and dweight (overwritten, f32) from dy, x, weight and the saved rstd.
using TextbookBackward = void (*)(const void* dy, const void* x, const void* weight, const float* rstd, void* dx,
                                  float* dweight, long rows, long cols);

inline constexpr const char* kTextbookName = "textbook loop";

struct TextbookLoops {
  int level;                                               // which CPU the compiler meant: 512 AVX-512, 2 AVX2, 0 the baseline
  TextbookForward forward_f32, forward_bf16, forward_f16;  // null: the compiler has no such type
  TextbookBackward backward_f32, backward_bf16;
};

extern const TextbookLoops kTextbookLoops;

// False where this CPU lacks what kTextbookLoops was compiled for.
bool TextbookLoopsRun();

}  // namespace isonorm_cli::bench
