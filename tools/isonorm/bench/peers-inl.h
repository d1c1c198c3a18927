// The best RMSNorm loops we know with no constraint on the order of a sum: several structures, of which the benchmark takes
// the fastest for each shape. Included once per instruction set by bench_loops.cc. Widths are multiples of 256.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm_cli::bench {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Df = hn::ScalableTag<float>;
using Du = hn::ScalableTag<uint32_t>;
using Vf = hn::Vec<Df>;
constexpr size_t kLanes = hn::MaxLanes(Df());

// Two vectors of consecutive values, in an order that Store undoes. The constructors are spelled out because gcc compiles
// implicit ones for another instruction set on Arm.
struct Two {
  HWY_INLINE Two() {}
  HWY_INLINE Two(Vf first, Vf second) : a(first), b(second) {}
  Vf a, b;
};

// How x and y (T) and the weight (W) are stored.
struct F32 {
  using T = float;
  using W = float;
  static HWY_INLINE Two Load(const T* p) { return {hn::LoadU(Df(), p), hn::LoadU(Df(), p + kLanes)}; }
  static HWY_INLINE Two Weight(const W* p) { return Load(p); }
  static HWY_INLINE void Store(Two v, T* p) {
    hn::StoreU(v.a, Df(), p);
    hn::StoreU(v.b, Df(), p + kLanes);
  }
};

// Even elements in a, odd ones in b: one shift and one mask instead of widening shuffles.
struct Bf16 {
  using T = uint16_t;
  using W = uint16_t;
  static HWY_INLINE Two Load(const T* p) {
    const Du d;
    const auto u = hn::BitCast(d, hn::LoadU(hn::ScalableTag<uint16_t>(), p));
    return {hn::BitCast(Df(), hn::ShiftLeft<16>(u)), hn::BitCast(Df(), hn::And(u, hn::Set(d, 0xFFFF0000u)))};
  }
  static HWY_INLINE Two Weight(const W* p) { return Load(p); }
  static HWY_INLINE void Store(Two v, T* p) {
    const Du d;
    const auto packed = hn::OrAnd(hn::ShiftRight<16>(Round(v.a)), Round(v.b), hn::Set(d, 0xFFFF0000u));
    hn::StoreU(hn::BitCast(hn::ScalableTag<uint16_t>(), packed), hn::ScalableTag<uint16_t>(), p);
  }
  // Round to nearest even into the upper half of each word: a mask and a masked addition are one operation less than adding
  // the lowest kept bit.
  static HWY_INLINE hn::Vec<Du> Round(Vf v) {
    const Du d;
    const auto u = hn::BitCast(d, v);
    const auto odd = hn::TestBit(u, hn::Set(d, 0x10000));
    return hn::IfThenElse(odd, hn::Add(u, hn::Set(d, 0x8000)), hn::Add(u, hn::Set(d, 0x7FFF)));
  }
};

// As Gemma has it: 1 is added to the weight.
struct Bf16Offset : Bf16 {
  static HWY_INLINE Two Weight(const W* p) {
    const Two w = Load(p);
    const Vf one = hn::Set(Df(), 1);
    return {hn::Add(w.a, one), hn::Add(w.b, one)};
  }
};

struct Bf16WeightF32 : Bf16 {
  using W = float;
  static HWY_INLINE Two Weight(const W* p) {
    const Two w = F32::Load(p);
    return {hn::ConcatEven(Df(), w.b, w.a), hn::ConcatOdd(Df(), w.b, w.a)};
  }
};

constexpr size_t kTwo = 2 * kLanes;

HWY_INLINE Two Scale(Two x, Vf rstd, Two w) { return {hn::Mul(hn::Mul(x.a, rstd), w.a), hn::Mul(hn::Mul(x.b, rstd), w.b)}; }

// Asks for the cache lines of two vectors; past the end of a tensor it does nothing.
template <class T>
HWY_INLINE void PrefetchTwo(const T* p) {
  for (size_t i = 0; i < kTwo; i += 64 / sizeof(T)) hwy::Prefetch(p + i);
}

// 1 / sqrt(sum / cols + eps), correctly rounded as everywhere in isonorm: only the order of the sum is free here.
HWY_INLINE Vf Rstd(Vf sum, size_t cols, float eps) {
  const Df d;
  const hn::Half<Df> half;
  const hn::RepartitionToWide<Df> wide;
  const auto v = hn::Add(hn::Div(sum, hn::Set(d, static_cast<float>(cols))), hn::Set(d, eps));
  const auto root = [&](auto part) HWY_ATTR {
    return hn::DemoteTo(half, hn::Div(hn::Set(wide, 1.0), hn::Sqrt(hn::PromoteTo(wide, part))));
  };
  return hn::Combine(d, root(hn::UpperHalf(half, v)), root(hn::LowerHalf(half, v)));
}

