// Compiled with -O3 -march=native -ffast-math. Nothing from the standard library is included: an inline function compiled
// here must not be the one that the linker keeps for the rest of the program.
#include "bench/textbook.h"
#include "bench/textbook_types.h"

namespace isonorm_cli::bench {
namespace {

#if defined(__FLT16_MAX__) && defined(__x86_64__)
inline float Get(_Float16 v) { return static_cast<float>(v); }
inline void Put(float v, _Float16* to) { *to = static_cast<_Float16>(v); }
#endif

template <class T, class W, bool kOffset = false>
void Forward(const void* x_in, const void* w_in, const void*, void* y_out, long rows, long cols, float eps) {
  const W* w = static_cast<const W*>(w_in);
  for (long r = 0; r < rows; ++r) {
    const T* x = static_cast<const T*>(x_in) + r * cols;
    T* y = static_cast<T*>(y_out) + r * cols;
    float sum = 0;
    for (long i = 0; i < cols; ++i) sum += Get(x[i]) * Get(x[i]);
    const float rstd = 1 / __builtin_sqrtf(sum / static_cast<float>(cols) + eps);
    for (long i = 0; i < cols; ++i) Put(Get(x[i]) * rstd * (kOffset ? 1 + Get(w[i]) : Get(w[i])), &y[i]);
  }
}

template <class T>
void LayerNorm(const void* x_in, const void* w_in, const void* b_in, void* y_out, long rows, long cols, float eps) {
  const T *w = static_cast<const T*>(w_in), *b = static_cast<const T*>(b_in);
  for (long r = 0; r < rows; ++r) {
    const T* x = static_cast<const T*>(x_in) + r * cols;
    T* y = static_cast<T*>(y_out) + r * cols;
    float sum = 0, squares = 0;
    for (long i = 0; i < cols; ++i) sum += Get(x[i]);
    const float mean = sum / static_cast<float>(cols);
    for (long i = 0; i < cols; ++i) squares += (Get(x[i]) - mean) * (Get(x[i]) - mean);
    const float rstd = 1 / __builtin_sqrtf(squares / static_cast<float>(cols) + eps);
    for (long i = 0; i < cols; ++i) Put((Get(x[i]) - mean) * rstd * Get(w[i]) + Get(b[i]), &y[i]);
  }
}

template <class T, bool kLayerNorm>
void Backward(const TextbookGradients& t, long rows, long cols) {
  const T* w = static_cast<const T*>(t.weight);
  float *dweight = t.dweight, *dbias = t.dbias;
  for (long i = 0; i < cols; ++i) dweight[i] = 0;
  for (long i = 0; kLayerNorm && i < cols; ++i) dbias[i] = 0;
  for (long r = 0; r < rows; ++r) {
    const T* dy = static_cast<const T*>(t.dy) + r * cols;
    const T* x = static_cast<const T*>(t.x) + r * cols;
    T* dx = static_cast<T*>(t.dx) + r * cols;
    const float s = t.rstd[r], mean = kLayerNorm ? t.mean[r] : 0;
    float dot = 0, sum = 0;
    for (long i = 0; i < cols; ++i) {
      const float g = Get(dy[i]) * Get(w[i]);
      dot += g * (Get(x[i]) - mean) * s;
      if (kLayerNorm) sum += g;
    }
    const float mean_dot = dot / static_cast<float>(cols), mean_g = sum / static_cast<float>(cols);
    for (long i = 0; i < cols; ++i) {
      const float c = (Get(x[i]) - mean) * s;
      dweight[i] += Get(dy[i]) * c;
      if (kLayerNorm) dbias[i] += Get(dy[i]);
      Put(s * (Get(dy[i]) * Get(w[i]) - mean_g - c * mean_dot), &dx[i]);
    }
  }
}

#if defined(__AVX512F__)
constexpr int kLevel = 512;
#elif defined(__AVX2__)
constexpr int kLevel = 2;
#else
constexpr int kLevel = 0;
#endif

}  // namespace

extern constinit const TextbookLoops kTextbookLoops = {kLevel,
                                                       Forward<float, float>,
                                                       Forward<Bf16, Bf16>,
#if defined(__FLT16_MAX__) && defined(__x86_64__)
                                                       Forward<_Float16, _Float16>,
#else
                                                       nullptr,
#endif
                                                       Forward<Bf16, float>,
                                                       Forward<Bf16, Bf16, true>,
                                                       LayerNorm<float>,
                                                       LayerNorm<Bf16>,
                                                       Backward<float, false>,
                                                       Backward<Bf16, false>,
                                                       Backward<float, true>,
                                                       Backward<Bf16, true>};

}  // namespace isonorm_cli::bench
