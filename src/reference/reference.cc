#include "reference/reference.h"

#include "numbers/quantize.h"
#include "reference/row.h"

namespace isonorm {
namespace {

using reference::Group;
using reference::PlainSum;
using reference::Sum;

// The largest finite magnitude of outputs [begin, end) of a group; 0 if there is none.
template <class F>
float Amax(const Group<F>& group, int64_t begin, int64_t end) {
  float amax = 0;
  for (int64_t j = begin; j < end; ++j) {
    const float v = std::fabs(static_cast<float>(group.Output(j)));
    if (std::isfinite(v)) amax = std::max(amax, v);
  }
  return amax;
}

template <class F>
void Forward(const Call& call, const Run& run, const ColumnSums&) {
  const Quantizer& quantizer = call.quantizer;
  for (int64_t row = 0; row < run.count; ++row) {
    float multiplier = quantizer.multiplier, amax = 0;
    char* const scales = run.data[kScale] == nullptr ? nullptr : run.data[kScale] + row * run.stride[kScale];
    const bool one_scale = quantizer.dynamic && quantizer.scale_cols == call.cols;
    for (int64_t g = 0; g < call.groups && one_scale; ++g) {
      Group<F> group(call, run, row, g);
      group.ComputeStatistic();
      amax = std::max(amax, Amax(group, 0, call.group_cols));
    }
    for (int64_t g = 0; g < call.groups; ++g) {
      Group<F> group(call, run, row, g);
      group.ComputeStatistic();
      if (group.has(kRstd)) group.StorePerGroup(kRstd, group.rstd());
      if (group.has(kMean)) group.StorePerGroup(kMean, group.norm().saved_mean);
      if (group.has(kY)) group.HoldRotated(false);
      for (int64_t j = 0; j < call.group_cols; ++j) {
        const int64_t column = group.column(j);
        if (quantizer.dynamic && column % quantizer.scale_cols == 0) {
          if (!one_scale) amax = Amax(group, j, j + quantizer.scale_cols);
          const BlockScale scale = ScaleOf(quantizer, call.type[kY], amax);
          multiplier = scale.multiplier;
          StoreScale(quantizer, scale, scales, column / quantizer.scale_cols);
        }
        const F y = group.has(kY) ? group.Output(j) : F(0);
        // The sum may lie over an input, so it is stored after everything at this place was read.
        const F sum = group.has(kResidualOut) ? group.Source(j) : F(0);
        if (group.has(kResidualOut)) group.Store(kResidualOut, j, sum);
        if (!group.has(kY)) continue;
        if (quantizer.on) {
          group.StoreByte(kY, j, Quantize(static_cast<float>(y) * multiplier, call.type[kY]));
        } else {
          group.Store(kY, j, y);
        }
      }
    }
  }
}

// g = dy * weight, of dy as it reaches the norm's output.
template <class F>
F G(const Call& call, const Group<F>& group, int64_t j) {
  const F dy = group.Upstream(j);
  return call.weight_type != Type::kNone ? dy * group.Weight(j) : dy;
}

template <class F>
F DotOfGroup(const Call& call, const Group<F>& group) {
  return Sum<F>(call.group_cols, call.ranks, [&](F a, int64_t j) { return std::fma(G(call, group, j), group.C(j), a); });
}
template <class F>
F SumOfG(const Call& call, const Group<F>& group) {
  return PlainSum<F>(call.group_cols, call.ranks, [&](int64_t j) { return G(call, group, j); });
}

template <class F>
void BackwardGroup(const Call& call, Group<F>& group, const ColumnSums& sums) {
  group.UseSavedOrCompute();
  const int64_t n = call.group_cols;
  group.HoldRotated(true);
  const auto upstream = [&](int64_t j) { return group.Upstream(j); };
  const auto g = [&](int64_t j) { return G(call, group, j); };
  const RowNorm<F>& norm = group.norm();
  F dot = 0, sum_g = 0;
  if (call.shard == nullptr) {
    dot = DotOfGroup(call, group);
    if (call.norm.centres()) sum_g = SumOfG(call, group);
  } else if (group.has(kDx) || group.has(kDgate)) {
    dot = call.shard->Total<F>(group.row(), 0);
    if (call.norm.centres()) sum_g = call.shard->Total<F>(group.row(), 1);
  }
  const F f = call.norm.Factor(dot, norm.q, norm.r);
  const F mean_g = Mean(sum_g + F(0), call.norm.count);  // of RMS 0, which changes no bit
  for (int64_t j = 0; j < n; ++j) {
    const int64_t column = group.column(j);
    const F base = g(j) - mean_g;
    F v = norm.r * (j < call.window ? std::fma(-group.C(j), f, base) : base);
    v = std::ldexp(v, -norm.exponent);
    if (sums.dweight != nullptr) {
      F& sum = static_cast<F*>(sums.dweight)[column];
      sum = std::fma(upstream(j), group.RoundedC(j), sum);
    }
    if (sums.dbias != nullptr) {
      F& sum = static_cast<F*>(sums.dbias)[column];
      sum = sum + upstream(j);
    }
    F dz = 0;
    if (call.gate == Gate::kAfter) {
      const F through = group.Load(kDy, j) * group.BeforeGate(j);
      dz = through * group.GateSlope(j);
    } else if (call.gate == Gate::kBefore) {
      const F through = v * group.Load(kX, j);
      dz = through * group.GateSlope(j);
      v = v * group.GateFactor(j);
    }
    if (group.has(kDresidual)) v = v + group.Load(kDresidual, j);
    // dx and dgate may lie over inputs: both are stored after everything at this place was read.
    if (group.has(kDgate)) group.Store(kDgate, j, dz);
    if (group.has(kDx)) group.Store(kDx, j, v);
  }
}

template <class F>
void Backward(const Call& call, const Run& run, const ColumnSums& sums) {
  for (int64_t row = 0; row < run.count; ++row) {
    for (int64_t g = 0; g < call.groups; ++g) {
      Group<F> group(call, run, row, g);
      BackwardGroup(call, group, sums);
    }
  }
}

// ------------------------------------------------------------------------------------------- rows that several ranks share

template <class F>
void ForwardPartial(const Call& call, const Run& run, const ColumnSums&) {
  for (int64_t row = 0; row < run.count; ++row) {
    Group<F> group(call, run, row, 0);
    WritePartial<F>(*call.shard, call.norm, group.row(), group);
  }
}

template <class F>
void BackwardPartial(const Call& call, const Run& run, const ColumnSums&) {
  for (int64_t row = 0; row < run.count; ++row) {
    Group<F> group(call, run, row, 0);
    group.ComputeStatistic();
    call.shard->StorePartial(group.row(), DotOfGroup(call, group), call.norm.centres() ? SumOfG(call, group) : F(0));
  }
}

// ---------------------------------------------------------------------- RMS of vectors: the same statistic with eps 0

template <class F>
void Rms(const Call& call, const Run& run, const ColumnSums&) {
  for (int64_t row = 0; row < run.count; ++row) {
    Group<F> group(call, run, row, 0);
    group.ComputeStatistic();
    group.StorePerGroup(kPerRow, std::ldexp(group.norm().q, group.norm().exponent));
  }
}

template <class F>
void RmsBackward(const Call& call, const Run& run, const ColumnSums&) {
  for (int64_t row = 0; row < run.count; ++row) {
    Group<F> group(call, run, row, 0);
    group.ComputeStatistic();
    const F share = Mean(group.PerGroup(kPerRow), call.cols);
    const bool zero = group.norm().q == 0;
    for (int64_t j = 0; j < call.cols; ++j) group.Store(kDx, j, zero ? F(0) : share * group.C(j));
  }
}

template <class F>
void RmsPenalty(const Call& call, const Run& run, const ColumnSums&) {
  const F slope = static_cast<F>(2 * call.lambda / static_cast<double>(call.cols));
  for (int64_t row = 0; row < run.count; ++row) {
    Group<F> group(call, run, row, 0);
    if (group.has(kPerRow)) {
      group.ComputeStatistic();
      const RowNorm<F>& norm = group.norm();
      group.StorePerGroup(kPerRow,
                          static_cast<F>(std::ldexp(call.lambda * static_cast<double>(norm.mean_square), 2 * norm.exponent)));
    }
    if (!group.has(kDx)) continue;
    for (int64_t j = 0; j < call.cols; ++j) {
      const F v = slope * group.Load(kX, j);
      group.Store(kDx, j, call.accumulates_rows ? group.Load(kDx, j) + v : v);
    }
  }
}

bool AllFinite(const void* data, Type type, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(LoadScalar<double>(data, type, i))) return false;
  }
  return true;
}

}  // namespace

