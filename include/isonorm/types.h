/* The types of isonorm's C ABI: status, tensors, contracts, executor. isonorm.h includes it and has the functions. */
#ifndef ISONORM_TYPES_H_
#define ISONORM_TYPES_H_

#include <stddef.h>
#include <stdint.h>

#if defined(ISONORM_STATIC)
#define ISONORM_API
#elif defined(_WIN32)
#if defined(ISONORM_BUILDING)
#define ISONORM_API __declspec(dllexport)
#else
#define ISONORM_API __declspec(dllimport)
#endif
#else
#define ISONORM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------------ status and errors */

/* Stable codes: a value is never reused. */
typedef enum isonorm_status {
  ISONORM_OK = 0,
  ISONORM_ERROR_NULL = 1,        /* a required pointer is null */
  ISONORM_ERROR_STRUCT_SIZE = 2, /* struct_size is no size of this structure, or what lies after the known fields is not 0 */
  ISONORM_ERROR_CONTRACT = 3,    /* a contract field is unset or has no such value, or the name is unknown */
  ISONORM_ERROR_EPS = 4,         /* eps is negative, NaN or infinite */
  ISONORM_ERROR_DTYPE = 5,       /* a dtype is unknown or not allowed together with the others */
  ISONORM_ERROR_RANK = 6,        /* ndim is not from 1 to 7, or differs from what x asks for */
  ISONORM_ERROR_SHAPE = 7,       /* a size is negative or differs from what x asks for; no shape is broadcast */
  ISONORM_ERROR_STRIDE = 8, /* the last stride is not 1, nor 0 in an input; or an output's rows overlap, or groups are apart */
  ISONORM_ERROR_OVERFLOW = 9,   /* the number of elements or bytes, or data + byte_offset, does not fit in int64 */
  ISONORM_ERROR_WINDOW = 10,    /* window is negative, larger than the group, or given with LayerNorm */
  ISONORM_ERROR_GROUPS = 11,    /* groups is negative or does not divide cols, or group_cols the group */
  ISONORM_ERROR_OVERLAP = 12,   /* an output overlaps another tensor other than exactly in place, or the workspace a tensor */
  ISONORM_ERROR_DEVICE = 13,    /* a tensor is not in memory of this CPU */
  ISONORM_ERROR_WORKSPACE = 14, /* workspace is null or smaller than the call's ..._workspace() says */
  ISONORM_ERROR_TARGET = 15,    /* no such target, or this CPU does not have it */
  ISONORM_ERROR_ARGUMENT = 16,  /* tensors that exclude or need each other, see the message */
  ISONORM_ERROR_EXECUTOR = 17,  /* the executor is incomplete, or did not run the tasks of the call */
  ISONORM_ERROR_SELF_TEST = 18, /* the target computed other bits than the specification and is refused */
  ISONORM_ERROR_INTERNAL = 19,  /* a defect in isonorm */
  ISONORM_ERROR_QUANTIZATION = 20, /* a field of isonorm_quantization, or a static scale, is not allowed */
  ISONORM_ERROR_SPLIT = 21,        /* ranks that would split a leaf of the row, or parts that would split a block of rows */
  ISONORM_ERROR_ROPE = 22          /* a field of isonorm_rope is not allowed, or a position lies outside the table */
} isonorm_status;

/* "ISONORM_OK" and so on; "unknown status" for any other number. Never null. */
ISONORM_API const char* isonorm_status_name(isonorm_status status);

/* One sentence about the calling thread's last failed call; "" before the first. Valid until that thread's next failure. */
ISONORM_API const char* isonorm_last_error(void);

/* "0.2.0" */
ISONORM_API const char* isonorm_version(void);

/* -------------------------------------------------------------------------------- tensors, in the vocabulary of DLPack */

/* Bit-compatible with DLDataType, DLDevice and DLTensor of DLPack (github.com/dmlc/dlpack), whose header is not needed:
 * a DLTensor* may be cast to isonorm_tensor*. */
typedef struct isonorm_dtype {
  uint8_t code;   /* ISONORM_CODE_... */
  uint8_t bits;   /* bits per element */
  uint16_t lanes; /* 1 */
} isonorm_dtype;

