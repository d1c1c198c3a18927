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

template <class T>
void Forward(const void* x_in, const void* w_in, void* y_out, long rows, long cols, float eps) {
  const T* w = static_cast<const T*>(w_in);
  for (long r = 0; r < rows; ++r) {
    const T* x = static_cast<const T*>(x_in) + r * cols;
    T* y = static_cast<T*>(y_out) + r * cols;
    float sum = 0;
    for (long i = 0; i < cols; ++i) sum += Get(x[i]) * Get(x[i]);
    const float rstd = 1 / __builtin_sqrtf(sum / static_cast<float>(cols) + eps);
    for (long i = 0; i < cols; ++i) Put(Get(x[i]) * rstd * Get(w[i]), &y[i]);
  }
}

template <class T>
void Backward(const void* dy_in, const void* x_in, const void* w_in, const float* rstd, void* dx_out, float* dweight, long rows,
              long cols) {
  const T* w = static_cast<const T*>(w_in);
  for (long i = 0; i < cols; ++i) dweight[i] = 0;
  for (long r = 0; r < rows; ++r) {
    const T* dy = static_cast<const T*>(dy_in) + r * cols;
    const T* x = static_cast<const T*>(x_in) + r * cols;
    T* dx = static_cast<T*>(dx_out) + r * cols;
    const float s = rstd[r];
    float dot = 0;
    for (long i = 0; i < cols; ++i) dot += Get(dy[i]) * Get(w[i]) * Get(x[i]) * s;
    const float mean = dot / static_cast<float>(cols);
    for (long i = 0; i < cols; ++i) {
      const float c = Get(x[i]) * s;
      dweight[i] += Get(dy[i]) * c;
      Put(s * (Get(dy[i]) * Get(w[i]) - c * mean), &dx[i]);
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
                                                       Forward<float>,
                                                       Forward<Bf16>,
#if defined(__FLT16_MAX__) && defined(__x86_64__)
                                                       Forward<_Float16>,
#else
                                                       nullptr,
#endif
                                                       Backward<float>,
                                                       Backward<Bf16>};

}  // namespace isonorm_cli::bench
