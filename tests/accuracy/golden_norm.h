// The norm of a golden case by mathematics in long double, with running errors: what the library may compute of it. Written
// from docs/numerics.md; it shares no code with the library, only the inputs' bytes with the golden checks.
#pragma once

#include <cstdint>
#include <vector>

#include "accuracy/ball.h"
#include "accuracy/bounds.h"
#include "golden/run.h"

namespace isonorm_test {

using isonorm_cli::GoldenCase;
using Balls = std::vector<Ball>;

Type TypeOf(isonorm_cli::Type type);  // not of formats that only quantise
Values ValuesOf(isonorm_cli::Type type, const std::vector<uint8_t>& bytes);

// A sum in the library's order: `roundings` lie between a term and the result.
class Total {
 public:
  void Add(Ball term);
  // Of any size.
  Ball Relative(const Compute& compute, double roundings) const;
  // squares: no term is negative, so that a sum beyond the largest number is infinite, and not just anything.
  Ball In(const Compute& compute, double roundings, bool squares = false) const;

 private:
  Sum value_, error_, size_;
  int64_t count_ = 0;
  bool anything_ = false, nan_ = false;
};

// A case and what all its rows share.
struct Norm {
  explicit Norm(const GoldenCase& golden);

  Ball Input(const Values& values, int64_t index) const { return {values[static_cast<size_t>(index)], 0}; }
  bool layer() const { return golden.contract.statistic == ISONORM_STATISTIC_LAYER; }
  int64_t group_cols() const { return golden.cols / golden.groups; }
  int64_t window() const { return golden.window == 0 ? group_cols() : golden.window; }
  bool has(const Values& values) const { return !values.empty(); }
  Ball Weight(int64_t col) const;               // with its offset
  Ball GateOf(int64_t index) const;             // f(gate)
  Ball SlopeOf(int64_t index) const;            // f'(gate)
  Ball Scaled(Ball c) const;                    // c', rounded as the contract says
  Ball Affine(Ball scaled, int64_t col) const;  // weight and bias
  Ball Gated(Ball t, int64_t index, Ball* before) const;
  // The pairs of the head that begins at `index`, turned, or turned back.
  void Rotate(int64_t index, bool back, Ball* head) const;

  const GoldenCase& golden;
  Compute compute;
  Type x_type;
  Values x, weight, bias, residual, gate, dy, dresidual, ddx, ddweight, cos, sin;
  std::vector<int64_t> positions;
};

// One group of a row: the statistic, and the normalised values.
struct Group {
  Group(const Norm& norm, int64_t first);  // index of its first element

  Balls h, c;
  Ball mean;                // of LayerNorm; its error is that of the mean that the library subtracts
  Balls centred;            // h, or h less that mean: what is squared
  Ball squares;             // mean of the squares
  Ball root, rstd;          // sqrt of that, and r; of any exponent
  long double largest = 0;  // |h| in the window
  bool finite = true;       // all of h in the window

 private:
  Ball MeanOfSquares(const Norm& norm, Ball sum) const;
  void Centre(const Norm& norm);
};

// Everything that leaves a forward call but for quantisation, and the inputs of one: rows x cols.
Balls ForwardRow(const Norm& norm, const Group& group, int64_t first);

// Gradients of one group, and the terms that its row adds to dweight and dbias.
struct GroupGradients {
  Balls dx, dgate, dweight, dbias;
  Balls products, gradients;  // g * c and g, which ranks add up
};
GroupGradients BackwardRow(const Norm& norm, const Group& group, int64_t first);

// The same of double backward.
struct GroupDoubles {
  Balls dx, ddy, dweight;
};
GroupDoubles DoubleBackwardRow(const Norm& norm, const Group& group, int64_t first);

}  // namespace isonorm_test