#define ISONORM_CODE_INT 0    /* kDLInt: i8; i32 and i64 for positions */
#define ISONORM_CODE_UINT 1   /* kDLUInt: u8, which is taken for e8m0 */
#define ISONORM_CODE_FLOAT 2  /* kDLFloat: f16, f32, f64 */
#define ISONORM_CODE_BFLOAT 4 /* kDLBfloat: bf16 */
#define ISONORM_CODE_E4M3 10  /* kDLFloat8_e4m3fn: no infinities, 448 is the largest */
#define ISONORM_CODE_E5M2 12  /* kDLFloat8_e5m2: 57344 is the largest finite one */
#define ISONORM_CODE_E8M0 14  /* kDLFloat8_e8m0fnu: a byte b stands for 2^(b - 127); scales only */
#define ISONORM_DEVICE_CPU 1  /* kDLCPU */

#ifdef __cplusplus
#define ISONORM_DTYPE(code, bits) \
  isonorm_dtype { (code), (bits), 1 }
#else
#define ISONORM_DTYPE(code, bits) ((isonorm_dtype){(code), (bits), 1})
#endif
#define ISONORM_F32 ISONORM_DTYPE(ISONORM_CODE_FLOAT, 32)
#define ISONORM_BF16 ISONORM_DTYPE(ISONORM_CODE_BFLOAT, 16)
#define ISONORM_F16 ISONORM_DTYPE(ISONORM_CODE_FLOAT, 16)
#define ISONORM_F64 ISONORM_DTYPE(ISONORM_CODE_FLOAT, 64)
#define ISONORM_I8 ISONORM_DTYPE(ISONORM_CODE_INT, 8)
#define ISONORM_I32 ISONORM_DTYPE(ISONORM_CODE_INT, 32)
#define ISONORM_I64 ISONORM_DTYPE(ISONORM_CODE_INT, 64)
#define ISONORM_U8 ISONORM_DTYPE(ISONORM_CODE_UINT, 8)
#define ISONORM_E4M3 ISONORM_DTYPE(ISONORM_CODE_E4M3, 8)
#define ISONORM_E5M2 ISONORM_DTYPE(ISONORM_CODE_E5M2, 8)
#define ISONORM_E8M0 ISONORM_DTYPE(ISONORM_CODE_E8M0, 8)

typedef struct isonorm_device {
  int32_t device_type; /* ISONORM_DEVICE_CPU */
  int32_t device_id;
} isonorm_device;

/* The library never writes to this structure, only to data of those tensors that a call names as outputs. */
typedef struct isonorm_tensor {
  void* data; /* may be null only if the tensor is empty; any alignment to its element */
  isonorm_device device;
  int32_t ndim; /* 1 to 7: up to 6 leading dimensions and the normalised one, which is last */
  isonorm_dtype dtype;
  int64_t* shape;       /* ndim sizes */
  int64_t* strides;     /* ndim strides in elements, the last one 1, or in an input 0: one value for the whole dimension; null
                           means compact row-major. Of an empty tensor nobody looks at them */
  uint64_t byte_offset; /* added to data */
} isonorm_tensor;

/* ------------------------------------------------------------------------------------------------------- contracts */

/* What is computed: every choice of rounding as data. No field has a silent default: 0 is an error in each enum. */
enum { ISONORM_STATISTIC_RMS = 1, ISONORM_STATISTIC_LAYER = 2 };
enum { ISONORM_EPS_INSIDE = 1, ISONORM_EPS_OUTSIDE = 2 };
/* scaled_rounding: is v * rstd rounded to a storage type before the weight multiplies it?
 * rotation_rounding: is what leaves the norm rounded, as if it were stored as x is, before it is rotated? Only the first two */
enum { ISONORM_ROUND_NONE = 1, ISONORM_ROUND_TO_X = 2, ISONORM_ROUND_TO_WEIGHT = 3 };
/* sum_rounding: is the row that is normalised the residual_out as stored, or x + residual as kept in the compute type? */
enum { ISONORM_SUM_STORED = 1, ISONORM_SUM_KEPT = 2 };
/* gate_place: no gate; norm(x * f(gate)); norm(x) * f(gate) */
enum { ISONORM_GATE_NONE = 1, ISONORM_GATE_BEFORE = 2, ISONORM_GATE_AFTER = 3 };
/* gate_function, the f above: silu(z) = z / (1 + exp(-z)) or sigmoid(z) = 1 / (1 + exp(-z)). Without a gate it has no effect */
enum { ISONORM_GATE_SILU = 1, ISONORM_GATE_SIGMOID = 2 };

