// The tuned forward of x + residual: each sum is made in a buffer of its row's type, which then goes the way of a plain row.
#if defined(ISONORM_CPU_TUNED_RESIDUAL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_RESIDUAL_INL_H_
#undef ISONORM_CPU_TUNED_RESIDUAL_INL_H_
#else
#define ISONORM_CPU_TUNED_RESIDUAL_INL_H_
#endif

#include "cpu/choose.h"
#include "cpu/tuned/pieces-inl.h"
#include "cpu/tuned/forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// sum = round(x + residual), while the next row of both is fetched. What is not finite shows in the sum of squares, and such rows
// take another way.
template <class T>
HWY_NOINLINE void AddRows(const T* x, const T* residual, size_t cols, T* HWY_RESTRICT sum, NextRows<T, 2> next) {
  constexpr Layout kLayout = kLayoutOf<T, T>;
  constexpr size_t kStep = 2 * hn::MaxLanes(Tag<float>());
  const auto add = [&](auto part, size_t i, size_t n) HWY_ATTR {
    constexpr bool kPart = part();
    const auto a = TakeDuo<kPart, kLayout>(x + i, n), b = TakeDuo<kPart, kLayout>(residual + i, n);
    PutDuo<kPart, kLayout, Nans::kNone>(Duo<Tag<float>>(hn::Add(a.a, b.a), hn::Add(a.b, b.b)), sum + i, n);
  };
  size_t i = 0;
  for (; i + 4 * kStep <= cols; i += 4 * kStep) {
    HWY_UNROLL(4)
    for (size_t k = i; k < i + 4 * kStep; k += kStep) add(std::false_type(), k, kStep);
    next.template Fetch<4 * kStep>(i);
  }
  for (; i + kStep <= cols; i += kStep) add(std::false_type(), i, kStep);
  if (i < cols) add(std::true_type(), i, cols - i);
}

template <class T, class Tw>
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
  const bool streams = sum_out != nullptr && flow == Flow::kStreamed && !in_place_sum;
  // A sum that stays in the cache needs no buffer; over an input it does, for the row may have to be done again.
  const bool buffered = sum_out == nullptr || in_place_sum || streams;
  alignas(kLine) char buffer[kMostBuffered + kLine];
  RowWriter<T, Tw, T, false, true> writer(call, run, flow, reinterpret_cast<const T*>(buffer), kResidual);
  HWY_ALIGN float sums[kBlockRows] = {};
  for (int64_t row = 0; row < run.count; ++row) {
    const auto* x = reinterpret_cast<const T*>(run.data[kX] + row * run.stride[kX]);
    const char* const more = residual + row * run.stride[kResidual];
    auto* const out = sum_out == nullptr ? nullptr : reinterpret_cast<T*>(sum_out + row * run.stride[kResidualOut]);
    const size_t place = streams ? reinterpret_cast<uintptr_t>(out) % kLine : 0;
    T* const sum = buffered ? reinterpret_cast<T*>(buffer + place) : out;
    const auto next = NextRows<T, 2>::Of(run, {kX, kResidual}, row + 1, call.cols, flow);
    const auto add = [&](size_t i, size_t n, T* to)
                         HWY_ATTR { AddRows(x + i, reinterpret_cast<const T*>(more) + i, n, to, next.From(i)); };
    if (streams) {
      WriteInPieces(out, cols, flow, add, sum);
    } else {
      add(0, cols, sum);
    }
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
    if (out != nullptr && buffered && !streams) std::memcpy(out, sum, cols * sizeof(T));
    if (run.data[kRstd] != nullptr) *reinterpret_cast<float*>(run.data[kRstd] + row * run.stride[kRstd]) = r;
  }
  writer.Finish();
  if (flow == Flow::kStreamed) hwy::FlushStream();
}

// A weight of x's type is read as it is; any other, or one with an offset, or none, goes to f32 once, which spares a loop for each.
template <class T, class Tw>
void ResidualForward(const Call& call, const Run& run, const ColumnSums&) {
  if constexpr (std::is_same_v<T, Tw>) {
    if (call.weight_offset == 0) return ResidualRows<T, Tw>(call, run);
  }
  HWY_ALIGN float weight[kMostColumns];
  WidenWeight(call, weight);
  Call widened = call;
  widened.weight = weight;
  widened.weight_type = Type::kF32;
  widened.weight_offset = 0;
  ResidualRows<T, float>(widened, run);
}

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_RESIDUAL_INL_H_
