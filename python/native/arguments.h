// Tuples of Python as the structures of the C ABI. A tuple has one entry for each field, in the order of the structure, without
// sizes, workspace, stream and executor; absent tensors are None.
#pragma once

#include <isonorm/isonorm.h>
#include <nanobind/nanobind.h>

#include <cstdint>

#include "array.h"

namespace isonorm_python {

// (style, position_dim, cos, sin, positions, position_offset)
class Rope {
 public:
  const isonorm_rope* Read(nb::handle tuple, Source source = Source::kNumPy);

 private:
  isonorm_rope rope_;
  Array cos_, sin_, positions_;
};

// (scale_kind, rounded_to, group_cols, min_scale, scale_ub); rounded_to is "", "bfloat16" or "float16"
class Quantization {
 public:
  const isonorm_quantization* Read(nb::handle tuple);

 private:
  isonorm_quantization quantization_;
};

struct ForwardLink {
  Array x, weight, bias, residual, gate, scale, y, residual_out, mean, rstd;
  Rope rope;
  Quantization quantization;
  isonorm_forward_args args;

  void Read(nb::handle tuple, Source source = Source::kNumPy);
};

struct BackwardLink {
  Array dy, x, weight, bias, residual, residual_out, gate, mean, rstd, dresidual, dx, dweight, dbias, dgate;
  Rope rope;
  isonorm_backward_args args;

  void Read(nb::handle tuple, Source source = Source::kNumPy);
};

struct DoubleBackwardLink {
  Array dy, x, weight, rstd, ddx, ddweight, dx, dweight, ddy;
  isonorm_double_backward_args args;

  void Read(nb::handle tuple, Source source = Source::kNumPy);
};

// What a rank holds of a row that several share.
struct ShardTuple {
  Array partial, gathered, statistic;
  isonorm_shard shard;

  void Read(nb::handle tuple, Source source = Source::kNumPy);  // (ranks, partial, gathered, statistic)
};

}  // namespace isonorm_python
