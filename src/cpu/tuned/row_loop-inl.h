// THE row loop of the tuned forward, put together from a source, the statistic and a sink.
//
// A source has the rows:  void Make(int64_t row), where a row has to be made, before
//                         float Sum(int64_t row), the sum of its squares, or, where blocks of rows are taken,
//                         void Sums(int64_t first, int64_t rows, float* sums), as RowSums has it.
// A sink writes them:     int64_t Takes(int64_t row, int64_t rows): how many of `rows` tame rows from `row` on it
//                         writes at once, or 0 if it leaves this one to the general path;
//                         void Write(int64_t row, int64_t rows, const float* r), with their reciprocals; void Finish().
// The statistic is that of RMS unless RowLoop is given another: RmsStatistics has what it must be able to do.
#if defined(ISONORM_CPU_TUNED_ROW_LOOP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_ROW_LOOP_INL_H_
#undef ISONORM_CPU_TUNED_ROW_LOOP_INL_H_
#else
#define ISONORM_CPU_TUNED_ROW_LOOP_INL_H_
#endif

#include <algorithm>
#include <type_traits>

#include "cpu/general/general-inl.h"
#include "cpu/tuned/row_sums-inl.h"
#include "cpu/tuned/rstd-inl.h"
#include "table/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

template <class T>
HWY_INLINE T* At(const Run& run, RowTensor tensor, int64_t row) {
  return reinterpret_cast<T*>(run.data[tensor] + row * run.stride[tensor]);
}

// One row by the general path.
HWY_NOINLINE inline void RunGeneralRow(const Call& call, const Run& run, int64_t row) {
  char* data[kRowTensors];
  GeneralForward(call, OneRow(run, row, data), ColumnSums{});
}

// Rows as they lie, of x for instance.
template <class T>
class PlainRows {
 public:
  PlainRows(const Call& call, const Run& run) : leaves_(call.cols), x_(run.data[kX]), stride_(run.stride[kX]) {}
  HWY_INLINE void Make(int64_t) const {}
  HWY_INLINE float Sum(int64_t row) const { return RowSum(X(row), leaves_); }
  HWY_INLINE void Sums(int64_t first, int64_t rows, float* HWY_RESTRICT sums) const {
    RowSums(X(first), stride_, rows, leaves_, sums);
  }
  HWY_INLINE const RowLeaves& leaves() const { return leaves_; }

 private:
  HWY_INLINE const T* X(int64_t row) const { return reinterpret_cast<const T*>(x_ + row * stride_); }

  const RowLeaves leaves_;
  const char* const x_;
  const int64_t stride_;
};

// The sum of squares of one row, while `bytes` with each of its lines are fetched from `ahead` on, if there are any.
template <class T>
HWY_INLINE float SumFetching(const T* row, const RowLeaves& leaves, [[maybe_unused]] const char* ahead,
                             [[maybe_unused]] size_t bytes) {
#if ISONORM_LEAF_NETWORK
  if (bytes != 0) return RowSumFetching(row, leaves, ahead, bytes);
#endif
  return RowSum(row, leaves);
}

// A sink that writes any tame rows together.
struct TakesAll {
  static HWY_INLINE int64_t Takes(int64_t, int64_t rows) { return rows; }
};

// A block of which some row is not tame, by the general path: it gives the others the same bits, and such blocks are rare.
template <class Sink>
HWY_NOINLINE void RunGeneralRows(const Call& call, const Run& run, int64_t first, int64_t count, Sink& sink) {
  for (int64_t row = first; row < first + count; ++row) {
    sink.Takes(row, 1);
    RunGeneralRow(call, run, row);
  }
}

// `block`: One, or how many rows have their sums taken before the first of them is written.
using One = std::integral_constant<int64_t, 1>;

template <template <int64_t> class Statistics = RmsStatistics, class Block, class Source, class Sink>
HWY_INLINE void RowLoop(const Call& call, const Run& run, Block block, Source& source, Sink& sink) {
  constexpr bool kSingle = std::is_same_v<Block, One>;
  Statistics<kSingle ? 1 : kBlockRows> statistics(call);
  for (int64_t first = 0; first < run.count; first += block) {
    const int64_t count = kSingle ? 1 : std::min<int64_t>(block, run.count - first);
    source.Make(first);
    statistics.Take(call, run, first, count, source);
    if (HWY_UNLIKELY(!statistics.Tame(count))) {
      RunGeneralRows(call, run, first, count, sink);
      continue;
    }
    if constexpr (std::is_base_of_v<TakesAll, Sink>) {
      sink.Write(first, count, statistics.From(0));
      statistics.Store(run, first, count, statistics.From(0));
    } else {
      for (int64_t i = 0, n = 0; i < count; i += n) {
        n = sink.Takes(first + i, count - i);
        if (HWY_UNLIKELY(n == 0)) {
          RunGeneralRow(call, run, first + i);
          n = 1;
          continue;
        }
        sink.Write(first + i, n, statistics.From(i));
        statistics.Store(run, first + i, n, statistics.From(i));
      }
    }
  }
  sink.Finish();
}

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_ROW_LOOP_INL_H_
