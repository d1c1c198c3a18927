// The tuned forward of x + residual: each sum is made in a buffer of its row's type, which then goes the way of a plain row.
#if defined(ISONORM_CPU_RESIDUAL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_RESIDUAL_INL_H_
#undef ISONORM_CPU_RESIDUAL_INL_H_
#else
#define ISONORM_CPU_RESIDUAL_INL_H_
#endif

#include "cpu/pieces-inl.h"
#include "cpu/tuned_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// sum = round(x + residual), while the next row of both is fetched, if there are any. What is not finite shows in the sum of
// squares, and such rows take another way.
template <class T>
HWY_INLINE void AddRows(const T* x, const T* residual, size_t cols, T* HWY_RESTRICT sum, const char* next_x,
                        const char* next_residual) {
  constexpr Layout kLayout = kLayoutOf<T, T>;
  const Tag<float> d;
  const auto add = [](V<Tag<float>> a, V<Tag<float>> b) HWY_ATTR { return hn::Add(a, b); };
  const size_t step = 2 * hn::MaxLanes(d);
  size_t i = 0;
  for (; i + 4 * step <= cols; i += 4 * step) {
    HWY_UNROLL(4)
    for (size_t k = i; k < i + 4 * step; k += step) {
      StoreDuo<kLayout, Nans::kNone, Store::kCached>(Map(LoadDuo<kLayout>(d, x + k), LoadDuo<kLayout>(d, residual + k), add), d,
                                                     sum + k);
    }
    if (next_x != nullptr) {
      HWY_UNROLL(8)
      for (size_t line = 0; line < 4 * step * sizeof(T); line += kLine) {
        PrefetchFar(next_x + i * sizeof(T) + line);
        PrefetchFar(next_residual + i * sizeof(T) + line);
      }
    }
  }
  for (; i + step <= cols; i += step) {
    StoreDuo<kLayout, Nans::kNone, Store::kCached>(Map(LoadDuo<kLayout>(d, x + i), LoadDuo<kLayout>(d, residual + i), add), d,
                                                   sum + i);
  }
  if (i == cols) return;
  StoreDuoPart<kLayout, Nans::kNone>(
      Map(LoadDuoPart<kLayout>(d, x + i, cols - i), LoadDuoPart<kLayout>(d, residual + i, cols - i), add), d, sum + i,
      cols - i);
}

template <class T, class Tw, bool kOffset>
HWY_NOINLINE void ResidualRows(const Call& call, const Run& run) {
  const auto cols = static_cast<size_t>(call.cols);
  const RowLeaves leaves(call.cols);
  const PlainRange range(call.eps, call.eps_outside);
  const auto eps = static_cast<float>(call.eps);
  const bool in_place = run.data[kY] == run.data[kResidual];
  const Flow flow = FlowOf(call, in_place ? run.data[kY] : run.data[kX], run.data[kY]);
  const char* const residual = run.data[kResidual];
  char* const sum_out = run.data[kResidualOut];
  const bool in_place_sum = sum_out == run.data[kX] || sum_out == residual;
  // A sum that stays in the cache needs no buffer; over an input it does, for the row may have to be done again.
  const bool buffered = sum_out == nullptr || in_place_sum || flow == Flow::kStreamed;
  HWY_ALIGN T buffer[kMostBuffered / sizeof(T)];
  RowWriter<T, Tw, T, kOffset> writer(call, run, flow, buffer);
  HWY_ALIGN float sums[kBlockRows] = {};
  for (int64_t row = 0; row < run.count; ++row) {
    const auto* x = reinterpret_cast<const T*>(run.data[kX] + row * run.stride[kX]);
    const char* const more = residual + row * run.stride[kResidual];
    T* const sum = buffered ? buffer : reinterpret_cast<T*>(sum_out + row * run.stride[kResidualOut]);
    AddRows(x, reinterpret_cast<const T*>(more), cols, sum, writer.FetchesAhead() ? writer.Ahead(row) : nullptr,
            more + run.stride[kResidual]);
#if ISONORM_LEAF_NETWORK
    const float square = call.shard != nullptr ? SharedSum(call, run.first + row)
                         : writer.FetchesAhead()
                             ? RowSumFetching(sum, leaves, more + run.stride[kResidual], writer.plan().in_sum)
                             : RowSums(sum, 0, 1, leaves, sums);
#else
    const float square = call.shard != nullptr ? SharedSum(call, run.first + row) : RowSums(sum, 0, 1, leaves, sums);
#endif
    if (HWY_UNLIKELY(!range.Holds(square))) {
      RunGeneralRow(call, run, row);
      continue;
    }
    float r;
    RstdOfSums(&square, 1, call.counted(), eps, call.eps_outside, &r);
    writer.ReadFrom(sum);
    writer.Write(row, 1, &r);
    if (sum_out != nullptr && buffered) {
      CopyOut(sum, cols, reinterpret_cast<T*>(sum_out + row * run.stride[kResidualOut]), in_place_sum ? Flow::kCached : flow);
    }
    if (run.data[kRstd] != nullptr) *reinterpret_cast<float*>(run.data[kRstd] + row * run.stride[kRstd]) = r;
  }
  writer.Finish();
  if (flow == Flow::kStreamed) hwy::FlushStream();
}

template <class T, class Tw>
void ResidualForward(const Call& call, const Run& run, const ColumnSums&) {
  constexpr bool kWeighted = !std::is_same_v<Tw, None>;
  if (kWeighted && call.weight_offset != 0) {
    ResidualRows<T, Tw, kWeighted>(call, run);
  } else {
    ResidualRows<T, Tw, false>(call, run);
  }
}

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_RESIDUAL_INL_H_
