// One group of one row as the specification sees it. Nothing is stored between steps: every element is computed from the
// inputs when it is asked for, so that the code reads like the formulas and needs no memory.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "call/call.h"
#include "table/kernels.h"
#include "numbers/order.h"
#include "call/shard.h"
#include "reference/rope.h"
#include "numbers/rounding.h"
#include "numbers/scaling.h"

namespace isonorm::reference {

// ------------------------------------------------------------------------------------------------ sums (numerics.md §1)

// step(a, j) folds element j into the partial sum a. Of a row that `ranks` ranks share, the subtree of the `count` elements here.
template <class F, class Step>
F Sum(int64_t count, int64_t ranks, Step step) {
  const Leaves leaves = LeavesOfShard(count, ranks);
  LeafTree<F> tree;
  for (int64_t leaf = 0; leaf < leaves.count(); ++leaf) {
    const int64_t begin = leaves.begin(leaf), end = leaves.begin(leaf + 1);
    F lane[kLanes] = {};
    for (int64_t j = begin; j < end; ++j) lane[(j - begin) % kLanes] = step(lane[(j - begin) % kLanes], j);
    for (int width = kLanes / 2; width >= 1; width /= 2) {
      for (int l = 0; l < width; ++l) lane[l] = lane[l] + lane[l + width];
    }
    tree.Push(lane[0]);
  }
  return tree.Total();
}

template <class F, class Value>
F PlainSum(int64_t count, int64_t ranks, Value value) {
  return Sum<F>(count, ranks, [&](F a, int64_t j) { return a + value(j); });
}

// ------------------------------------------------------------------------------------- silu and sigmoid (numerics.md §2)

struct SplitExp {  // exp(a) is about p * 2^n
  float p;
  int n;
};

inline SplitExp ExpSplit(float a) {  // -150 <= a <= 0
  const float n = std::nearbyint(a * 0x1.715476p+0f);
  float r = std::fma(-n, 0x1.62e43p-1f, a);
  r = std::fma(-n, -0x1.05c61p-29f, r);
  float q = std::fma(0x1.6a50aep-10f, r, 0x1.123978p-7f);
  q = std::fma(q, r, 0x1.5558acp-5f);
  q = std::fma(q, r, 0x1.555492p-3f);
  q = std::fma(q, r, 0x1.fffffcp-2f);
  return {1.0f + std::fma(q, r * r, r), static_cast<int>(n)};
}

inline float Silu(float z) {
  if (z != z) return z;
  if (z < -150.0f) z = -150.0f;
  const SplitExp e = ExpSplit(std::max(-std::fabs(z), -150.0f));
  const float d = 1.0f + std::ldexp(e.p, e.n);
  return z >= 0 ? z / d : std::ldexp((z * e.p) / d, e.n);
}

inline float SiluSlope(float z) {
  if (z != z) return z;
  z = std::clamp(z, -150.0f, 150.0f);
  const SplitExp e = ExpSplit(-std::fabs(z));
  const float x = std::ldexp(e.p, e.n), d = 1.0f + x;
  return z >= 0 ? (1.0f / d) * std::fma(z, x / d, 1.0f) : std::ldexp((e.p / d) * (1.0f + z / d), e.n);
}

inline float Sigmoid(float z) {
  if (z != z) return z;
  const SplitExp e = ExpSplit(std::max(-std::fabs(z), -150.0f));
  const float d = 1.0f + std::ldexp(e.p, e.n);
  return z >= 0 ? 1.0f / d : std::ldexp(e.p / d, e.n);
}

inline float SigmoidSlope(float z) {
  if (z != z) return z;
  const SplitExp e = ExpSplit(std::max(-std::fabs(z), -150.0f));
  const float d = 1.0f + std::ldexp(e.p, e.n);
  return std::ldexp((e.p / d) * (1.0f / d), e.n);
}

// ------------------------------------------------------------------------------------------------------------- a group

template <class F>
class Group {
 public:
  Group(const Call& call, const Run& run, int64_t row, int64_t group)
      : call_(call), row_(run.first + row), first_(group * call.group_cols), n_(call.group_cols) {
    for (int t = 0; t < kRowTensors; ++t) data_[t] = run.data[t] == nullptr ? nullptr : run.data[t] + row * run.stride[t];
    group_ = group;
  }

