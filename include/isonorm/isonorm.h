/* isonorm: RMSNorm and LayerNorm, forward and backward, with the same bits on every path.
 *
 * This header is the C ABI and the only home of the version; types.h has its structures, parallel.h what several processes
 * compute together. All compile as C11 and as C++.
 *
 * Conventions that hold for every function
 *  - Nothing here aborts, prints or throws. A call either does all of its work and returns ISONORM_OK, or writes nothing (but
 *    where an executor breaks its promise) and returns another status; isonorm_last_error() then gives one sentence that names
 *    the argument and what is allowed.
 *  - Every function may be called from many threads at once. Only isonorm_set_target() changes what other threads see.
 *  - A call computes on the calling thread alone unless it is handed an executor.
 *  - Nothing is allocated and no thread is started: workspace and executor come from the caller. A call needs less than 192 KB
 *    of the stack of its thread.
 *  - The host's floating-point environment (rounding mode, flush-to-zero) neither changes a result nor is changed.
 *  - Sizes are int64_t. Strides are in elements.
 *  - A structure that may grow starts with its own size in bytes, and new fields are added at its end. A library takes one of
 *    any later version as long as the fields that it does not know are 0, and one of every version back to 0.2.0.
 *
 * The numbers: each row v of `cols` values (each group, where groups > 1) gives
 *     RMS statistic     m = mean(v^2)             over the first `window` values
 *     LayerNorm         m = mean((v - mean(v))^2), and v - mean(v) takes the place of v below
 *     eps inside        rstd = 1 / sqrt(m + eps)            (Zhang and Sennrich 2019, as torch.nn.RMSNorm places eps)
 *     eps outside       rstd = 1 / (sqrt(m) + eps)          (the paper's own code)
 *     y = round(v * rstd) * (weight + weight_offset) + bias
 * with one defined rounding after every operation and one defined order of every sum; docs/numerics.md has the whole of it.
 */
#ifndef ISONORM_ISONORM_H_
#define ISONORM_ISONORM_H_

#include <isonorm/rope.h>  /* rotation of q and k */
#include <isonorm/types.h> /* status, tensors, contracts, executor */
#include <stddef.h>
#include <stdint.h>

#define ISONORM_VERSION_MAJOR 0
#define ISONORM_VERSION_MINOR 2
#define ISONORM_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/* --------------------------------------------------------------------------------------------------------- forward */

/* All shapes follow x: x has shape [leading..., cols]. f32 is the compute type for f32, bf16 and f16 data, f64 for f64: if
 * x is f64 then every tensor is, but y may be f32. Otherwise each tensor's type is free among f32, bf16 and f16, and y may be
 * quantised. */
typedef struct isonorm_forward_args {
  size_t struct_size;                       /* sizeof(isonorm_forward_args) */
  const isonorm_tensor* x;                  /* [leading..., cols] */
  const isonorm_tensor* weight;             /* [cols], [1, cols] or [groups, cols / groups]; null: all ones */
  const isonorm_tensor* bias;               /* as weight; null: none */
  const isonorm_tensor* residual;           /* like x, or null: the row is x + residual */
  const isonorm_tensor* gate;               /* like x, where the contract has a gate_place; f32 compute only */
  const isonorm_rope* rope;                 /* y is rotated after weight and bias; not together with a gate after the norm */
  const isonorm_quantization* quantization; /* given exactly where y is i8, e4m3 or e5m2; not with f64 data */
  const isonorm_tensor* scale;              /* static: in, f32 [1], from 2^-126 to 2^126. Dynamic: out, f32, or e8m0 (u8 too)
                                               for powers of two; [leading...] or [leading..., 1] for a scale per row,
                                               [leading..., cols / group_cols] for groups */
  const isonorm_tensor* y;                  /* out: like x, type of its own; may lie exactly over x, residual or gate */
  const isonorm_tensor* residual_out;       /* out: x + residual, of residual's type; may lie as y may. If it is not wanted,
                                               `stored` rounds to residual's type all the same */
  const isonorm_tensor* mean;               /* out, LayerNorm only: like rstd, type of its own */
  const isonorm_tensor* rstd;               /* out: [leading...] or [leading..., groups], type of its own */
  int64_t groups;                           /* groups of neighbouring columns, each a row of its own; 0 or 1: the whole row */
  int64_t window;                           /* the first values of a group that the statistic sees (pRMSNorm); 0: all */
  void* workspace;                          /* any alignment; null if 0 bytes are needed */
  size_t workspace_size;                    /* bytes; apart from every tensor, and not between the rows of one */
  void* stream;                             /* of the tensors' device, on which the call is enqueued; null on the CPU */
  const isonorm_executor* executor;         /* null: the calling thread does it all */
  const struct isonorm_forward_args* also;  /* further tensors, k beside q, for the same call: see below */
} isonorm_forward_args;

