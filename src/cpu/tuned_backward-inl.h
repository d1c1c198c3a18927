// The tuned backward: x and dy in, dx and dweight out, no fusion. Two rows at a time: first each row's dot product, then both
// column by column, so that weight and the sums of dweight are read once for two rows.
#if defined(ISONORM_CPU_TUNED_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_BACKWARD_INL_H_
#undef ISONORM_CPU_TUNED_BACKWARD_INL_H_
#else
#define ISONORM_CPU_TUNED_BACKWARD_INL_H_
#endif

#include <algorithm>

#include "cpu/general-inl.h"
#include "cpu/row_sums-inl.h"
#include "cpu/rstd-inl.h"
#include "cpu/write-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

constexpr int kTogether = 2;

// g * c, with g = dy * (weight + offset) and c = x * r, each rounded.
template <Layout kLayout, class Tx, class Tw, class Ty>
struct GradientProducts {
  const Tx* x;
  const Tw* w;
  const Ty* dy;
  float r, offset;

  template <class D>
  HWY_INLINE V<D> Fold(D d, V<D> a, V<D> x_of, V<D> w_of, V<D> dy_of) const {
    const auto g = std::is_same_v<Tw, None> ? dy_of : hn::Mul(dy_of, hn::Add(w_of, hn::Set(d, offset)));
    return Fma(g, hn::Mul(x_of, hn::Set(d, r)), a);
  }
  HWY_INLINE const Tw* WeightAt(size_t at) const { return std::is_same_v<Tw, None> ? w : w + at; }

  template <class D>
  HWY_INLINE V<D> Full(D d, V<D> a, size_t at) const {
    return Fold(d, a, LoadAs(d, x + at), LoadAs(d, WeightAt(at)), LoadAs(d, dy + at));
  }
  template <class D>
  HWY_INLINE V<D> Part(D d, V<D> a, size_t at, size_t n) const {
    return Fold(d, a, LoadAsPart(d, x + at, n), LoadAsPart(d, WeightAt(at), n), LoadAsPart(d, dy + at, n));
  }
  template <class D>
  HWY_INLINE void FoldDuo(D d, Duo<D>& a, size_t at) const {
    Fold(d, a, LoadDuo<kLayout>(d, x + at), LoadDuo<kLayout>(d, WeightAt(at)), LoadDuo<kLayout>(d, dy + at));
  }
  template <class D>
  HWY_INLINE void FoldDuoPart(D d, Duo<D>& a, size_t at, size_t n) const {
    Fold(d, a, LoadDuoPart<kLayout>(d, x + at, n), LoadDuoPart<kLayout>(d, WeightAt(at), n),
         LoadDuoPart<kLayout>(d, dy + at, n));
  }

 private:
  template <class D>
  HWY_INLINE void Fold(D d, Duo<D>& a, const Duo<D>& x_of, const Duo<D>& w_of, const Duo<D>& dy_of) const {
    a.a = Fold(d, a.a, x_of.a, w_of.a, dy_of.a);
    a.b = Fold(d, a.b, x_of.b, w_of.b, dy_of.b);
  }
};

// What is fetched while a row's dot product is taken: the first halves of a later row of x and of dy. Of f32 rows every second
// line is asked for, and the hardware brings the one beside it.
struct FetchTwo {
  const char* x;
  const char* dy;
  size_t bytes;
  HWY_INLINE void operator()() {
    PrefetchFar(x);
    PrefetchFar(dy);
    x += bytes;
    dy += bytes;
  }
};

template <class Tx, class Tw, class Ty, class Beside>
HWY_INLINE float GradientDot(const GradientProducts<kLayoutOf<Tx, Ty>, Tx, Tw, Ty>& products, const RowLeaves& row,
                             Beside beside) {
  const auto from = [&products](int64_t begin) HWY_ATTR {
    auto leaf = products;
    leaf.x += begin;
    leaf.w = leaf.WeightAt(static_cast<size_t>(begin));
    leaf.dy += begin;
    return leaf;
  };
#if ISONORM_LEAF_NETWORK
  if constexpr (kLayoutOf<Tx, Ty> == Layout::kEvenOdd) {
    return RowTotal<Bf16>(row,
                          [&](auto d, int64_t begin, size_t n) HWY_ATTR { return EvenOddLeaf(d, from(begin), n, beside); }) +
           0.0f;
  } else {
    return RowTotal<float>(
               row, [&](auto d, int64_t begin, size_t n) HWY_ATTR { return LeafInRegisters(d, from(begin), n, beside); }) +
           0.0f;
  }
#else
  LeafTree<float> tree;
  for (int64_t i = 0; i < row.count; ++i) {
    const int64_t begin = row.begin(i);
    tree.Push(LeafValue(Tag<float>(), from(begin), static_cast<size_t>(row.begin(i + 1) - begin)));
  }
  return tree.Total() + 0.0f;
#endif
}

