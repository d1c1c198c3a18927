// Error bounds by counting roundings (docs/numerics.md gives every one of them), to first order, in units of u = 2^-24 (2^-53
// for f64) of the terms in Answer.
#pragma once

#include <cmath>

#include "accuracy/oracle.h"

namespace isonorm_test {

// Roundings between an element and the sum of n: a leaf has at most 520 elements in 64 lanes, so 9 in a lane; 6 levels of
// lanes; and 2^D leaves, D = 3 up to 4096 elements.
inline double SumRoundings(int64_t n) {
  const double lane = std::fmin(9, std::ceil(static_cast<double>(n) / 64));
  const double leaves = n <= 128 ? 0 : std::fmax(3, std::ceil(std::log2(static_cast<double>(n) / 512)));
  return lane + 6 + leaves;
}

// Gradients of vectors: 32 rows in order, then pairs of blocks.
inline double RowRoundings(int64_t rows) {
  return std::fmin(32, static_cast<double>(rows)) +
         std::ceil(std::log2(std::fmax(1, std::ceil(static_cast<double>(rows) / 32))));
}

// The worst errors of docs/accuracy-gates.md in ulp, of which one is at most two u of the value; and that of either slope in u,
// absolute, for a slope is below 1.1.
constexpr double kSiluUlp = 2.45, kSigmoidUlp = 2.49, kSiluSlopeUlp = 3.11, kSigmoidSlopeUlp = 3.6;
constexpr double kGateUnits = 2 * kSigmoidUlp, kSlopeUnits = 2.86;

// k roundings are off by k units at worst, but they do not conspire: each is spread evenly over +-1 unit, so that their sum
// has the deviation sqrt(k / 3), and 5.5 deviations are passed once in 26 million. The data is fixed: what passes, passes
// always. 1 % is for the terms of second order.
inline double Likely(double roundings) { return 1.01 * std::fmin(roundings, 5.5 * std::sqrt(roundings / 3)); }

struct Bounds {
  double rstd, y, dx, dweight, dbias, dgate;
};

inline Bounds BoundsOf(const Problem& problem) {
  const isonorm_contract& contract = problem.contract;
  const bool layer = contract.statistic == ISONORM_STATISTIC_LAYER, outside = contract.eps_place == ISONORM_EPS_OUTSIDE;
  const double sum = SumRoundings(problem.statistic_cols()), whole = SumRoundings(problem.group_cols());
  const double f64 = problem.x.type() == Type::kF64 ? 1 : 0;  // 1 / sqrt is two roundings there
  const double gain = kGateUnits + 1;                         // a multiplication by silu or sigmoid
  const bool kept = problem.residual.present() && contract.sum_rounding == ISONORM_SUM_KEPT;
  const double source = contract.gate_place == ISONORM_GATE_BEFORE ? gain : kept ? 1 : 0;
  const double after = contract.gate_place == ISONORM_GATE_AFTER ? gain : 0;
  // LayerNorm: v - mean is two subtractions, and delta brings the error of a plain sum of v - mean, which is a fraction of
  // the row's rms: Answer's terms hold it as an error of |c| + 1.
  const double centred = layer ? 2 + whole + 1 : 0;
  const double mean_square = sum + 2 * (source + centred) + 1;
  const double root = mean_square / 2 + 1;
  const double rstd = (outside ? root + 2 : (mean_square + 1) / 2 + 1) + f64;
  const double c = rstd + 1 + source + centred;
  const double turned = problem.cos.present() ? 2 : 0;  // a product, and a sum of it and another
  const double t = c + 3;                               // w + offset, times c, plus bias
  const double g = 2 + after + turned;
  const double factor = whole + g + c + 1 + (outside ? root + rstd + 3 : 0);            // mean of g * c, over q * r if outside
  const double bracket = std::fmax(factor + c + 1, layer ? whole + g + 2 : g + 1) + 1;  // g - mean g - c * factor
  const double v = rstd + bracket + 1;
  const double dx = v + (contract.gate_place == ISONORM_GATE_BEFORE ? gain : 0) + 1;  // + dresidual
  const double rows = RowRoundings(problem.rows());
  const double dgate = contract.gate_place == ISONORM_GATE_BEFORE ? v : t;
  return {Likely(rstd),
          Likely(t + after + turned),
          Likely(dx),
          Likely(rows + after + turned + c),
          Likely(rows + after + turned),
          Likely(1.1 * (dgate + 2) + kSlopeUnits)};
}

}  // namespace isonorm_test