typedef struct isonorm_contract {
  size_t struct_size;        /* sizeof(isonorm_contract) */
  int32_t statistic;         /* ISONORM_STATISTIC_... */
  int32_t eps_place;         /* ISONORM_EPS_... */
  int32_t scaled_rounding;   /* ISONORM_ROUND_... */
  int32_t sum_rounding;      /* ISONORM_SUM_... */
  int32_t gate_place;        /* ISONORM_GATE_... */
  int32_t gate_function;     /* ISONORM_GATE_SILU or ISONORM_GATE_SIGMOID */
  int32_t rotation_rounding; /* ISONORM_ROUND_NONE or ISONORM_ROUND_TO_X */
  int32_t reserved;          /* 0 */
  double weight_offset;      /* added to the weight in the compute type: 0, or 1 for Gemma */
} isonorm_contract;

/* The named contracts as initialisers: isonorm_contract c = ISONORM_CONTRACT_LLAMA;
 * Models whose norm is a layer of its own store its result in x's type before they rotate it: Qwen3, Gemma 3 (type_as(x)) and
 * Qwen3-Next in Hugging Face's code, and all others there. Their contracts have rotation_rounding TO_X. The fused kernels of
 * GPUs (fused_qk_norm_rope of vLLM and TensorRT-LLM) keep f32 until the store, which is `torch` with its one rounding. */
#define ISONORM_CONTRACT_(statistic, eps, scaled, gate, offset, rotation) \
  { sizeof(isonorm_contract), statistic, eps, scaled, ISONORM_SUM_STORED, gate, ISONORM_GATE_SILU, rotation, 0, offset }
/* torch.nn.RMSNorm, OLMo2, most fused GPU kernels, JAX, Flax, Keras: one rounding, at the store */
#define ISONORM_CONTRACT_TORCH \
  ISONORM_CONTRACT_(ISONORM_STATISTIC_RMS, ISONORM_EPS_INSIDE, ISONORM_ROUND_NONE, ISONORM_GATE_NONE, 0.0, ISONORM_ROUND_NONE)
/* Hugging Face LlamaRMSNorm (Llama, Mistral, Qwen2, Qwen3), MLX: rounded to x's type, then times the weight */
#define ISONORM_CONTRACT_LLAMA \
  ISONORM_CONTRACT_(ISONORM_STATISTIC_RMS, ISONORM_EPS_INSIDE, ISONORM_ROUND_TO_X, ISONORM_GATE_NONE, 0.0, ISONORM_ROUND_TO_X)
/* ONNX RMSNormalization, opset 23, with stash_type float */
#define ISONORM_CONTRACT_ONNX \
  ISONORM_CONTRACT_(ISONORM_STATISTIC_RMS, ISONORM_EPS_INSIDE, ISONORM_ROUND_TO_X, ISONORM_GATE_NONE, 0.0, ISONORM_ROUND_TO_X)
/* Hugging Face T5LayerNorm: rounded to the weight's type, then times the weight */
#define ISONORM_CONTRACT_T5                                                                                     \
  ISONORM_CONTRACT_(ISONORM_STATISTIC_RMS, ISONORM_EPS_INSIDE, ISONORM_ROUND_TO_WEIGHT, ISONORM_GATE_NONE, 0.0, \
                    ISONORM_ROUND_TO_X)
/* Gemma 1 to 3, Qwen3-Next: times (1 + weight), formed in the compute type */
#define ISONORM_CONTRACT_GEMMA \
  ISONORM_CONTRACT_(ISONORM_STATISTIC_RMS, ISONORM_EPS_INSIDE, ISONORM_ROUND_NONE, ISONORM_GATE_NONE, 1.0, ISONORM_ROUND_TO_X)
/* The code of the RMSNorm paper, bzhangGo/rmsnorm: x / (rms + eps), with window the pRMSNorm, with bias */
#define ISONORM_CONTRACT_PAPER \
  ISONORM_CONTRACT_(ISONORM_STATISTIC_RMS, ISONORM_EPS_OUTSIDE, ISONORM_ROUND_NONE, ISONORM_GATE_NONE, 0.0, ISONORM_ROUND_NONE)
/* MambaRMSNormGated (Mamba2, Nemotron-H, Zamba2): the gate first, groups, rounded to x's type */
#define ISONORM_CONTRACT_MAMBA2 \
  ISONORM_CONTRACT_(ISONORM_STATISTIC_RMS, ISONORM_EPS_INSIDE, ISONORM_ROUND_TO_X, ISONORM_GATE_BEFORE, 0.0, ISONORM_ROUND_TO_X)