// The same of one number, in every lane.
HWY_INLINE Vf RstdOfOne(Vf sum, size_t cols, float eps) {
  const float v = hn::GetLane(sum) / static_cast<float>(cols) + eps;
  return hn::Set(Df(), static_cast<float>(1.0 / std::sqrt(static_cast<double>(v))));
}

// kAcc pairs of accumulators.
template <class Io, int kAcc, bool kBackwards = false>
HWY_INLINE Vf SumSquares(const typename Io::T* x, size_t cols) {
  Two acc[kAcc];
  for (int k = 0; k < kAcc; ++k) acc[k] = {hn::Zero(Df()), hn::Zero(Df())};
  for (size_t i = 0; i < cols; i += kAcc * kTwo) {
    for (int k = 0; k < kAcc; ++k) {
      const Two v = Io::Load(x + (kBackwards ? cols - kAcc * kTwo - i : i) + k * kTwo);
      acc[k] = {hn::MulAdd(v.a, v.a, acc[k].a), hn::MulAdd(v.b, v.b, acc[k].b)};
    }
  }
  for (int n = kAcc / 2; n > 0; n /= 2) {
    for (int k = 0; k < n; ++k) acc[k] = {hn::Add(acc[k].a, acc[k + n].a), hn::Add(acc[k].b, acc[k + n].b)};
  }
  return hn::Add(acc[0].a, acc[0].b);
}

template <class Io, int kUnroll, bool kBackwards, bool kPrefetchNext = false>
HWY_INLINE void WriteRow(const typename Io::T* x, const typename Io::W* weight, typename Io::T* y, size_t cols, Vf rstd) {
  constexpr size_t kStep = kUnroll * kTwo;
  for (size_t n = 0; n < cols; n += kStep) {
    const size_t i = kBackwards ? cols - kStep - n : n;
    for (int k = 0; k < kUnroll; ++k) {
      const size_t j = i + k * kTwo;
      if (kPrefetchNext) PrefetchTwo(x + cols + j);
      Io::Store(Scale(Io::Load(x + j), rstd, Io::Weight(weight + j)), y + j);
    }
  }
}

// Which way the passes over a row run. Backwards means that a pass meets first what the pass before it left in L1.
enum Walk {
  kForwards,
  kWriteBackwards,  // the sum forwards, then the write backwards
  kSnake,           // every other row backwards in both passes, which finds the end of the weight in L1
  kPrefetch         // forwards, and the write asks for the same place of the next row
};

// Row by row.
template <class Io, int kAcc, int kUnroll, Walk kWalk>
void ByRow(const void* x_in, const void* w_in, void* y_out, size_t rows, size_t cols, float eps) {
  using T = typename Io::T;
  const T* x = static_cast<const T*>(x_in);
  const auto* w = static_cast<const typename Io::W*>(w_in);
  T* y = static_cast<T*>(y_out);
  for (size_t r = 0; r < rows; ++r, x += cols, y += cols) {
    if (kWalk == kSnake && r % 2 == 1) {
      const Vf sum = hn::SumOfLanes(Df(), SumSquares<Io, kAcc, true>(x, cols));
      WriteRow<Io, kUnroll, true>(x, w, y, cols, RstdOfOne(sum, cols, eps));
    } else {
      const Vf sum = hn::SumOfLanes(Df(), SumSquares<Io, kAcc>(x, cols));
      WriteRow<Io, kUnroll, kWalk == kWriteBackwards, kWalk == kPrefetch>(x, w, y, cols, RstdOfOne(sum, cols, eps));
    }
  }
}