template <class Tx, class Tw, class Ty>
class GradientRows {
  using D = Tag<float>;
  static constexpr Layout kLayout = kLayoutOf<Tx, Ty>;
  using Tc = std::conditional_t<sizeof(Tx) == 2, Tx, Tw>;
  static constexpr bool kCanRound = std::is_same_v<Tc, Bf16> || std::is_same_v<Tc, F16>;

 public:
  GradientRows(const Call& call, const Run& run, const ColumnSums& sums)
      : call_(call),
        run_(run),
        leaves_(call.cols),
        range_(call.eps, call.eps_outside),
        cols_(static_cast<size_t>(call.cols)),
        weight_(static_cast<const Tw*>(call.weight)),
        offset_(call.weight_offset == 0 ? -0.0f : static_cast<float>(call.weight_offset)),
        sums_(static_cast<float*>(sums.dweight)),
        round_(kCanRound && call.scaled_type != Type::kNone),
        flow_(FlowOf(call, run.data[kDx] == run.data[kX] ? run.data[kX] : run.data[kDy], run.data[kDx])) {}

  void Run() {
    for (int64_t first = 0; first < run_.count; first += kTogether) {
      const auto count = static_cast<int>(std::min<int64_t>(kTogether, run_.count - first));
      bool plain[kTogether];
      bool all = count == kTogether;
      Prepare(first, count, plain);
      for (int i = 0; i < count; ++i) all = all && plain[i];
      if (all) {
        ColumnsOf<kTogether>(first, 0);
        continue;
      }
      for (int i = 0; i < count; ++i) {
        if (plain[i]) {
          ColumnsOf<1>(first + i, i);
        } else {
          GeneralRow(first + i);
        }
      }
    }
    if (flow_ == Flow::kStreamed) hwy::FlushStream();
  }

 private:
  template <class T>
  T* At(RowTensor tensor, int64_t row) const {
    return reinterpret_cast<T*>(run_.data[tensor] + row * run_.stride[tensor]);
  }

  // The row of the next turn that takes this one's place.
  const char* Ahead(RowTensor tensor, int64_t row) const { return At<const char>(tensor, row + kTogether); }

  // r and f of some rows; plain[i]: neither these nor anything that follows from them is NaN.
  void Prepare(int64_t first, int count, bool* plain) {
    const bool saved = run_.data[kRstd] != nullptr && !call_.eps_outside;
    bool missing = !saved;
    for (int i = 0; i < count; ++i) {
      plain[i] = true;
      if (!saved) continue;
      r_[i] = *At<const float>(kRstd, first + i);
      missing = missing || !(r_[i] >= 0x1p-48f && r_[i] <= 0x1p47f);
    }
    if (missing) {
      HWY_ALIGN float sums[kBlockRows] = {};
      HWY_ALIGN float r[kBlockRows];
      RowSums(At<const Tx>(kX, first), run_.stride[kX], count, leaves_, sums);
      RstdOfSums(sums, count, call_.cols, static_cast<float>(call_.eps), call_.eps_outside, r);
      for (int i = 0; i < count; ++i) {
        r_[i] = r[i];
        plain[i] = range_.Holds(sums[i]);
        q_[i] = std::sqrt(Mean(sums[i], call_.cols));
      }
    }
    if (run_.data[kDx] == nullptr && !round_) return;  // the roundings of c must not meet a NaN either
    for (int i = 0; i < count; ++i) {
      const GradientProducts<kLayout, Tx, Tw, Ty> products = {At<const Tx>(kX, first + i), weight_,
                                                              At<const Ty>(kDy, first + i), r_[i], offset_};
      const float dot =
          flow_ < Flow::kInPlace
              ? GradientDot<Tx, Tw, Ty>(products, leaves_, Nothing())
              : GradientDot<Tx, Tw, Ty>(products, leaves_,
                                        FetchTwo{Ahead(kX, first + i), Ahead(kDy, first + i), kLanes * sizeof(Tx) / 2});
      // A finite sum has finite terms, so every dy, weight and x of the row is finite too.
      plain[i] = plain[i] && std::fabs(dot) <= std::numeric_limits<float>::max();
      f_[i] = Mean(dot, call_.cols);
      if (call_.eps_outside) {
        const float qr = q_[i] * r_[i];
        f_[i] = qr == 0 ? 0.0f : f_[i] / qr;
      }
    }
  }