  F Load(RowTensor tensor, int64_t j) const { return LoadScalar<F>(data_[tensor], call_.type[tensor], first_ + j); }
  void Store(RowTensor tensor, int64_t j, F value) const { StoreScalar(value, data_[tensor], call_.type[tensor], first_ + j); }
  void StoreByte(RowTensor tensor, int64_t j, uint8_t value) const { data_[tensor][first_ + j] = static_cast<char>(value); }
  bool has(RowTensor tensor) const { return data_[tensor] != nullptr; }
  F SavedRstd() const { return LoadScalar<F>(data_[kRstd], call_.type[kRstd], group_); }
  void StoreRstd(F value) const { StoreScalar(value, data_[kRstd], call_.type[kRstd], group_); }
  int64_t column(int64_t j) const { return first_ + j; }
  int64_t row() const { return row_; }  // its index in the call

  // Step 0, the source: x, x + residual (rounded as stored, or kept), x * f(gate).
  F Source(int64_t j) const {
    F h = Load(kX, j);
    if (has(kResidual)) {
      h = h + Load(kResidual, j);
      if (call_.sum_type != Type::kNone) h = RoundTo(h, call_.sum_type);
    }
    if (call_.gate == Gate::kBefore) h = h * GateFactor(j);
    return h;
  }

  F Scaled(int64_t j) const { return exponent_ == 0 ? Source(j) : std::ldexp(Source(j), -exponent_); }
  F Centred(int64_t j) const { return (Scaled(j) - mean_); }

  // Steps 1 and 2, and the scaled path of §3; or from what all ranks that share the row found out together.
  void ComputeStatistic() {
    if (call_.shard != nullptr) return TakeStatistic(call_.shard->StatisticOf<F>(row_));
    F squares = ComputeSums();
    const F largest = LargestOrInfinity();
    const bool scaled =
        AskForScaling(squares, mean_, static_cast<F>(call_.eps), call_.eps_outside) && std::isfinite(largest) && largest > 0;
    if (scaled) {
      ScaleBy(largest);
      squares = ComputeSums();
    }
    FinishStatistic(squares, scaled);
  }

  // The steps of the statistic, for ranks that share a row (WritePartial in parallel_shard.h).
  void ScaleBy(F largest) { exponent_ = std::ilogb(largest); }
  void SetMean(F mean) { mean_ = mean; }
  F LargestOrInfinity() const {  // of the window
    F largest = 0;
    for (int64_t j = 0; j < call_.window; ++j) {
      const F h = std::fabs(Source(j));
      if (!std::isfinite(h)) return std::numeric_limits<F>::infinity();
      largest = std::max(largest, h);
    }
    return largest;
  }
  F SumOfValues() const {
    return PlainSum<F>(n_, call_.ranks, [&](int64_t j) { return Scaled(j); });
  }
  F SumOfSquares(F* shift) const {  // LayerNorm: of the values less the mean, whose plain sum goes to `shift`
    if (!call_.layer) {
      return Sum<F>(call_.window, call_.ranks, [&](F a, int64_t j) { return std::fma(Scaled(j), Scaled(j), a); });
    }
    *shift = PlainSum<F>(n_, call_.ranks, [&](int64_t j) { return Centred(j); });
    return Sum<F>(n_, call_.ranks, [&](F a, int64_t j) { return std::fma(Centred(j), Centred(j), a); });
  }

  // A saved rstd in this range belongs to a row that was not scaled, and says all that an RMS norm with eps inside needs.
  void UseSavedRstdOrCompute() {
    if (has(kRstd) && !call_.layer && !call_.eps_outside) {
      const F saved = SavedRstd();
      if (saved >= F(0x1p-48) && saved <= F(0x1p47)) {
        r_ = saved;
        return;
      }
    }
    ComputeStatistic();
  }

  F rstd() const { return std::ldexp(r_, -exponent_); }
  F r() const { return r_; }
  F q() const { return q_; }
  F mean_square() const { return m_; }  // of the scaled values, where the group is scaled
  int exponent() const { return exponent_; }

