// One computation as data: the library runs it through the C ABI, the oracle solves it in plain mathematics.
#pragma once

#include <string>

#include "support/tensor.h"

namespace isonorm_test {

struct Problem {
  isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  double eps = 1e-6;
  int64_t groups = 1;
  int64_t window = 0;                                  // 0: the whole group
  Tensor x;                                            // [rows, cols]
  Tensor weight, bias, residual, gate, dy, dresidual;  // absent unless set
  Tensor cos, sin;                                     // of a rotation; row r has position first_position + r
  int32_t style = ISONORM_ROPE_HALF;
  int64_t first_position = 0;

  int64_t rows() const { return x.size() / x.cols(); }
  int64_t cols() const { return x.cols(); }
  int64_t group_cols() const { return cols() / groups; }
  int64_t statistic_cols() const { return window == 0 ? group_cols() : window; }
};

// The rotation of the problem, null if there is none. Valid as long as `room`.
const isonorm_rope* RopeOf(Problem& problem, isonorm_rope* room);

struct Outputs {
  Tensor y, residual_out, rstd, mean;  // forward; mean of LayerNorm
  Tensor dx, dweight, dbias, dgate;    // backward
  std::string error;                   // "" if the call succeeded
};

// y: its type. Every output that the problem allows is asked for.
Outputs RunForward(Problem& problem, Type y);

// saved: the rstd and mean of forward to hand in, or null. Gradients: those of what the problem has; dbias without a bias is
// f32.
Outputs RunBackward(Problem& problem, Tensor* saved_rstd = nullptr, Tensor* saved_mean = nullptr);

}  // namespace isonorm_test