  void GeneralRow(int64_t row) const {
    char* data[kRowTensors];
    GeneralBackward(call_, OneRow(run_, row, data), ColumnSums{sums_, nullptr});
  }

  template <int kRows>
  HWY_INLINE void ColumnsOf(int64_t row, int first) const {
    if constexpr (kCanRound) {
      if (round_) return Loop<kRows, true>(row, first);
    }
    Loop<kRows, false>(row, first);
  }

  // What a turn over the columns needs of each row.
  template <int kRows>
  struct Rows {
    const Tx* x[kRows];
    const Ty* dy[kRows];
    Ty* dx[kRows];
    float r[kRows], f[kRows];
  };

  template <int kRows, bool kRound>
  HWY_NOINLINE void Loop(int64_t row, int first) const {
    Rows<kRows> rows;
    for (int i = 0; i < kRows; ++i) {
      rows.x[i] = At<const Tx>(kX, row + i);
      rows.dy[i] = At<const Ty>(kDy, row + i);
      rows.dx[i] = run_.data[kDx] == nullptr ? nullptr : At<Ty>(kDx, row + i);
      rows.r[i] = r_[first + i];
      rows.f[i] = f_[first + i];
    }
    if (flow_ == Flow::kStreamed && rows.dx[0] != nullptr) {
      // Rows that do not share their place in a line cannot all stream: ordinary stores then.
      const size_t head = ElementsToLine(rows.dx[0]);
      bool same = true;
      for (int k = 1; k < kRows && same; ++k) same = ElementsToLine(rows.dx[k]) == head;
      if (same) return Streamed<kRows, kRound>(rows, row, std::min(head, cols_));
    }
    Columns<kRows, kRound>(rows, row, 0, 0, cols_);
  }

  // Columns [begin, begin + count), which dx has at `out`.
  template <int kRows, bool kRound>
  HWY_INLINE void Columns(const Rows<kRows>& rows, int64_t row, size_t begin, size_t out, size_t count) const {
    const size_t step = 2 * hn::Lanes(D());
    const bool ahead = flow_ >= Flow::kInPlace;
    size_t i = 0;
    for (; i + step <= count; i += step) {
      if (ahead) {
        const size_t half = (cols_ + begin + i) / 2 * sizeof(Tx);
        for (int k = 0; k < kRows; ++k) {
          for (size_t line = 0; line < step * sizeof(Tx); line += kLine) {
            PrefetchFar(Ahead(kX, row + k) + half + line / 2);
            PrefetchFar(Ahead(kDy, row + k) + half + line / 2);
          }
        }
      }
      Step<kRows, kRound, false>(rows, begin + i, out + i, step);
    }
    if (i < count) Step<kRows, kRound, true>(rows, begin + i, out + i, count - i);
  }

  // dx bypasses the cache by whole lines, by way of a buffer as in RowWriter: two lines of each row are best.
  template <int kRows, bool kRound>
  HWY_INLINE void Streamed(Rows<kRows> rows, int64_t row, size_t head) const {
    constexpr size_t kPage = 4 << 10, kBytes = 128, kPerLine = kLine / sizeof(Ty);
    Columns<kRows, kRound>(rows, row, 0, 0, head);
    alignas(kLine) char room[kPage + kRows * kBytes];
    const auto from_room = reinterpret_cast<uintptr_t>(rows.x[0] + head) + kPage / 2 - reinterpret_cast<uintptr_t>(room);
    char* const stage = room + from_room % kPage / kLine * kLine;
    Ty* dx[kRows];
    for (int k = 0; k < kRows; ++k) {
      dx[k] = rows.dx[k];
      rows.dx[k] = reinterpret_cast<Ty*>(stage + k * kBytes);
    }
    size_t i = head;
    while (cols_ - i >= kPerLine) {
      const size_t count = std::min(kBytes / sizeof(Ty), (cols_ - i) / kPerLine * kPerLine);
      Columns<kRows, kRound>(rows, row, i, 0, count);
      for (int k = 0; k < kRows; ++k) StreamLines(rows.dx[k], dx[k] + i, count * sizeof(Ty));
      i += count;
    }
    for (int k = 0; k < kRows; ++k) rows.dx[k] = dx[k];
    Columns<kRows, kRound>(rows, row, i, i, cols_ - i);
  }