const Target& ReferenceTarget() {
  static const Target target = [] {
    Target t{};
    t.name = "reference";
    t.kernels[k_forward_any_any_any_any_any] = Forward<float>;
    t.kernels[k_forward_any_any_f64_f64_f64] = Forward<double>;
    t.kernels[k_backward_any_any_any_any_any] = Backward<float>;
    t.kernels[k_backward_any_any_f64_f64_f64] = Backward<double>;
    t.kernels[k_forward_partial_any_sum_any_none_f32] = ForwardPartial<float>;
    t.kernels[k_forward_partial_any_sum_f64_none_f64] = ForwardPartial<double>;
    t.kernels[k_backward_partial_any_sum_any_any_f32] = BackwardPartial<float>;
    t.kernels[k_backward_partial_any_sum_f64_f64_f64] = BackwardPartial<double>;
    t.kernels[k_rms_plain_rms_any_none_f32] = Rms<float>;
    t.kernels[k_rms_plain_rms_f64_none_f64] = Rms<double>;
    t.kernels[k_rms_backward_plain_cast_any_none_any] = RmsBackward<float>;
    t.kernels[k_rms_backward_plain_cast_f64_none_f64] = RmsBackward<double>;
    t.kernels[k_rms_penalty_plain_cast_any_none_any] = RmsPenalty<float>;
    t.kernels[k_rms_penalty_plain_cast_f64_none_f64] = RmsPenalty<double>;
    reference::AddDoubleBackward(t);
    t.all_finite = AllFinite;
    return t;
  }();
  return target;
}

}  // namespace isonorm
