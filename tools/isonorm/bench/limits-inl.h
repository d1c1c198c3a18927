// Loops that only move data. Included once per instruction set by bench_loops.cc.

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm_cli::bench {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Du32 = hn::ScalableTag<uint32_t>;

template <bool kStream, class V>
HWY_INLINE void Put(V v, uint32_t* to) {
  if constexpr (kStream) {
    hn::Stream(v, Du32(), to);
  } else {
    hn::Store(v, Du32(), to);
  }
}

template <bool kStream>
void Copy(const void* from, void* to, size_t bytes) {
  const Du32 d;
  const size_t lanes = hn::Lanes(d);
  const auto* in = static_cast<const uint32_t*>(from);
  auto* out = static_cast<uint32_t*>(to);
  for (size_t i = 0; i < bytes / 4; i += 4 * lanes) {
    const auto v0 = hn::Load(d, in + i);
    const auto v1 = hn::Load(d, in + i + lanes);
    const auto v2 = hn::Load(d, in + i + 2 * lanes);
    const auto v3 = hn::Load(d, in + i + 3 * lanes);
    Put<kStream>(v0, out + i);
    Put<kStream>(v1, out + i + lanes);
    Put<kStream>(v2, out + i + 2 * lanes);
    Put<kStream>(v3, out + i + 3 * lanes);
  }
  if constexpr (kStream) hwy::FlushStream();
}

inline void Read(const void* from, size_t bytes) {
  const Du32 d;
  const size_t lanes = hn::Lanes(d);
  const auto* in = static_cast<const uint32_t*>(from);
  auto a0 = hn::Zero(d);
  auto a1 = hn::Zero(d);
  auto a2 = hn::Zero(d);
  auto a3 = hn::Zero(d);
  for (size_t i = 0; i < bytes / 4; i += 4 * lanes) {
    a0 = hn::Xor(a0, hn::Load(d, in + i));
    a1 = hn::Xor(a1, hn::Load(d, in + i + lanes));
    a2 = hn::Xor(a2, hn::Load(d, in + i + 2 * lanes));
    a3 = hn::Xor(a3, hn::Load(d, in + i + 3 * lanes));
  }
  // A store that the compiler must keep, so that it keeps the loads.
  volatile uint32_t sink = hn::GetLane(hn::Xor(hn::Xor(a0, a1), hn::Xor(a2, a3)));
  static_cast<void>(sink);
}

// Flips the lowest bit of each word: a change that never makes a number special.
inline void Modify(void* data, size_t bytes) {
  const Du32 d;
  const size_t lanes = hn::Lanes(d);
  const auto one = hn::Set(d, 1);
  auto* p = static_cast<uint32_t*>(data);
  for (size_t i = 0; i < bytes / 4; i += 2 * lanes) {
    const auto v0 = hn::Xor(hn::Load(d, p + i), one);
    const auto v1 = hn::Xor(hn::Load(d, p + i + lanes), one);
    hn::Store(v0, d, p + i);
    hn::Store(v1, d, p + i + lanes);
  }
}

template <bool kStream>
void Combine(const void* a, const void* b, void* to, size_t bytes) {
  const Du32 d;
  const size_t lanes = hn::Lanes(d);
  const auto* in_a = static_cast<const uint32_t*>(a);
  const auto* in_b = static_cast<const uint32_t*>(b);
  auto* out = static_cast<uint32_t*>(to);
  for (size_t i = 0; i < bytes / 4; i += 2 * lanes) {
    const auto v0 = hn::Xor(hn::Load(d, in_a + i), hn::Load(d, in_b + i));
    const auto v1 = hn::Xor(hn::Load(d, in_a + i + lanes), hn::Load(d, in_b + i + lanes));
    Put<kStream>(v0, out + i);
    Put<kStream>(v1, out + i + lanes);
  }
  if constexpr (kStream) hwy::FlushStream();
}

template <bool kStream, int kIns, int kOuts, size_t kInsPerOut>
HWY_INLINE void MoveThese(const Streams& s) {
  const Du32 d;
  const size_t lanes = hn::Lanes(d);
  const uint32_t* in[kIns];
  for (int i = 0; i < kIns; ++i) in[i] = static_cast<const uint32_t*>(s.in[i]);
  uint32_t* out[kOuts];
  for (int i = 0; i < kOuts; ++i) out[i] = static_cast<uint32_t*>(s.out[i]);
  for (size_t at = 0; at < s.out_bytes / 4; at += lanes) {
    auto v = hn::Zero(d);
    for (int i = 0; i < kIns; ++i) {
      for (size_t k = 0; k < kInsPerOut; ++k) v = hn::Xor(v, hn::Load(d, in[i] + at * kInsPerOut + k * lanes));
    }
    for (int i = 0; i < kOuts; ++i) Put<kStream>(v, out[i] + at);
  }
  if constexpr (kStream) hwy::FlushStream();
}

template <bool kStream>
void Move(const Streams& s) {
  if (s.ins == 1 && s.in_bytes == s.out_bytes) return MoveThese<kStream, 1, 1, 1>(s);
  if (s.ins == 1) return MoveThese<kStream, 1, 1, 2>(s);
  if (s.ins == 2 && s.outs == 1) return MoveThese<kStream, 2, 1, 1>(s);
  if (s.ins == 2) return MoveThese<kStream, 2, 2, 1>(s);
  MoveThese<kStream, 3, 2, 1>(s);
}

template <bool kStream, int kIns, bool kFetch>
HWY_INLINE void MoveTheseRows(const Streams& s, size_t row_bytes) {
  const Du32 d;
  const size_t lanes = hn::Lanes(d), words = row_bytes / 4;
  const uint32_t* in[kIns];
  for (int i = 0; i < kIns; ++i) in[i] = static_cast<const uint32_t*>(s.in[i]);
  auto* out = static_cast<uint32_t*>(s.out[0]);
  const auto one = hn::Set(d, 1);
  const auto changed = [&](size_t at) HWY_ATTR {
    auto v = hn::Xor(hn::Load(d, in[0] + at), one);
    for (int i = 1; i < kIns; ++i) v = hn::Xor(v, hn::Load(d, in[i] + at));
    return v;
  };
  // Nothing is read there, so it may lie past the last row.
  const auto fetch = [&](size_t at) HWY_ATTR {
    for (int i = 0; kFetch && i < kIns; ++i) __builtin_prefetch(in[i] + words + at, 0, 2);
  };
  constexpr size_t kLine = 16, kTwo = 2 * kLine;
  for (size_t row = 0; row < s.in_bytes / 4; row += words) {
    auto a0 = hn::Zero(d), a1 = hn::Zero(d);
    for (size_t at = row; at < row + words; at += kTwo) {
      HWY_UNROLL(4)
      for (size_t i = at; i < at + kTwo; i += 2 * lanes) {
        a0 = hn::Xor(a0, changed(i));
        a1 = hn::Xor(a1, changed(i + lanes));
      }
      fetch(at);
    }
    volatile uint32_t sink = hn::GetLane(hn::Xor(a0, a1));  // the row's sum is known before any of it is written
    static_cast<void>(sink);
    for (size_t at = row; at < row + words; at += kTwo) {
      HWY_UNROLL(4)
      for (size_t i = at; i < at + kTwo; i += 2 * lanes) {
        const auto v0 = changed(i), v1 = changed(i + lanes);
        Put<kStream>(v0, out + i);
        Put<kStream>(v1, out + i + lanes);
      }
      fetch(at + kLine);
    }
  }
  if constexpr (kStream) hwy::FlushStream();
}

template <bool kFetch>
void MoveRows(const Streams& s, size_t row_bytes) {
  if (s.in[0] == s.out[0]) return MoveTheseRows<false, 1, kFetch>(s, row_bytes);
  if (s.ins == 1) return MoveTheseRows<true, 1, kFetch>(s, row_bytes);
  MoveTheseRows<true, 2, kFetch>(s, row_bytes);
}

inline constexpr LimitLoops kLimits = {Copy<false>,   Copy<true>,  Read,       Modify,          Combine<false>,
                                       Combine<true>, Move<false>, Move<true>, MoveRows<false>, MoveRows<true>};

}  // namespace HWY_NAMESPACE
}  // namespace isonorm_cli::bench
HWY_AFTER_NAMESPACE();
