// The statistic of a norm as a part: which sums over a row it needs, and what follows from them (docs/numerics.md §2 to §4).
// RMS is the LayerNorm of a row whose mean is 0, so only the sums differ; where eps stands matters from the sums on.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "numbers/device.h"
#include "numbers/rounding.h"

namespace isonorm {

enum class Statistic : uint8_t { kRms, kLayerNorm };

// The sums of a row; of rows that ranks share, what those of all ranks add up to, as it lies in the tensor `statistic`.
template <class F>
struct RowStatistic {
  F sum;      // LayerNorm: of h
  F squares;  // of h, or of d = h - mean
  F shift;    // LayerNorm: the sum of d
  F largest;  // of a scaled row, whose sums above are of scaled values; 0: it is not scaled

  ISONORM_HD bool scaled() const { return largest > 0 && largest <= std::numeric_limits<F>::max(); }
};

// What the sink and the gradient know of a row. Of a scaled one all but the exponent is of its values times 2^-exponent.
template <class F>
struct RowNorm {
  int exponent = 0;
  bool constant = false;  // a scaled LayerNorm row of equal values
  F mean = 0, shift = 0;  // LayerNorm: the rounded mean, and what its rounding left over
  F mean_square = 0, q = 0, r = 0;
  // LayerNorm: the mean that forward stores, without the shift, which backward finds again. Backward computes the statistics of
  // scaled rows again, so theirs has it: that of equal values might overflow without.
  F saved_mean = 0;

  // c of a scaled value. Of RMS a product: mean and shift are +0 and change no bit. Of LayerNorm they may be -0, which does.
  ISONORM_HD F C(F value) const { return (constant ? F(0) : (value - mean) - shift) * r; }
};

struct Norm {
  Statistic statistic = Statistic::kRms;
  bool eps_outside = false;  // 1 / (sqrt(m) + eps)
  double eps = 0;            // already rounded to the compute type
  int64_t count = 0;         // values that the statistic sees, on all ranks

  // Whether it takes a mean away.
  ISONORM_HD bool centres() const { return statistic == Statistic::kLayerNorm; }

  // A sum of squares below asks for the scaled path (§3).
  template <class F>
  ISONORM_HD F LeastSquares() const {
    constexpr bool kSingle = sizeof(F) == 4;
    const bool tiny_eps = kSingle ? eps < (eps_outside ? 0x1p-48 : 0x1p-120) : eps == 0;
    return !tiny_eps ? F(0) : F(kSingle ? 0x1p-96 : 0x1p-900);
  }

  template <class F>
  ISONORM_HD F MeanOf(const RowStatistic<F>& sums) const {
    return centres() ? Mean(sums.sum + F(0), count) : F(0);
  }

  // Whether these sums ask for the scaled path; it is taken if, besides, every value is finite and the largest is above 0.
  template <class F>
  ISONORM_HD bool AskForScaling(const RowStatistic<F>& sums) const {
    return !(std::isfinite(sums.squares) && std::isfinite(MeanOf(sums))) || sums.squares < LeastSquares<F>();
  }

  // The sums of a row that offers SumOfValues(exponent, mean) and SumOfSquares(exponent, mean, &shift), both of its values
  // times 2^-exponent less the mean, and LargestOrInfinity() of the values as they are. shift is null for RMS.
  template <class F, class Row>
  ISONORM_HD RowStatistic<F> Accumulate(const Row& row) const {
    const RowStatistic<F> sums = Sweep<F>(row, 0);
    if (!AskForScaling(sums)) return sums;
    const F largest = row.LargestOrInfinity();
    if (!(largest > 0 && largest <= std::numeric_limits<F>::max())) return sums;
    RowStatistic<F> scaled = Sweep<F>(row, std::ilogb(largest));
    scaled.largest = largest;
    return scaled;
  }

  template <class F>
  ISONORM_HD RowNorm<F> Finish(const RowStatistic<F>& sums) const {
    const F narrow_eps = static_cast<F>(eps);
    bool scaled = sums.scaled();
    RowNorm<F> row;
    if (scaled) row.exponent = std::ilogb(sums.largest);
    F& m = row.mean_square;
    m = Mean(sums.squares, count);
    if (centres()) {
      row.mean = MeanOf(sums);
      row.shift = Mean(sums.shift + F(0), count);
      row.saved_mean = scaled ? std::ldexp(row.mean + row.shift, row.exponent) : row.mean;
      m = std::fma(-row.shift, row.shift, m);
      if (m < 0) m = 0;
      if (scaled && m == 0 && narrow_eps > 0) {  // nothing is left to scale
        row.constant = true;
        scaled = false;
        row.exponent = 0;
      }
    }
    if (!scaled) {
      row.q = std::sqrt(m);
      row.r = eps_outside ? F(1) / (row.q + narrow_eps) : InvSqrt(m + narrow_eps);
    } else {
      const double wide_eps = std::ldexp(static_cast<double>(narrow_eps), eps_outside ? -row.exponent : -2 * row.exponent);
      const auto wide_m = static_cast<double>(m);
      row.q = static_cast<F>(std::sqrt(wide_m));
      row.r = static_cast<F>(1.0 / (eps_outside ? static_cast<double>(row.q) + wide_eps : std::sqrt(wide_m + wide_eps)));
    }
    return row;
  }

  // Whether a saved rstd can say all that backward needs of a row, and whether this one does: it is of one that was not scaled.
  ISONORM_HD bool TakesRstd() const { return !centres() && !eps_outside; }
  template <class F>
  ISONORM_HD static bool Takes(F rstd) {
    return rstd >= F(0x1p-48) && rstd <= F(0x1p47);
  }
  template <class F>
  ISONORM_HD static bool TakesMean(F mean) {
    return std::fabs(mean) < F(0x1p96);
  }

  // What backward needs from what was saved; false: it says too little, and the statistic has to be computed again. The mean is
  // 0 for RMS. For LayerNorm its rounding, to whatever type, is found again in the values.
  template <class F, class Row>
  ISONORM_HD bool Restore(F rstd, F mean, const Row& row, RowNorm<F>* known) const {
    if (eps_outside || !Takes(rstd) || !TakesMean(mean)) return false;
    known->r = rstd;
    known->mean = mean;
    if (centres()) known->shift = Mean(row.SumOfValues(0, mean) + F(0), count);
    return true;
  }

  // C0 of §4, from the dot product of g and c.
  template <class F>
  ISONORM_HD F Factor(F dot, F q, F r) const {
    const F f = Mean(dot + F(0), count);
    if (!eps_outside) return f;
    const F qr = q * r;
    return qr == 0 ? F(0) : f / qr;
  }

 private:
  template <class F, class Row>
  ISONORM_HD RowStatistic<F> Sweep(const Row& row, int exponent) const {
    RowStatistic<F> sums = {};
    if (centres()) sums.sum = row.SumOfValues(exponent, F(0));
    sums.squares = row.SumOfSquares(exponent, MeanOf(sums), centres() ? &sums.shift : nullptr);
    return sums;
  }
};

}  // namespace isonorm