// kRows rows at once share every load of the weight, and their inverse roots overlap.
template <class Io, int kAcc, int kRows>
void Shared(const void* x_in, const void* w_in, void* y_out, size_t rows, size_t cols, float eps) {
  using T = typename Io::T;
  const T* x = static_cast<const T*>(x_in);
  const auto* w = static_cast<const typename Io::W*>(w_in);
  T* y = static_cast<T*>(y_out);
  size_t r = 0;
  for (; r + kRows <= rows; r += kRows, x += kRows * cols, y += kRows * cols) {
    Vf rstd[kRows];
    for (int k = 0; k < kRows; ++k) rstd[k] = SumSquares<Io, kAcc>(x + k * cols, cols);
    for (int k = 0; k < kRows; ++k) rstd[k] = RstdOfOne(hn::SumOfLanes(Df(), rstd[k]), cols, eps);
    for (size_t i = 0; i < cols; i += kTwo) {
      const Two weight = Io::Weight(w + i);
      for (int k = 0; k < kRows; ++k) Io::Store(Scale(Io::Load(x + k * cols + i), rstd[k], weight), y + k * cols + i);
    }
  }
  ByRow<Io, kAcc, 2, kForwards>(x, w, y, rows - r, cols, eps);
}

// The sum of the next row runs inside the write loop of this one.
template <class Io, int kAcc>
void Fused(const void* x_in, const void* w_in, void* y_out, size_t rows, size_t cols, float eps) {
  using T = typename Io::T;
  const T* x = static_cast<const T*>(x_in);
  const auto* w = static_cast<const typename Io::W*>(w_in);
  T* y = static_cast<T*>(y_out);
  Vf sum = SumSquares<Io, kAcc>(x, cols);
  for (size_t r = 0; r < rows; ++r, x += cols, y += cols) {
    const Vf rstd = RstdOfOne(hn::SumOfLanes(Df(), sum), cols, eps);
    if (r + 1 == rows) {
      WriteRow<Io, 2, false>(x, w, y, cols, rstd);
      break;
    }
    Two acc[kAcc];
    for (int k = 0; k < kAcc; ++k) acc[k] = {hn::Zero(Df()), hn::Zero(Df())};
    for (size_t i = 0; i < cols; i += kAcc * kTwo) {
      for (int k = 0; k < kAcc; ++k) {
        const size_t j = i + k * kTwo;
        const Two next = Io::Load(x + cols + j);
        acc[k] = {hn::MulAdd(next.a, next.a, acc[k].a), hn::MulAdd(next.b, next.b, acc[k].b)};
        Io::Store(Scale(Io::Load(x + j), rstd, Io::Weight(w + j)), y + j);
      }
    }
    for (int k = 1; k < kAcc; ++k) acc[0] = {hn::Add(acc[0].a, acc[k].a), hn::Add(acc[0].b, acc[k].b)};
    sum = hn::Add(acc[0].a, acc[0].b);
  }
}

// A row of kCols values is read once and held in registers, the weight in other registers.
template <class Io, int kCols>
void Held(const void* x_in, const void* w_in, void* y_out, size_t rows, size_t, float eps) {
  using T = typename Io::T;
  constexpr int kUnits = kCols / static_cast<int>(kTwo);
  const T* x = static_cast<const T*>(x_in);
  T* y = static_cast<T*>(y_out);
  Two w[kUnits];
  for (int k = 0; k < kUnits; ++k) w[k] = Io::Weight(static_cast<const typename Io::W*>(w_in) + k * kTwo);
  for (size_t r = 0; r < rows; ++r, x += kCols, y += kCols) {
    Two v[kUnits];
    for (int k = 0; k < kUnits; ++k) v[k] = Io::Load(x + k * kTwo);
    Two acc = {hn::Mul(v[0].a, v[0].a), hn::Mul(v[0].b, v[0].b)};
    for (int k = 1; k < kUnits; ++k) acc = {hn::MulAdd(v[k].a, v[k].a, acc.a), hn::MulAdd(v[k].b, v[k].b, acc.b)};
    const Vf rstd = RstdOfOne(hn::SumOfLanes(Df(), hn::Add(acc.a, acc.b)), kCols, eps);
    for (int k = 0; k < kUnits; ++k) Io::Store(Scale(v[k], rstd, w[k]), y + k * kTwo);
  }
}

