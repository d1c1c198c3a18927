// What the tuned fused loops share: the weight in f32, duos and parts of them, rows that leave past the cache, and the fetching
// of rows that come next.
#if defined(ISONORM_CPU_TUNED_PIECES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_PIECES_INL_H_
#undef ISONORM_CPU_TUNED_PIECES_INL_H_
#else
#define ISONORM_CPU_TUNED_PIECES_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "cpu/general/chunk-inl.h"
#include "cpu/tuned/duo-inl.h"
#include "cpu/tuned/write-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// A vector of any type in f32, plus an offset; -0 changes no bit.
HWY_INLINE void WidenVector(const void* data, Type type, float offset, size_t cols, float* HWY_RESTRICT w) {
  const Tag<float> d;
  const auto by = hn::Set(d, offset);
  ForStored<float>(data, type, 0, cols, false,
                   [&](V<Tag<float>> v, size_t i) HWY_ATTR { hn::StoreU(hn::Add(v, by), d, w + i); });
}

// The weight with its offset, or ones, in f32: loops are then compiled for the type of x alone.
HWY_INLINE void WidenWeight(const Call& call, float* HWY_RESTRICT w) {
  const auto cols = static_cast<size_t>(call.cols);
  if (call.weight_type == Type::kNone) {
    std::fill(w, w + cols, 1.0f);
    return;
  }
  WidenVector(call.weight, call.weight_type, call.weight_offset == 0 ? -0.0f : static_cast<float>(call.weight_offset), cols, w);
}

// From the order of columns to that in which the loops read duos, or back, but for a part of one at the end.
template <Layout kFrom, Layout kTo = Layout::kRuns>
HWY_INLINE void ArrangeDuos(size_t cols, float* HWY_RESTRICT w) {
  if constexpr (kFrom != kTo) {
    const Tag<float> d;
    const size_t width = 2 * hn::Lanes(d);
    for (size_t i = 0; i + width <= cols; i += width) {
      StoreDuo<kTo, Nans::kNone, Store::kCached>(LoadDuo<kFrom>(d, w + i), d, w + i);
    }
  }
}

// A duo of storage T, or a part of one.
template <bool kPart, Layout kLayout, class T>
HWY_INLINE Duo<Tag<float>> TakeDuo(const T* p, size_t count) {
  if constexpr (kPart) return LoadDuoPart<kLayout>(Tag<float>(), p, count);
  return LoadDuo<kLayout>(Tag<float>(), p);
}
template <bool kPart, Layout kLayout, Nans kNans, class T>
HWY_INLINE void PutDuo(const Duo<Tag<float>>& v, T* p, size_t count) {
  if constexpr (kPart) {
    StoreDuoPart<kLayout, kNans>(v, Tag<float>(), p, count);
  } else {
    StoreDuo<kLayout, kNans, Store::kCached>(v, Tag<float>(), p);
  }
}
HWY_INLINE Duo<Tag<float>> Product(const Duo<Tag<float>>& x, const Duo<Tag<float>>& y) {
  return {hn::Mul(x.a, y.a), hn::Mul(x.b, y.b)};
}

// Brings one row of `cols` elements to `out`: write(i, count, to) makes `count` of them from column i on. A row that bypasses
// the cache goes by whole lines through a buffer, because streaming stores are slow while loads miss the first-level cache.
// kept: where all of such a row stays, at the same place within a line as `out`; null: nowhere.
template <class T, class Write>
HWY_INLINE void WriteInPieces(T* out, size_t cols, Flow flow, Write write, T* kept = nullptr) {
  if (flow != Flow::kStreamed) return write(size_t{0}, cols, out);
  constexpr size_t kPerLine = kLine / sizeof(T), kPiece = sizeof(T) == 2 ? 512 : 128;  // measured
  alignas(kLine) T stage[kPiece];
  const auto write_part = [&](size_t i, size_t count) HWY_ATTR {
    if (count == 0) return;
    write(i, count, kept == nullptr ? out + i : kept + i);
    if (kept != nullptr) std::memcpy(out + i, kept + i, count * sizeof(T));
  };
  size_t i = std::min(ElementsToLine(out), cols);
  write_part(0, i);
  while (cols - i >= kPerLine) {
    const size_t count = std::min(kPiece, (cols - i) / kPerLine * kPerLine);
    T* const to = kept == nullptr ? stage : kept + i;
    write(i, count, to);
    StreamLines(to, out + i, count * sizeof(T));
    i += count;
  }
  write_part(i, cols - i);
}