/* Qwen3NextRMSNormGated: as llama, then times silu(gate) */
#define ISONORM_CONTRACT_QWEN3_NEXT_GATED \
  ISONORM_CONTRACT_(ISONORM_STATISTIC_RMS, ISONORM_EPS_INSIDE, ISONORM_ROUND_TO_X, ISONORM_GATE_AFTER, 0.0, ISONORM_ROUND_TO_X)
/* nanochat, microgpt: as torch, without a weight; microgpt's eps is 1e-5, nanochat leaves it to torch: that of x's type */
#define ISONORM_CONTRACT_MICROGPT \
  ISONORM_CONTRACT_(ISONORM_STATISTIC_RMS, ISONORM_EPS_INSIDE, ISONORM_ROUND_NONE, ISONORM_GATE_NONE, 0.0, ISONORM_ROUND_NONE)
/* torch.nn.LayerNorm */
#define ISONORM_CONTRACT_LAYER_NORM \
  ISONORM_CONTRACT_(ISONORM_STATISTIC_LAYER, ISONORM_EPS_INSIDE, ISONORM_ROUND_NONE, ISONORM_GATE_NONE, 0.0, ISONORM_ROUND_TO_X)

/* The same by name, for programs that read it from their user: "torch", "llama", "onnx", "t5", "gemma", "paper", "mamba2",
 * "qwen3_next_gated", "microgpt", "layer_norm". */
ISONORM_API size_t isonorm_contract_count(void);
ISONORM_API const char* isonorm_contract_name(size_t index); /* null from isonorm_contract_count() on */
/* size: sizeof(isonorm_contract), of which no byte more is written. */
ISONORM_API isonorm_status isonorm_contract_by_name(const char* name, isonorm_contract* contract, size_t size);

/* -------------------------------------------------------------------------------------------------------- executor */

/* Where a call may use several threads. parallel_for must call task(task_context, i) exactly once for every i in [0, count),
 * on any threads, in any order, and return when all have returned. It is called at most once by each call of the library,
 * with count <= concurrency, and not at all for work too small to gain. No result depends on it. An executor that throws, or
 * that does not run each task once, makes the call fail with ISONORM_ERROR_EXECUTOR: the one failure after which outputs and
 * workspace may hold anything. */
typedef struct isonorm_executor {
  size_t struct_size;  /* sizeof(isonorm_executor) */
  int32_t concurrency; /* how many tasks can run at once, at least 1 */
  int32_t reserved;    /* 0 */
  void* context;
  void (*parallel_for)(void* context, int64_t count, void (*task)(void* task_context, int64_t index), void* task_context);
} isonorm_executor;

/* ---------------------------------------------------------------------------------------------------- quantised output */

/* scale_kind: a scale that is given, one for the tensor; scales that are computed, f32; or powers of two, E8M0 */
enum { ISONORM_SCALE_STATIC = 1, ISONORM_SCALE_DYNAMIC = 2, ISONORM_SCALE_POWER_OF_TWO = 3 };

/* How y becomes i8, e4m3 or e5m2: q = round(y * (1 / scale)), to nearest even, saturating. NaN becomes 0 in i8, NaN in the
 * others. A value is about q * scale again. docs/numerics.md has every rounding.
 *     dynamic        scale = max(amax / largest, min_scale), amax the largest finite |y| of a row, or of a group of columns,
 *                    largest = 127, 448 or 57344; what vLLM does per token, and per group
 *     power of two   scale = 2^(floor(log2(amax)) - emax), emax = 8 for e4m3, 15 for e5m2 (OCP Microscaling Formats 1.0, 6.3);
 *                    i8 is MXINT8 there: its elements have six bits after the point, so that a value is q / 64 * scale */
typedef struct isonorm_quantization {
  size_t struct_size;       /* sizeof(isonorm_quantization) */
  int32_t scale_kind;       /* ISONORM_SCALE_... */
  isonorm_dtype rounded_to; /* ISONORM_BF16 or ISONORM_F16: y is rounded to it first, as if stored; {0, 0, 0}: it is not */
  int64_t group_cols;       /* a scale for each 32, 64 or 128 columns, which must divide cols and the columns of a norm's
                               group; 0: one for the row. 0 for a static scale */
  double min_scale;         /* dynamic scales are at least this: 2^-126 to 2^126, a power of two for E8M0; 0: the least
                               possible, 2^-126, for E8M0 2^-127 (i8: 2^-120) */
  double scale_ub;          /* amax is cut to this; vLLM's and FBGEMM's name, though it bounds no scale; 0: it is not */
} isonorm_quantization;

#ifdef __cplusplus
}
#endif

#endif /* ISONORM_TYPES_H_ */