  template <int kRows, bool kRound, bool kPart>
  HWY_INLINE void Step(const Rows<kRows>& rows, size_t i, size_t out, size_t count) const {
    const D d;
    const auto load = [&](auto* p) HWY_ATTR {
      if constexpr (kPart) {
        return LoadDuoPart<kLayout>(d, p, count);
      } else {
        return LoadDuo<kLayout>(d, p);
      }
    };
    const auto offset = hn::Set(d, offset_);
    const auto w = Map(load(std::is_same_v<Tw, None> ? weight_ : weight_ + i),
                       [&](V<D> v) HWY_ATTR { return std::is_same_v<Tw, None> ? v : hn::Add(v, offset); });
    const bool want_dx = rows.dx[0] != nullptr, want_sums = sums_ != nullptr;
    auto sum = Duo<D>{hn::Zero(d), hn::Zero(d)};
    if (want_sums) sum = load(static_cast<const float*>(sums_ + i));
    for (int k = 0; k < kRows; ++k) {
      const auto r = hn::Set(d, rows.r[k]), f = hn::Set(d, rows.f[k]);
      const auto dy = load(rows.dy[k] + i);
      const auto c = Map(load(rows.x[k] + i), [&](V<D> x) HWY_ATTR { return hn::Mul(x, r); });
      if (want_sums) {
        sum = Map(dy, c, sum, [&](V<D> v, V<D> of, V<D> a) HWY_ATTR {
          if constexpr (kRound) of = RoundThrough<Tc, Nans::kNone>(d, of);
          return Fma(v, of, a);
        });
      }
      if (want_dx) {
        const auto dx = Map(dy, c, w, [&](V<D> v, V<D> of, V<D> by) HWY_ATTR {
          const auto g = std::is_same_v<Tw, None> ? v : hn::Mul(v, by);
          return hn::Mul(r, hn::NegMulAdd(of, f, g));
        });
        if constexpr (kPart) {
          StoreDuoPart<kLayout, Nans::kNone>(dx, d, rows.dx[k] + out, count);
        } else {
          StoreDuo<kLayout, Nans::kNone, Store::kCached>(dx, d, rows.dx[k] + out);
        }
      }
    }
    if (!want_sums) return;
    if constexpr (kPart) {
      StoreDuoPart<kLayout, Nans::kPossible>(sum, d, sums_ + i, count);
    } else {
      StoreDuo<kLayout, Nans::kPossible, Store::kCached>(sum, d, sums_ + i);
    }
  }

  const Call& call_;
  const isonorm::Run run_;
  const RowLeaves leaves_;
  const PlainRange range_;
  const size_t cols_;
  const Tw* const weight_;
  const float offset_;
  float* const sums_;
  const bool round_;
  const Flow flow_;
  float r_[kTogether], q_[kTogether] = {}, f_[kTogether] = {};
};

template <class Tx, class Tw, class Ty>
void TunedBackward(const Call& call, const Run& run, const ColumnSums& sums) {
  GradientRows<Tx, Tw, Ty>(call, run, sums).Run();
}

#endif  // ISONORM_TUNED_LOOPS

// Enters the tuned backward rows of the table whose x is of type Tx.
template <class Tx>
void AddTunedBackward([[maybe_unused]] Backend& backend) {
#if ISONORM_TUNED_LOOPS
#define ISONORM_KERNEL(operation, source, sink, x, weight, out)
#define ISONORM_TUNED(operation, x, weight, out)                                                       \
  if constexpr (Operation::k_##operation == Operation::k_backward && std::is_same_v<storage::x, Tx>) { \
    backend.kernels[k_##operation##_plain_cast_##x##_##weight##_##out] =                               \
        TunedBackward<storage::x, storage::weight, storage::out>;                                      \
  }
#include "kernels.inc"
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_BACKWARD_INL_H_