/* Of the outputs at least one is wanted; the others are null, as is whatever else is not given.
 *
 * also: a chain of at most 4 structures, the first included, that one call computes with one contract, one eps and the first
 * one's workspace, stream and executor; those of the others are null. Each has tensors of its own, which may have other shapes
 * and types. An output must be apart from every tensor of the other structures. Everything of all of them is checked before
 * anything is written, and all of it is spread over the executor's threads at once. q and k lie, and may stay, in one packed
 * [tokens, (q + 2 k) heads, head_dim]: views of it by strides, in place, leave v as it is. */

/* eps: finite and not negative, rounded to the compute type; there is no default. */
ISONORM_API isonorm_status isonorm_forward(const isonorm_contract* contract, double eps, const isonorm_forward_args* args);

/* Bytes of workspace that this call needs, `also` included: none on the CPU. */
ISONORM_API isonorm_status isonorm_forward_workspace(const isonorm_contract* contract, double eps,
                                                     const isonorm_forward_args* args, size_t* bytes);

/* -------------------------------------------------------------------------------------------------------- backward */

enum { ISONORM_ACCUMULATE = 1 }; /* flags: add dweight and dbias to what their tensors hold, in the compute type */

/* Gradients of the forward above, of the function before its storage roundings:
 *     g = dy * (weight + weight_offset),  c = v * rstd
 *     dx_i = rstd * (g_i - c_i * mean(g * c)) + dresidual_i,   dweight = sum over rows of dy * c,   dbias = sum of dy
 * Any subset of the outputs may be asked for. dx is also the gradient of residual.
 * rstd, and with LayerNorm both mean and rstd, are used for eps inside, also those of another library or rounded to 16 bits,
 * whose rounding the mean survives; eps is not looked at then, but for rows of extreme size (docs/numerics.md, 4). */
typedef struct isonorm_backward_args {
  size_t struct_size;                       /* sizeof(isonorm_backward_args) */
  const isonorm_tensor* dy;                 /* [leading..., cols], type of its own */
  const isonorm_tensor* x;                  /* as in forward; may be null where residual_out is given and dx gives x's type */
  const isonorm_tensor* weight;             /* as in forward */
  const isonorm_tensor* bias;               /* as in forward; only a gate after the norm needs its values */
  const isonorm_tensor* residual;           /* as in forward: the sum is formed again. Not together with residual_out */
  const isonorm_tensor* residual_out;       /* in: as forward wrote it, instead of x and residual; sum_rounding `stored` only */
  const isonorm_tensor* gate;               /* as in forward */
  const isonorm_rope* rope;                 /* as in forward: dy is the gradient of what was rotated */
  const isonorm_tensor* mean;               /* in, LayerNorm only, as rstd, with which it counts */
  const isonorm_tensor* rstd;               /* in, type of its own; null: computed again, same bits as with forward's */
  const isonorm_tensor* dresidual;          /* like x: gradient that reached residual_out by other ways; null: none */
  const isonorm_tensor* dx;                 /* out: like x, x's type; exactly over any input of x's shape, or apart */
  const isonorm_tensor* dweight;            /* out: like weight, its type or the compute type; needs weight */
  const isonorm_tensor* dbias;              /* out: like weight, type of bias or compute type if bias is given, else any */
  const isonorm_tensor* dgate;              /* out: like x, the gate's type; may lie as dx may */
  int64_t groups;                           /* as in forward */
  int64_t window;                           /* as in forward */
  uint32_t flags;                           /* 0 or ISONORM_ACCUMULATE */
  uint32_t reserved;                        /* 0 */
  void* workspace;                          /* as in forward */
  size_t workspace_size;                    /* as in forward */
  void* stream;                             /* as in forward */
  const isonorm_executor* executor;         /* as in forward */
  const struct isonorm_backward_args* also; /* as in forward */
} isonorm_backward_args;

