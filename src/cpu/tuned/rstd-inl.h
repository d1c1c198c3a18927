// The statistic of the tuned loops: where sums of squares come from, which of them say that a row is tame, and their
// reciprocals, many rows in one vector operation (docs/numerics.md §2, steps 1 and 2).
#if defined(ISONORM_CPU_TUNED_RSTD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_RSTD_INL_H_
#undef ISONORM_CPU_TUNED_RSTD_INL_H_
#else
#define ISONORM_CPU_TUNED_RSTD_INL_H_
#endif

#include <limits>

#include "cpu/vector/vector-inl.h"
#include "table/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

// Rows that the tuned loops take through a step together.
constexpr int64_t kBlockRows = 16;

// Below, the width is exact in f32, and one division in f32 gives what a division in f64 and a rounding would.
constexpr int64_t kExactCols = int64_t{1} << 24;

// Sums over rows to means, and mean squares to reciprocals: one, or a vector of them. A division of one number takes less time
// than one of eight, and a multiplication even less.
HWY_INLINE float MeanOfSum(float sum, int64_t cols) {
  return cols >= kExactCols         ? Mean(sum, cols)
         : (cols & (cols - 1)) != 0 ? sum / static_cast<float>(cols)
                                    : sum * (1.0f / static_cast<float>(cols));  // a power of two: the same
}
HWY_INLINE float RstdOfMean(float mean, const Norm& norm) {
  const auto eps = static_cast<float>(norm.eps);
  if (norm.eps_outside) return 1.0f / (std::sqrt(mean) + eps);
  const float v = mean + eps;
  return v > 0 && v <= std::numeric_limits<float>::max() ? SoonerInvSqrt(v) : InvSqrt(v);
}

using EightRows = hn::CappedTag<double, 8>;
using EightSums = hn::Rebind<float, EightRows>;
HWY_INLINE V<EightSums> MeanOfSum(V<EightSums> sum, int64_t cols) {
  const EightSums df;
  const EightRows dd;
  if (cols < kExactCols) return hn::Div(sum, hn::Set(df, static_cast<float>(cols)));
  return hn::DemoteTo(df, hn::Div(hn::PromoteTo(dd, sum), hn::Set(dd, static_cast<double>(cols))));
}
// 1 / sqrt in f64 and one rounding is the correctly rounded f32 result for every input.
HWY_INLINE V<EightSums> RstdOfMean(V<EightSums> mean, const Norm& norm) {
  const EightSums df;
  const EightRows dd;
  const auto add = hn::Set(df, static_cast<float>(norm.eps));
  if (norm.eps_outside) return hn::Div(hn::Set(df, 1.0f), hn::Add(hn::Sqrt(mean), add));
  return hn::DemoteTo(df, hn::Div(hn::Set(dd, 1.0), hn::Sqrt(hn::PromoteTo(dd, hn::Add(mean, add)))));
}

// r[i] of sums[i] for the first `rows` entries; whole vectors are read and written.
HWY_INLINE void RstdOfSums(const float* HWY_RESTRICT sums, int64_t rows, const Norm& norm, float* HWY_RESTRICT r) {
  if (rows == 1) {
    r[0] = RstdOfMean(MeanOfSum(sums[0], norm.count), norm);
    return;
  }
  const EightSums df;
  for (size_t i = 0; i < static_cast<size_t>(rows); i += hn::Lanes(df)) {
    hn::StoreU(RstdOfMean(MeanOfSum(hn::LoadU(df, sums + i), norm.count), norm), df, r + i);
  }
}

// The sum of squares of a row that ranks share, as they found it out; NaN, which is in no range, if the row was scaled. A sum
// in range says that every rank's values are finite.
HWY_INLINE float SharedSum(const Call& call, const Run& run, int64_t row) {
  const auto statistic = call.shard->SumsOf<float>(run.first + row);
  return statistic.scaled() ? std::numeric_limits<float>::quiet_NaN() : statistic.squares;
}
// That of any row of a run: if it is not shared, what the source takes from it.
template <class Source>
HWY_INLINE float SumOf(const Call& call, const Run& run, int64_t row, const Source& source) {
  return HWY_LIKELY(call.shard == nullptr) ? source.Sum(row) : SharedSum(call, run, row);
}

// Those of rows [first, first + rows).
HWY_INLINE void SharedSums(const Call& call, const Run& run, int64_t first, int64_t rows, float* HWY_RESTRICT sums) {
  for (int64_t i = 0; i < rows; ++i) sums[i] = SharedSum(call, run, first + i);
}
// With room for whole vectors: the source may write more than `rows`.
template <class Source>
HWY_INLINE void SumsOf(const Call& call, const Run& run, int64_t first, int64_t rows, const Source& source,
                       float* HWY_RESTRICT sums) {
  if (HWY_LIKELY(call.shard == nullptr)) return source.Sums(first, rows, sums);
  SharedSums(call, run, first, rows, sums);
}

// Whether a row is tame: its sum says that no value is infinite or NaN, and that no square overflowed or vanished. All others
// take the general path, which knows the scaled redo, infinities and NaN (docs/numerics.md §3).
struct TameRange {
  explicit TameRange(const Norm& norm) : low(norm.LeastSquares<float>()) {}
  bool Holds(float sum) const { return sum >= low && sum <= std::numeric_limits<float>::max(); }
  // Of whole vectors of sums, of which the first `rows` have a meaning.
  HWY_INLINE bool HoldsAll(const float* HWY_RESTRICT sums, int64_t rows) const {
    const hn::CappedTag<float, 8> d;
    const auto least = hn::Set(d, low), most = hn::Set(d, std::numeric_limits<float>::max());
    for (int64_t i = 0; i < rows; i += static_cast<int64_t>(hn::Lanes(d))) {
      const auto sum = hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(rows - i)), hn::LoadU(d, sums + i), least);
      if (!hn::AllTrue(d, hn::And(hn::Ge(sum, least), hn::Le(sum, most)))) return false;
    }
    return true;
  }
  float low;
};

HWY_INLINE void StoreRstd(const Run& run, int64_t first, int64_t rows, const float* r) {
  if (run.data[kRstd] == nullptr) return;
  for (int64_t i = 0; i < rows; ++i) StoreAt(r[i], run.data[kRstd] + (first + i) * run.stride[kRstd], 0);
}

// The statistics of up to kRows rows, as the row loop wants them.
template <int64_t kRows>
class RmsStatistics {
 public:
  using OfRows = const float*;  // what sinks are given: the reciprocals
  explicit RmsStatistics(const Call& call) : range_(call.norm) {}

  template <class Source>
  HWY_INLINE void Take(const Call& call, const Run& run, int64_t first, int64_t rows, const Source& source) {
    if constexpr (kRows == 1) {
      sums_[0] = SumOf(call, run, first, source);
    } else {
      SumsOf(call, run, first, rows, source, sums_);
    }
    RstdOfSums(sums_, rows, call.norm, r_);
  }
  HWY_INLINE bool Tame(int64_t rows) const { return kRows == 1 ? range_.Holds(sums_[0]) : range_.HoldsAll(sums_, rows); }
  HWY_INLINE OfRows From(int64_t row) const { return r_ + row; }
  HWY_INLINE void Store(const Run& run, int64_t first, int64_t rows, OfRows r) const { StoreRstd(run, first, rows, r); }

 private:
  const TameRange range_;
  HWY_ALIGN float sums_[kRows] = {};
  HWY_ALIGN float r_[kRows];
};

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_RSTD_INL_H_