// A row out of its buffer, past the cache where that pays.
template <class T>
HWY_INLINE void CopyOut(const T* row, size_t cols, T* out, Flow flow) {
  if (flow != Flow::kStreamed) {
    std::memcpy(out, row, cols * sizeof(T));
    return;
  }
  const size_t head = std::min(ElementsToLine(out), cols), whole = (cols - head) / (kLine / sizeof(T)) * (kLine / sizeof(T));
  const hn::CappedTag<uint8_t, kLine> d;
  std::memcpy(out, row, head * sizeof(T));
  const auto* from = reinterpret_cast<const uint8_t*>(row + head);
  auto* to = reinterpret_cast<uint8_t*>(out + head);
  for (size_t i = 0; i < whole * sizeof(T); i += hn::Lanes(d)) StoreBits<Store::kStreamed>(hn::LoadU(d, from + i), d, to + i);
  std::memcpy(out + head + whole, row + head + whole, (cols - head - whole) * sizeof(T));
}

// loop.template Step<kPart>(i, count) for all columns, while other rows are fetched.
template <class Loop, class Next>
HWY_NOINLINE void ColumnLoop(Loop loop, size_t cols, Next next) {
  constexpr size_t kWidth = 2 * hn::MaxLanes(Tag<float>());
  size_t i = 0;
  for (; i + kWidth <= cols; i += kWidth) {
    loop.template Step<false>(i, kWidth);
    next.template Fetch<kWidth>(i);
  }
  if (i < cols) loop.template Step<true>(i, cols - i);
}

// A row that comes later, of which `step` bytes are fetched with each line of this one; 0: none. Nothing is read there.
struct FetchAhead {
  FetchAhead() = default;
  FetchAhead(const FetchPlan& plan, const char* of) : row(of), step(plan.in_write), near(plan.near) {}
  HWY_INLINE FetchAhead From(size_t lines) const {
    FetchAhead ahead = *this;
    ahead.row += lines * step;
    return ahead;
  }
  template <size_t kLines>
  HWY_INLINE void Fetch() {
    if (step == 0) return;
    HWY_UNROLL(4)
    for (size_t line = 0; line < kLines; ++line) near ? PrefetchNear(row + line * step) : PrefetchFar(row + line * step);
    row += kLines * step;
  }
  const char* row = nullptr;
  size_t step = 0;
  bool near = false;
};

// No rows that are fetched.
struct NoRows {
  template <size_t kElements>
  HWY_INLINE void Fetch(size_t) const {}
};

// Rows of kRows tensors of T that come next, fetched with the columns of this one; not `on`: not at all. Nothing is read there,
// so they may lie past the last row.
// kOnce: each line once; otherwise with each vector, of which a line may have several.
template <class T, size_t kRows, bool kOnce = false>
struct NextRows {
  bool on = false;
  const char* row[kRows] = {};

  // Row `index` of some tensors of a run, if that helps: short rows the hardware fetches better alone.
  static HWY_INLINE NextRows Of(const Run& run, const RowTensor (&tensors)[kRows], int64_t index, int64_t cols, Flow flow) {
    NextRows next;
    next.on = flow > Flow::kCached && cols * static_cast<int64_t>(sizeof(T)) > 2 << 10;
    for (size_t t = 0; t < kRows; ++t) next.row[t] = run.data[tensors[t]] + index * run.stride[tensors[t]];
    return next;
  }
  // With kElements columns from i on.
  template <size_t kElements>
  HWY_INLINE void Fetch(size_t i) const {
    if (!on || (kOnce && i * sizeof(T) % kLine != 0)) return;
    HWY_UNROLL(4)
    for (size_t line = 0; line < kElements * sizeof(T); line += kLine) {
      HWY_UNROLL(4)
      for (size_t t = 0; t < kRows; ++t) PrefetchFar(row[t] + i * sizeof(T) + line);
    }
  }
  HWY_INLINE NextRows From(size_t column) const {
    NextRows next = *this;
    for (size_t t = 0; t < kRows; ++t) next.row[t] += column * sizeof(T);
    return next;
  }
};

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_PIECES_INL_H_
