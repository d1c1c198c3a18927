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

// sum = round(x + residual), while the next row of both is fetched. What is not finite shows in the sum of squares, and such
// rows take another way.
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

// The source: rows of x + residual, each in a buffer or, where it stays in the cache, in residual_out.
template <class T>
class ResidualSource {
 public:
  // buffer: a longest row and a line, on a line.
  ResidualSource(const Call& call, const Run& run, Flow flow, char* buffer)
      : run_(run), leaves_(call.cols), cols_(static_cast<size_t>(call.cols)), flow_(flow), buffer_(buffer) {
    const char* const out = run.data[kResidualOut];
    const bool in_place = out == run.data[kX] || out == run.data[kResidual];
    streams_ = out != nullptr && flow == Flow::kStreamed && !in_place;
    // Over an input there is a buffer, for the row may have to be done again.
    buffered_ = out == nullptr || in_place || streams_;
  }

  // The sum fetches one of the two rows that come next again.
  void FetchInSum(size_t bytes) { bytes_ = bytes; }

  HWY_INLINE void Make(int64_t row) {
    const auto *x = At<const T>(run_, kX, row), *residual = At<const T>(run_, kResidual, row);
    ahead_ = At<const char>(run_, kResidual, row + 1);
    out_ = run_.data[kResidualOut] == nullptr ? nullptr : At<T>(run_, kResidualOut, row);
    const size_t place = streams_ ? reinterpret_cast<uintptr_t>(out_) % kLine : 0;
    row_ = buffered_ ? reinterpret_cast<T*>(buffer_ + place) : out_;
    const auto next = NextRows<T, 2>::Of(run_, {kX, kResidual}, row + 1, static_cast<int64_t>(cols_), flow_);
    const auto add = [&](size_t i, size_t n, T* to) HWY_ATTR { AddRows(x + i, residual + i, n, to, next.From(i)); };
    if (streams_) {
      WriteInPieces(out_, cols_, flow_, add, row_);
    } else {
      add(0, cols_, row_);
    }
  }
  HWY_INLINE float Sum(int64_t) const { return SumFetching(row_, leaves_, ahead_, bytes_); }

  HWY_INLINE const T* row() const { return row_; }
  // Only of a row that was written: any other is made again.
  HWY_INLINE void StoreSum() const {
    if (out_ != nullptr && buffered_ && !streams_) std::memcpy(out_, row_, cols_ * sizeof(T));
  }

 private:
  const Run& run_;
  const RowLeaves leaves_;
  const size_t cols_;
  const Flow flow_;
  char* const buffer_;
  bool streams_, buffered_;
  size_t bytes_ = 0;
  T *row_ = nullptr, *out_ = nullptr;
  const char* ahead_ = nullptr;
};

// The sink: that of plain rows, from the source's row.
template <class Source, class Writer>
struct ResidualSink : TakesAll {
  Source& source;
  Writer& writer;
  ResidualSink(Source& of_source, Writer& of_writer) : source(of_source), writer(of_writer) {}
  HWY_INLINE void Write(int64_t row, int64_t rows, const float* r) const {
    writer.ReadFrom(source.row());
    writer.Write(row, rows, r);
    source.StoreSum();
  }
  HWY_INLINE void Finish() const { writer.Finish(); }
};

template <class T, class Tw>
HWY_NOINLINE void ResidualRows(const Call& call, const Run& run) {
  using Writer = RowWriter<T, Tw, T, false, true>;
  const bool in_place = run.data[kY] == run.data[kResidual];
  const Flow flow = FlowOf(call, in_place ? run.data[kY] : run.data[kX], run.data[kY]);
  alignas(kLine) char buffer[kMostBuffered + kLine];
  ResidualSource<T> source(call, run, flow, buffer);
  Writer writer(call, run, flow, reinterpret_cast<const T*>(buffer), kResidual);
  if (writer.FetchesAhead()) source.FetchInSum(writer.plan().in_sum);
  const ResidualSink<ResidualSource<T>, Writer> sink(source, writer);
  RowLoop(call, run, One(), source, sink);
}

// A weight of x's type is read as it is; any other, or one with an offset, or none, goes to f32 once, which spares a loop for
// each.
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

// The loops take y's type for x's.
template <class T, class Tw>
struct RowOf<Operation::k_forward, Source::k_residual, Sink::k_cast, T, Tw, T> {
  static constexpr Kernel kRun = ResidualForward<T, Tw>;
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_RESIDUAL_INL_H_