ISONORM_API isonorm_status isonorm_backward(const isonorm_contract* contract, double eps, const isonorm_backward_args* args);

/* Bytes of workspace that this call needs, `also` included: nothing without dweight and dbias, else at most
 * (log2(rows / 32) + 2) * cols * size of the compute type, for each of the two and each thread. */
ISONORM_API isonorm_status isonorm_backward_workspace(const isonorm_contract* contract, double eps,
                                                      const isonorm_backward_args* args, size_t* bytes);

/* ------------------------------------------------------------------------------------------------- double backward */

/* Gradients of the backward above, for losses that hold gradients themselves (gradient penalties, Hessian-vector products).
 * Given the cotangents ddx and ddweight of what backward computed from x, weight and dy, the gradients of
 *     sum(ddx * dx of backward) + sum(ddweight * dweight of backward)
 * with respect to x (-> dx), weight (-> dweight) and dy (-> ddy): what torch's *_double_backward functions call gI, gG and ggO
 * of ggI, ggG and gO. For each row (group), with the g and c of backward, p = rstd * ddx, t = ddweight * dy, and means over it:
 *     a = mean(g * c),  b = mean(p * c),  q = mean(p * g),  tau = mean(t * c)
 *     dx_i = rstd * (t_i - a * p_i - b * g_i - c_i * (tau + q - 3 * a * b))
 *     ddy_i = (weight_i + weight_offset) * (p_i - c_i * b) + ddweight_i * c_i
 *     dweight_i = sum over rows of dy_i * (p_i - c_i * b)
 * derived in docs/numerics.md. For the plain RMS norm only: a contract with another statistic, eps outside or a gate is an
 * error. Of a norm of x + residual, pass the residual_out as x; a bias changes nothing.
 * Any subset of the outputs may be asked for. A cotangent that is null counts as zeros. f64 goes only with f64. */
typedef struct isonorm_double_backward_args {
  size_t struct_size;             /* sizeof(isonorm_double_backward_args) */
  const isonorm_tensor* dy;       /* [leading..., cols], as in backward; type of its own */
  const isonorm_tensor* x;        /* as in forward */
  const isonorm_tensor* weight;   /* as in forward */
  const isonorm_tensor* rstd;     /* in: as forward wrote it; null: computed again, same bits */
  const isonorm_tensor* ddx;      /* like x, type of its own: cotangent of backward's dx; one of ddx and ddweight may be null */
  const isonorm_tensor* ddweight; /* [cols], type of its own: cotangent of backward's dweight; needs weight */
  const isonorm_tensor* dx;       /* out: like x, x's type; exactly over x, dy or ddx, or apart */
  const isonorm_tensor* dweight;  /* out: [cols], the weight's type; needs weight */
  const isonorm_tensor* ddy;      /* out: like x, dy's type; may lie as dx may */
  int64_t groups;                 /* as in forward */
  uint32_t flags;                 /* 0 or ISONORM_ACCUMULATE: add dweight to what its tensor holds */
  uint32_t reserved;              /* 0 */
  void* workspace;                /* as in forward */
  size_t workspace_size;          /* as in forward */
  void* stream;                   /* as in forward */
  const isonorm_executor* executor; /* as in forward */
} isonorm_double_backward_args;

ISONORM_API isonorm_status isonorm_double_backward(const isonorm_contract* contract, double eps,
                                                   const isonorm_double_backward_args* args);

/* Bytes of workspace that this call needs: nothing without dweight, else as isonorm_backward_workspace(). */
ISONORM_API isonorm_status isonorm_double_backward_workspace(const isonorm_contract* contract, double eps,
                                                             const isonorm_double_backward_args* args, size_t* bytes);

