// Compiled with -O3 -march=native -ffast-math, and without the standard library, as textbook.cc is.
#include "bench/steps.h"

#include "bench/textbook_types.h"

#if defined(__x86_64__) && __has_include(<gnu/libc-version.h>) && !defined(__clang__)
extern "C" __attribute__((simd("notinbranch"))) float expf(float) noexcept;  // as <math.h> has it: a vector of them in libmvec
#else
extern "C" float expf(float) noexcept;
#endif

namespace isonorm_cli::bench {
namespace {

inline float Least(float a, float b) { return a < b ? a : b; }
inline unsigned BitsOf(float v) {
  unsigned bits;
  __builtin_memcpy(&bits, &v, sizeof bits);
  return bits;
}
inline float Sigmoid(float z) { return 1 / (1 + expf(-z)); }

struct I8 {
  static constexpr float kLargest = 127;
  static unsigned char From(float v) {
    return static_cast<unsigned char>(static_cast<int>(__builtin_nearbyintf(Least(Least(-v, 127) * -1, 127))));
  }
};

// To nearest even and saturating; numbers only.
struct E4M3 {
  static constexpr float kLargest = 448;
  static unsigned char From(float v) {
    const unsigned sign = BitsOf(v) >> 24 & 0x80u;
    const float magnitude = Least(__builtin_fabsf(v), 448);
    const unsigned bits = BitsOf(magnitude);
    const unsigned normal = (bits - (120u << 23) + 0x7FFFF + (bits >> 20 & 1)) >> 20;
    const unsigned subnormal = BitsOf(magnitude + 0x1p14f) - BitsOf(0x1p14f);
    return static_cast<unsigned char>((magnitude < 0x1p-6f ? subnormal : normal) | sign);
  }
};

template <class T>
void Add(const void* a_in, const void* b_in, void* out, long count) {
  const T *a = static_cast<const T*>(a_in), *b = static_cast<const T*>(b_in);
  T* to = static_cast<T*>(out);
#pragma GCC ivdep
  for (long i = 0; i < count; ++i) Put(Get(a[i]) + Get(b[i]), to + i);
}

template <class T>
void TimesSilu(const void* v_in, const void* gate_in, void* out, long count) {
  const T *v = static_cast<const T*>(v_in), *gate = static_cast<const T*>(gate_in);
  T* to = static_cast<T*>(out);
#pragma GCC ivdep
  for (long i = 0; i < count; ++i) {
    const float z = Get(gate[i]);
    Put(Get(v[i]) * z * Sigmoid(z), to + i);
  }
}

template <class T>
void SiluBackward(const void* dy_in, const void* v_in, const void* gate_in, void* dv_out, void* dgate_out, long count) {
  const T *dy = static_cast<const T*>(dy_in), *v = static_cast<const T*>(v_in), *gate = static_cast<const T*>(gate_in);
  T *dv = static_cast<T*>(dv_out), *dgate = static_cast<T*>(dgate_out);
#pragma GCC ivdep
  for (long i = 0; i < count; ++i) {
    const float z = Get(gate[i]), s = Sigmoid(z), g = Get(dy[i]);
    Put(g * Get(v[i]) * s * (1 + z * (1 - s)), dgate + i);
    Put(g * z * s, dv + i);
  }
}

template <class To>
void QuantizeRows(const void* in, long rows, long cols, float static_scale, float* scales, void* out) {
  const Bf16* v = static_cast<const Bf16*>(in);
  auto* to = static_cast<unsigned char*>(out);
  for (long row = 0; row < rows; ++row, v += cols, to += cols) {
    float scale = static_scale;
    if (scale == 0) {
      float most = 1e-9f;
      for (long i = 0; i < cols; ++i) {
        const float magnitude = __builtin_fabsf(Get(v[i]));
        most = magnitude > most ? magnitude : most;
      }
      scales[row] = scale = most / To::kLargest;
    }
    const float by = 1 / scale;
#pragma GCC ivdep
    for (long i = 0; i < cols; ++i) to[i] = To::From(Get(v[i]) * by);
  }
}

}  // namespace

const Steps kStepsF32 = {Add<float>, TimesSilu<float>, SiluBackward<float>};
const Steps kStepsBf16 = {Add<Bf16>, TimesSilu<Bf16>, SiluBackward<Bf16>};

void QuantizeToI8(const void* v, long rows, long cols, float static_scale, float* scales, void* to) {
  QuantizeRows<I8>(v, rows, cols, static_scale, scales, to);
}
void QuantizeToE4M3(const void* v, long rows, long cols, float static_scale, float* scales, void* to) {
  QuantizeRows<E4M3>(v, rows, cols, static_scale, scales, to);
}

void RotateHeads(void* data, const void* cos_in, const void* sin_in, long tokens, long heads, long cols) {
  auto* x = static_cast<Bf16*>(data);
  const Bf16 *cos = static_cast<const Bf16*>(cos_in), *sin = static_cast<const Bf16*>(sin_in);
  const long half = cols / 2;
  for (long token = 0; token < tokens; ++token, cos += half, sin += half) {
    for (long head = 0; head < heads; ++head, x += cols) {
#pragma GCC ivdep
      for (long i = 0; i < half; ++i) {
        const float a = Get(x[i]), b = Get(x[i + half]), c = Get(cos[i]), s = Get(sin[i]);
        Put(a * c - b * s, x + i);
        Put(b * c + a * s, x + i + half);
      }
    }
  }
}

}  // namespace isonorm_cli::bench
