// The general forward kernel: every variant, every combination of types, part by part. What nobody tuned runs here, with the
// same roundings as everywhere.
#if defined(ISONORM_CPU_GENERAL_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_GENERAL_FORWARD_INL_H_
#undef ISONORM_CPU_GENERAL_FORWARD_INL_H_
#else
#define ISONORM_CPU_GENERAL_FORWARD_INL_H_
#endif

#include "cpu/general/group-inl.h"
#include "cpu/general/quantize-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

// The source's values h of a chunk, and t, what leaves the norm and its gate or rotation.
template <class F>
HWY_INLINE void LoadOutput(const Call& call, const Group<F>& group, int64_t j, size_t n, Chunk<F>& h, Chunk<F>& t) {
  group.LoadSource(j, n, h);
  t = h;
  group.SourceToC(n, t);
  group.CToAffine(j, n, t);
  if (call.gate == Gate::kAfter) {
    Chunk<F> z;
    group.Load(kGate, j, n, z);
    TimesGate(call.gate_function, z, n, t);
  }
  if (call.rope.on) {  // a head is a single chunk
    RoundChunk(call.rope.rounded_to, n, t);
    RotateChunk<false>(call.rope, group.row(), t);
  }
  RoundChunk(call.quantizer.rounded_to, n, t);
}

// The quantised row: scales as they become known, and bytes.
class QuantizedRow {
 public:
  QuantizedRow(const Call& call, const Run& run, int64_t row)
      : call_(call),
        quantizer_(call.quantizer),
        out_(reinterpret_cast<uint8_t*>(run.data[kY] + row * run.stride[kY])),
        scales_(run.data[kScale] == nullptr ? nullptr : run.data[kScale] + row * run.stride[kScale]),
        multiplier_(call.quantizer.multiplier) {}

  bool one_scale_of_many() const { return quantizer_.dynamic && quantizer_.scale_cols == call_.cols; }

  // The scale `index` of the row is made of amax.
  void SetScale(int64_t index, float amax) {
    const BlockScale scale = ScaleOf(quantizer_, call_.type[kY], amax);
    multiplier_ = scale.multiplier;
    StoreScale(quantizer_, scale, scales_, index);
  }

  // Columns [column, column + n); with scales of groups of columns, whole ones.
  HWY_INLINE void Store(const Chunk<float>& t, int64_t column, size_t n) {
    if (!quantizer_.dynamic || one_scale_of_many()) {
      QuantizeChunk(t, 0, n, call_.type[kY], multiplier_, out_ + column);
      return;
    }
    const auto block = static_cast<size_t>(quantizer_.scale_cols);
    for (size_t i = 0; i < n; i += block) {
      const int64_t at = column + static_cast<int64_t>(i);
      SetScale(at / quantizer_.scale_cols, FiniteAmax(t.v + i, block));
      QuantizeChunk(t, i, block, call_.type[kY], multiplier_, out_ + at);
    }
  }

 private:
  const Call& call_;
  const Quantizer& quantizer_;
  uint8_t* const out_;
  char* const scales_;
  float multiplier_;
};

// Everything is read before anything is stored: outputs may lie over inputs. `quantized` is used where the call quantises.
template <class F>
HWY_INLINE void WriteGroup(const Call& call, const Group<F>& group, QuantizedRow* quantized) {
  if (group.has(kRstd)) group.StorePerGroup(kRstd, group.rstd());
  if (group.has(kMean)) group.StorePerGroup(kMean, group.norm().saved_mean);
  if (!group.has(kY) && !group.has(kResidualOut)) return;
  Chunk<F> h, t;
  ForChunks(call.group_cols, [&](int64_t j, size_t n) HWY_ATTR {
    if (group.has(kY)) {
      LoadOutput(call, group, j, n, h, t);
    } else {
      group.LoadSource(j, n, h);
    }
    if (group.has(kResidualOut)) group.Store(kResidualOut, j, n, h);
    if constexpr (sizeof(F) == 4) {
      if (quantized != nullptr) {
        quantized->Store(t, group.column(j), n);
        return;
      }
    }
    if (group.has(kY)) group.Store(kY, j, n, t);
  });
}

template <class F>
HWY_NOINLINE void ForwardGroups(const Call& call, const Run& run) {
  ForGroups<F>(call, run, [&](Group<F>& group) HWY_ATTR {
    group.ComputeStatistic();
    WriteGroup(call, group, nullptr);
  });
}

template <class F>
HWY_NOINLINE void QuantizeGroups(const Call& call, const Run& run) {
  Chunk<F> h, t;
  for (int64_t row = 0; row < run.count; ++row) {
    QuantizedRow quantized(call, run, row);
    // A scale for the whole row needs all of it first; the statistic of a row of one group serves both times.
    Group<F> first(call, run, row, 0);
    first.ComputeStatistic();
    if (quantized.one_scale_of_many()) {
      float amax = 0;
      const auto look_at = [&](const Group<F>& group) HWY_ATTR {
        ForChunks(call.group_cols, [&](int64_t j, size_t n) HWY_ATTR {
          LoadOutput(call, group, j, n, h, t);
          amax = std::max(amax, FiniteAmax(t.v, n));
        });
      };
      look_at(first);
      for (int64_t g = 1; g < call.groups; ++g) {
        Group<F> group(call, run, row, g);
        group.ComputeStatistic();
        look_at(group);
      }
      quantized.SetScale(0, amax);
    }
    WriteGroup(call, first, &quantized);
    for (int64_t g = 1; g < call.groups; ++g) {
      Group<F> group(call, run, row, g);
      group.ComputeStatistic();
      WriteGroup(call, group, &quantized);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_GENERAL_FORWARD_INL_H_
