// Marks for functions that are compiled for the host and for devices, which is everything in numbers/. nvcc is to be told
// --fmad=false, as the host's compiler is told -ffp-contract=off, and nothing of fast math, which leaves no trace to look for
// here.
#pragma once

#if defined(__FAST_MATH__)
#error "isonorm must not be compiled with -ffast-math: it changes roundings, and with them the bits that isonorm promises."
#endif

#if defined(__CUDACC__)
#define ISONORM_HD __host__ __device__
// For what every element of every variant passes through: copied into each place, it makes kernels that take minutes to
// compile.
#define ISONORM_HD_OUTLINE __host__ __device__ __noinline__
#else
#define ISONORM_HD
#define ISONORM_HD_OUTLINE
#endif