/* ------------------------------------------------------------------------------------------- RMS of vectors, and a penalty */

/* rms = sqrt(mean(v^2)) of every row of x, in the same order of summation; no row overflows or vanishes on the way.
 * It does not grow with the width: the RMS of a vector of ones is 1 at any size. A row of width 0 is an error. */
typedef struct isonorm_rms_args {
  size_t struct_size;               /* sizeof(isonorm_rms_args) */
  const isonorm_tensor* x;          /* [leading..., cols] */
  const isonorm_tensor* rms;        /* out: [leading...] in the compute type, for a vector x of ndim 1: [1] */
  void* stream;                     /* as in forward */
  const isonorm_executor* executor; /* as in forward */
} isonorm_rms_args;

ISONORM_API isonorm_status isonorm_rms(const isonorm_rms_args* args);

/* Its gradient: dx_i = drms * x_i / (cols * rms); 0 for a row of zeros (the smallest subgradient). */
typedef struct isonorm_rms_backward_args {
  size_t struct_size;               /* sizeof(isonorm_rms_backward_args) */
  const isonorm_tensor* x;          /* [leading..., cols] */
  const isonorm_tensor* drms;       /* in: like rms above */
  const isonorm_tensor* dx;         /* out: like x, type of its own, may lie exactly over x */
  void* stream;                     /* as in forward */
  const isonorm_executor* executor; /* as in forward */
} isonorm_rms_backward_args;

ISONORM_API isonorm_status isonorm_rms_backward(const isonorm_rms_backward_args* args);

/* The penalty lambda * rms(v)^2 of every row, which means the same at every width, and its gradient 2 * lambda / cols * x_i. */
typedef struct isonorm_rms_penalty_args {
  size_t struct_size;               /* sizeof(isonorm_rms_penalty_args) */
  const isonorm_tensor* x;          /* [leading..., cols] */
  const isonorm_tensor* penalty;    /* out: like rms above; null: not wanted */
  const isonorm_tensor* dx;         /* out: like x, type of its own, may lie exactly over x; null: not wanted */
  double lambda;                    /* finite */
  uint32_t flags;                   /* 0, or ISONORM_ACCUMULATE to add to what dx holds (dx over x is then an error) */
  uint32_t reserved;                /* 0 */
  void* stream;                     /* as in forward */
  const isonorm_executor* executor; /* as in forward */
} isonorm_rms_penalty_args;

ISONORM_API isonorm_status isonorm_rms_penalty(const isonorm_rms_penalty_args* args);

/* --------------------------------------------------------------------------------------------------- introspection */

/* Targets that were compiled and that this CPU has, best first; the last is "reference", the specification as scalar code. */
ISONORM_API size_t isonorm_target_count(void);
ISONORM_API const char* isonorm_target_name(size_t index); /* null from isonorm_target_count() on */

/* The target in use: the best one, or what the environment variable ISONORM_TARGET named at the first call, or what
 * isonorm_set_target() chose last. "" while ISONORM_TARGET names one that is absent; every computation then fails. */
ISONORM_API const char* isonorm_target(void);

/* Chooses for the whole process; null or "" goes back to the best. Calls already under way finish on the old one. */
ISONORM_API isonorm_status isonorm_set_target(const char* name);

/* Kernels: "forward.plain.cast.bf16.f32.bf16" = operation, source, sink, types of x, weight and output. */
ISONORM_API size_t isonorm_kernel_count(void);
ISONORM_API const char* isonorm_kernel_name(size_t index); /* null from isonorm_kernel_count() on */

/* What the calling thread's last successful computation ran, such as "forward.plain.cast.f32.f32.f32@AVX3": the part after
 * the @ is given by the code that ran. "" before the first. Valid until that thread's next call of this function. */
ISONORM_API const char* isonorm_last_kernel(void);

#ifdef __cplusplus
}
#endif

#include <isonorm/parallel.h> /* rows shared by several ranks, gradients of rows apart */

#endif /* ISONORM_ISONORM_H_ */