  // Steps 3 to 5.
  F C(int64_t j) const {
    if (!call_.layer) return Scaled(j) * r_;
    return (constant_ ? F(0) : Centred(j) - shift_) * r_;
  }
  F RoundedC(int64_t j) const { return RoundTo(C(j), call_.scaled_type); }
  F Weight(int64_t j) const {
    if (call_.weight_type == Type::kNone) return F(1);
    const F w = LoadScalar<F>(call_.weight, call_.weight_type, first_ + j), offset = static_cast<F>(call_.weight_offset);
    return offset == 0 ? w : w + offset;
  }
  F Affine(int64_t j) const {
    const F c = RoundedC(j);
    const bool weighted = call_.weight_type != Type::kNone;
    if (call_.bias_type == Type::kNone) return weighted ? c * Weight(j) : c;
    const F b = LoadScalar<F>(call_.bias, call_.bias_type, first_ + j);
    return weighted ? std::fma(c, Weight(j), b) : c + b;
  }
  F BeforeGate(int64_t j) const { return RoundTo(Affine(j), call_.gated_type); }
  // silu or sigmoid of the gate, and its derivative; defined for f32 alone.
  F GateFactor(int64_t j) const {
    const float z = static_cast<float>(Load(kGate, j));
    return static_cast<F>(call_.gate_function == GateFunction::kSilu ? Silu(z) : Sigmoid(z));
  }
  F AfterRotation(int64_t j) const {
    if (holds_) return held_[static_cast<size_t>(j)];
    return Rotated<F>(call_.rope, row_, j, false, [&](int64_t i) { return RoundTo(Affine(i), call_.rope.rounded_to); });
  }
  // What leaves the norm and its gate or rotation; where it is quantised, perhaps rounded first.
  F Output(int64_t j) const {
    const F t = call_.gate == Gate::kAfter ? BeforeGate(j) * GateFactor(j) : call_.rope.on ? AfterRotation(j) : Affine(j);
    return RoundTo(t, call_.quantizer.rounded_to);
  }
  // dy as it reaches the output of weight and bias.
  F Upstream(int64_t j) const {
    if (call_.gate == Gate::kAfter) return Load(kDy, j) * GateFactor(j);
    if (!call_.rope.on) return Load(kDy, j);
    if (holds_) return held_[static_cast<size_t>(j)];
    return Rotated<F>(call_.rope, row_, j, true, [&](int64_t i) { return Load(kDy, i); });
  }
  // Rotation looks at two columns, one of which may lie under an output that is written before the other is asked for. So here,
  // and here alone, values are kept: those of the head.
  void HoldRotated(bool backward) {
    if (!call_.rope.on) return;
    for (int64_t j = 0; j < n_; ++j) held_[static_cast<size_t>(j)] = backward ? Upstream(j) : AfterRotation(j);
    holds_ = true;
  }
  F GateSlope(int64_t j) const {
    const float z = static_cast<float>(Load(kGate, j));
    return static_cast<F>(call_.gate_function == GateFunction::kSilu ? SiluSlope(z) : SigmoidSlope(z));
  }

 private:
  // Dot products and plain sums end on +0, so that a lane which adds 0 cannot show.
  F ComputeSums() {
    if (call_.layer) mean_ = Mean(SumOfValues() + F(0), call_.counted());
    F shift = 0;
    const F squares = SumOfSquares(&shift);
    if (call_.layer) shift_ = Mean(shift + F(0), call_.counted());
    return squares;
  }

  void TakeStatistic(const RowStatistic<F>& known) {
    if (known.scaled()) ScaleBy(known.largest);
    if (call_.layer) {
      mean_ = MeanOf(call_, known);
      shift_ = Mean(known.shift, call_.counted());
    }
    FinishStatistic(known.squares, known.scaled());
  }

  void FinishStatistic(F squares, bool scaled) {
    const F eps = static_cast<F>(call_.eps);
    F& m = m_;
    m = Mean(squares, call_.counted());
    if (call_.layer) {
      m = std::fma(-shift_, shift_, m);
      if (m < 0) m = 0;
      if (scaled && m == 0 && eps > 0) {  // a constant row: nothing is left to scale
        constant_ = true;
        scaled = false;
        exponent_ = 0;
      }
    }
    if (!scaled) {
      q_ = std::sqrt(m);
      r_ = call_.eps_outside ? F(1) / (q_ + eps) : InvSqrt(m + eps);
    } else {
      const double wide_eps = std::ldexp(static_cast<double>(eps), call_.eps_outside ? -exponent_ : -2 * exponent_);
      q_ = static_cast<F>(std::sqrt(static_cast<double>(m)));
      r_ = call_.eps_outside ? static_cast<F>(1.0 / (static_cast<double>(q_) + wide_eps))
                             : static_cast<F>(1.0 / std::sqrt(static_cast<double>(m) + wide_eps));
    }
  }

  const Call& call_;
  const int64_t row_, first_, n_;
  int64_t group_;
  bool holds_ = false;
  std::array<F, kMaxHead> held_ = {};
  char* data_[kRowTensors];
  int exponent_ = 0;        // of the largest value, where the group is scaled
  bool constant_ = false;   // a scaled LayerNorm group of equal values
  F mean_ = 0, shift_ = 0;  // LayerNorm: the rounded mean, and what its rounding left over
  F m_ = 0, q_ = 0, r_ = 0;
};

}  // namespace isonorm::reference
