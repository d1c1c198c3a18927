// Every header of src/numbers as device code: the test is that nvcc compiles this file. What is called here is what device code may
// call; tests/package/CMakeLists.txt adds the include lines, and once a header that must fail.
#include "all_numbers.h"

#include <cstdint>

namespace isonorm {
namespace {

template <class F>
struct Row {
  const void* data;
  Type type;
  int64_t cols;

  ISONORM_HD F Scaled(int64_t j, int exponent) const { return std::ldexp(LoadScalar<F>(data, type, j), -exponent); }
  template <class Step>
  ISONORM_HD F Sum(Step step) const {
    const Leaves leaves = LeavesOfShard(cols, MaxRanks(cols));
    LeafTree<F> tree;
    for (int64_t leaf = 0; leaf < leaves.count(); ++leaf) {
      F lane[kLanes] = {};
      for (int64_t j = leaves.begin(leaf); j < leaves.begin(leaf + 1); ++j) lane[j % kLanes] = step(lane[j % kLanes], j);
      tree.Push(lane[0]);
    }
    return tree.Total();
  }
  ISONORM_HD F SumOfValues(int exponent, F mean) const {
    return Sum([&](F a, int64_t j) { return a + (Scaled(j, exponent) - mean); });
  }
  ISONORM_HD F SumOfSquares(int exponent, F mean, F* shift) const {
    if (shift != nullptr) *shift = SumOfValues(exponent, mean);
    return Sum([&](F a, int64_t j) { return std::fma(Scaled(j, exponent), Scaled(j, exponent) - mean, a); });
  }
  ISONORM_HD F LargestOrInfinity() const { return CanonicalOrSame(Scaled(0, 0)); }
};

template <class F>
__global__ void Statistics(const Norm norm, const Shard shard, const Row<F> row, F* out) {
  const int64_t index = blockIdx.x;
  const RowStatistic<F> sums = index % 2 == 0 ? norm.Accumulate<F>(row) : shard.SumsOf<F>(index);
  shard.StoreSums(sums, index);
  WritePartial<F>(shard, norm, index, row);
  RowNorm<F> known = norm.Finish(sums);
  if (norm.Restore(known.r, known.saved_mean, row, &known)) out[index] = known.r;
  const F f = norm.Factor(shard.Total<F>(index, 0), known.q, known.r);
  out[index] = norm.Takes(out[index]) ? f : known.C(f) + (norm.centres() ? CanonicalNaN<F>() : F(0)) + SoonerInvSqrt(1.0f);
}

template <class F>
__global__ void Elements(GateFunction function, Type type, const Rope rope, const Quantizer quantizer, void* data, char* scales) {
  const int64_t j = threadIdx.x;
  const F v = LoadScalar<F>(data, type, j);
  const auto z = static_cast<float>(v);
  const F gated = v * static_cast<F>(GateOf(function, z) + GateSlopeOf(function, z));
  const F turned = Rotated<F>(rope, 0, j, false, [&](int64_t i) { return LoadScalar<F>(data, type, i); });
  StoreScalar(RoundTo(gated + turned, type), data, type, j);
  const BlockScale scale = ScaleOf(quantizer, type, z);
  StoreScale(quantizer, scale, scales, j);
  StoreAt(Quantize(z * scale.multiplier, type), scales, j + static_cast<int64_t>(SizeOf(type)));
}

template __global__ void Statistics<float>(Norm, Shard, Row<float>, float*);
template __global__ void Statistics<double>(Norm, Shard, Row<double>, double*);
template __global__ void Elements<float>(GateFunction, Type, Rope, Quantizer, void*, char*);
template __global__ void Elements<double>(GateFunction, Type, Rope, Quantizer, void*, char*);

}  // namespace
}  // namespace isonorm
