// One group of one row as the specification sees it. Nothing is stored between steps: every element is computed from the
// inputs when it is asked for, so that the code reads like the formulas and needs no memory.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "call/call.h"
#include "numbers/gate.h"
#include "numbers/order.h"
#include "numbers/rope.h"
#include "numbers/rounding.h"
#include "numbers/statistic.h"
#include "table/kernels.h"

namespace isonorm::reference {

// ------------------------------------------------------------------------------------------------ sums (numerics.md §1)

// step(a, j) folds element j into the partial sum a. Of a row that `ranks` ranks share, the subtree of the `count` elements
// here.
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

// ------------------------------------------------------------------------------------------------------------- a group

template <class F>
class Group {
 public:
  Group(const Call& call, const Run& run, int64_t row, int64_t group)
      : call_(call), row_(run.first + row), first_(group * call.group_cols), n_(call.group_cols) {
    for (int t = 0; t < kRowTensors; ++t) data_[t] = run.data[t] == nullptr ? nullptr : run.data[t] + row * run.stride[t];
    group_ = group;
  }

  F Load(RowTensor tensor, int64_t j) const {
    return LoadScalar<F>(data_[tensor], call_.type[tensor], call_.repeats(tensor) ? 0 : first_ + j);
  }
  void Store(RowTensor tensor, int64_t j, F value) const { StoreScalar(value, data_[tensor], call_.type[tensor], first_ + j); }
  void StoreByte(RowTensor tensor, int64_t j, uint8_t value) const { data_[tensor][first_ + j] = static_cast<char>(value); }
  bool has(RowTensor tensor) const { return data_[tensor] != nullptr; }
  F PerGroup(RowTensor tensor) const { return LoadScalar<F>(data_[tensor], call_.type[tensor], group_); }
  void StorePerGroup(RowTensor tensor, F value) const { StoreScalar(value, data_[tensor], call_.type[tensor], group_); }
  int64_t column(int64_t j) const { return first_ + j; }
  int64_t index() const { return group_; }  // in its row
  int64_t row() const { return row_; }      // its index in the call

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

  F Scaled(int64_t j, int exponent) const { return exponent == 0 ? Source(j) : std::ldexp(Source(j), -exponent); }

  // Steps 1 and 2, and the scaled path of §3; or from what all ranks that share the row found out together.
  void ComputeStatistic() {
    norm_ = call_.norm.Finish(call_.shard != nullptr ? call_.shard->SumsOf<F>(row_) : call_.norm.Accumulate<F>(*this));
  }

  // What the statistic is made of (Norm::Accumulate), also for ranks that share a row (WritePartial).
  F LargestOrInfinity() const {  // of the window
    F largest = 0;
    for (int64_t j = 0; j < call_.window; ++j) {
      const F h = std::fabs(Source(j));
      if (!std::isfinite(h)) return std::numeric_limits<F>::infinity();
      largest = std::max(largest, h);
    }
    return largest;
  }
  F SumOfValues(int exponent, F mean) const {
    return PlainSum<F>(n_, call_.ranks, [&](int64_t j) { return Scaled(j, exponent) - mean; });
  }
  F SumOfSquares(int exponent, F mean, F* shift) const {
    if (shift != nullptr) *shift = SumOfValues(exponent, mean);
    return Sum<F>(call_.window, call_.ranks, [&](F a, int64_t j) {
      const F d = Scaled(j, exponent) - mean;
      return std::fma(d, d, a);
    });
  }

  void UseSavedOrCompute() {
    const bool saved = has(kRstd) && (!call_.norm.centres() || has(kMean));
    const F mean = has(kMean) ? PerGroup(kMean) : F(0);
    if (!saved || !call_.norm.Restore(PerGroup(kRstd), mean, *this, &norm_)) ComputeStatistic();
  }

  const RowNorm<F>& norm() const { return norm_; }
  F rstd() const { return std::ldexp(norm_.r, -norm_.exponent); }

  // Steps 3 to 5.
  F C(int64_t j) const { return norm_.C(Scaled(j, norm_.exponent)); }
  F RoundedC(int64_t j) const { return RoundTo(C(j), call_.scaled_type); }
  F Weight(int64_t j) const {
    if (call_.weight_type == Type::kNone) return F(1);
    const F w = LoadScalar<F>(call_.weight, call_.weight_type, call_.At(kWeight, group_, j)),
            offset = static_cast<F>(call_.weight_offset);
    return offset == 0 ? w : w + offset;
  }
  F Affine(int64_t j) const {
    const F c = RoundedC(j);
    const bool weighted = call_.weight_type != Type::kNone;
    if (call_.bias_type == Type::kNone) return weighted ? c * Weight(j) : c;
    const F b = LoadScalar<F>(call_.bias, call_.bias_type, call_.At(kBias, group_, j));
    return weighted ? std::fma(c, Weight(j), b) : c + b;
  }
  F BeforeGate(int64_t j) const { return RoundTo(Affine(j), call_.gated_type); }
  // silu or sigmoid of the gate, and its derivative; defined for f32 alone.
  F GateFactor(int64_t j) const { return static_cast<F>(GateOf(call_.gate_function, static_cast<float>(Load(kGate, j)))); }
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
  F GateSlope(int64_t j) const { return static_cast<F>(GateSlopeOf(call_.gate_function, static_cast<float>(Load(kGate, j)))); }

 private:
  const Call& call_;
  const int64_t row_, first_, n_;
  int64_t group_;
  bool holds_ = false;
  std::array<F, kMaxHead> held_ = {};
  char* data_[kRowTensors];
  RowNorm<F> norm_;
};

}  // namespace isonorm::reference