// Lane l of the result: the sum of all lanes of v[l], for as many vectors as a vector has lanes. Transposes while it adds.
template <class D>
HWY_INLINE Vf SumsOfRows(D d, const Vf* v) {
  const hn::Repartition<double, D> d64;
  Vf quad[(kLanes + 3) / 4];  // 128-bit block b of quad[q]: the sums over block b of v[4q] ... v[4q + 3]
  for (size_t q = 0; q < kLanes / 4; ++q) {
    const Vf* p = v + 4 * q;
    const auto ab = hn::Add(hn::InterleaveLower(d, p[0], p[1]), hn::InterleaveUpper(d, p[0], p[1]));
    const auto cd = hn::Add(hn::InterleaveLower(d, p[2], p[3]), hn::InterleaveUpper(d, p[2], p[3]));
    const auto ab64 = hn::BitCast(d64, ab);
    const auto cd64 = hn::BitCast(d64, cd);
    quad[q] =
        hn::Add(hn::BitCast(d, hn::InterleaveLower(d64, ab64, cd64)), hn::BitCast(d, hn::InterleaveUpper(d64, ab64, cd64)));
  }
  if constexpr (hn::MaxLanes(D()) == 4) {
    return quad[0];
  } else if constexpr (hn::MaxLanes(D()) == 8) {
    return hn::Add(hn::ConcatLowerLower(d, quad[1], quad[0]), hn::ConcatUpperUpper(d, quad[1], quad[0]));
  } else {
    static_assert(hn::MaxLanes(D()) == 16, "written for vectors of 128, 256 and 512 bits");
    // Blocks: lower = quad 0, 0, 2, 2 and upper = quad 1, 1, 3, 3; the last step leaves quad 0, 1, 2, 3.
    const auto lower = hn::Add(hn::ConcatLowerLower(d, quad[2], quad[0]), hn::ConcatUpperUpper(d, quad[2], quad[0]));
    const auto upper = hn::Add(hn::ConcatLowerLower(d, quad[3], quad[1]), hn::ConcatUpperUpper(d, quad[3], quad[1]));
    return hn::Add(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(upper), lower),
                   hn::OddEvenBlocks(upper, hn::SwapAdjacentBlocks(lower)));
  }
}

// As many rows of kCols values as a vector has lanes share one vector of inverse roots.
template <class Io, int kCols, bool kPrefetchNext>
void Batch(const void* x_in, const void* w_in, void* y_out, size_t rows, size_t, float eps) {
  using T = typename Io::T;
  constexpr int kUnits = kCols / static_cast<int>(kTwo);
  const T* x = static_cast<const T*>(x_in);
  T* y = static_cast<T*>(y_out);
  Two w[kUnits];
  for (int k = 0; k < kUnits; ++k) w[k] = Io::Weight(static_cast<const typename Io::W*>(w_in) + k * kTwo);
  size_t r = 0;
  for (; r + kLanes <= rows; r += kLanes, x += kLanes * kCols, y += kLanes * kCols) {
    Vf sums[kLanes];
    for (size_t i = 0; i < kLanes; ++i) {
      Two acc = Io::Load(x + i * kCols);
      acc = {hn::Mul(acc.a, acc.a), hn::Mul(acc.b, acc.b)};
      for (int k = 1; k < kUnits; ++k) {
        const Two v = Io::Load(x + i * kCols + k * kTwo);
        acc = {hn::MulAdd(v.a, v.a, acc.a), hn::MulAdd(v.b, v.b, acc.b)};
      }
      sums[i] = hn::Add(acc.a, acc.b);
    }
    alignas(64) float rstd[kLanes];
    hn::Store(Rstd(SumsOfRows(Df(), sums), kCols, eps), Df(), rstd);
    for (size_t i = 0; i < kLanes; ++i) {
      const Vf scale = hn::Set(Df(), rstd[i]);
      for (int k = 0; k < kUnits; ++k) {
        const size_t j = i * kCols + k * kTwo;
        if (kPrefetchNext) PrefetchTwo(x + kLanes * kCols + j);
        Io::Store(Scale(Io::Load(x + j), scale, w[k]), y + j);
      }
    }
  }
  Held<Io, kCols>(x, w_in, y, rows - r, kCols, eps);
}

template <class Io>
inline constexpr Peer kPeers[] = {
    {"by row, 4 sums", ByRow<Io, 2, 2, kForwards>, 0},
    {"by row, 8 sums", ByRow<Io, 4, 2, kForwards>, 0},
    {"by row, back", ByRow<Io, 2, 1, kWriteBackwards>, 0},
    {"by row, prefetch", ByRow<Io, 2, 2, kPrefetch>, 0},
    {"by row, snake", ByRow<Io, 2, 2, kSnake>, 0},
    {"2 rows share weight", Shared<Io, 2, 2>, 0},
    {"4 rows share weight", Shared<Io, 2, 4>, 0},
    {"next sum in write", Fused<Io, 2>, 0},
    {"row held", Held<Io, 128>, 128},
    {"batch of rows", Batch<Io, 128, false>, 128},
    {"batch, prefetch", Batch<Io, 128, true>, 128},
};

}  // namespace HWY_NAMESPACE
}  // namespace isonorm_cli::bench
HWY_AFTER_NAMESPACE();
