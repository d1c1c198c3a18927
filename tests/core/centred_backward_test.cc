// The loops of their own that LayerNorm has backward, and what they leave to the general path.
#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "executors.h"
#include "run.h"

namespace core_test {
namespace {

constexpr std::array<Type, 3> kTypes = {Type::kF32, Type::kBf16, Type::kF16};

// Compares backward with the reference, and requires that its own loop ran where there is one. Statistics are saved in each
// type or not at all, dx lies anywhere, over an input too, and outputs are missing once in a while.
class LayerNormTunedTest : public testing::TestWithParam<std::string> {
 protected:
  static void Check(const Problem& p, const Values& inputs_of_forward, const isonorm_executor* executor = nullptr) {
    const Expected expected = Reference(p, inputs_of_forward);
    const uint64_t turn = p.seed;
    Problem backward = BackwardOf(p, turn % 4 == 0 ? Rstd::kRecomputed : Rstd::kSaved);
    Values inputs = expected.inputs;
    if (turn % 4 > 1) SaveIn(kTypes[turn % 4 - 1], &backward, &inputs);
    for (const Slot slot : {kDx, kDweight, kDbias}) {
      if (turn % 11 == static_cast<uint64_t>(slot) % 11) backward.type[slot] = Type::kNone;
    }
    if (turn % 13 == 0) backward.type[kDweight] = backward.type[kDbias] = Type::kNone;
    if (turn % 17 == 0) backward.type[kDx] = backward.type[kDbias] = Type::kNone;
    if (!backward.has(kDx) && !backward.has(kDweight) && !backward.has(kDbias)) backward.type[kDx] = p.type[kX];
    How how;
    how.executor = executor;
    if (turn % 3 == 0) how.layout.place[kDx].over = turn % 2 == 0 ? kX : kDy;
    how.layout.place[kDx].offset = static_cast<int>(turn % 19);
    how.layout.place[kX].strides = {p.cols + static_cast<int64_t>(turn % 5)};
    how.layout.place[kDweight].offset = static_cast<int>(turn % 3);
    const auto gradients = [&](const std::string& target) {
      const ScopedTarget scope(target);
      return Compute(backward, inputs, how);
    };
    const Values wanted = gradients("reference");
    Same(backward, wanted, gradients(GetParam()), "LayerNorm, backward");
    const ScopedTarget scope(GetParam());
    Compute(backward, inputs, how);
    const std::string kernel = isonorm_last_kernel();
    const bool converts = p.type[kWeight] != Type::kF32 || p.type[kX] == Type::kBf16 || p.contract.weight_offset != 0;
    EXPECT_EQ(kernel.starts_with("backward.centred.cast."), HasTunedLoops(GetParam()) && (!converts || p.cols <= 8192))
        << kernel << ": " << ToString(p);
  }
  static void Check(const Problem& p) { Check(p, MakeInputs(p)); }

 private:
  static void SaveIn(Type type, Problem* backward, Values* inputs) {
    for (const Slot slot : {kRstd, kMean}) {
      backward->type[slot] = type;
      Bytes narrow((*inputs)[slot].size() / 2);
      for (size_t i = 0; i < narrow.size() / 2; ++i) {
        float value;
        std::memcpy(&value, &(*inputs)[slot][i * sizeof(value)], sizeof(value));
        isonorm_cli::Store(static_cast<double>(value), type, &narrow[i * 2]);
      }
      (*inputs)[slot] = narrow;
    }
  }
};

Problem Layer(Type type, int64_t rows, int64_t cols, uint64_t seed) {
  constexpr std::array<Type, 4> kWeights = {Type::kF32, Type::kBf16, Type::kF16, Type::kNone};
  Problem p = Simple(type, rows, cols);
  p.seed = seed;
  p.contract.statistic = ISONORM_STATISTIC_LAYER;
  if (seed % 5 < 4) p.type[kWeight] = kWeights[seed % 5];
  p.type[kBias] = kTypes[seed % 3];
  p.contract.scaled_rounding = seed % 3 == 0 ? ISONORM_ROUND_TO_X : ISONORM_ROUND_NONE;
  p.contract.weight_offset = seed % 7 == 0 ? 1 : 0;
  p.contract.eps_place = seed % 13 == 0 ? ISONORM_EPS_OUTSIDE : ISONORM_EPS_INSIDE;
  p.eps = 1e-5;
  return p;
}

TEST_P(LayerNormTunedTest, Widths) {
  uint64_t seed = 1;
  for (const Type type : kTypes) {
    for (const int64_t cols :
         {1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 320, 1000, 2880, 4096, 8191, 8192, 8193}) {
      for (int turn = 0; turn < 6; ++turn, ++seed) {
        Problem p = Layer(type, 1 + static_cast<int64_t>(seed % 4), cols, seed);
        p.odd = seed % 4 == 0 ? (1u << kX) | (1u << kDy) : seed % 4 == 1 ? 1u << kWeight : 0;
        Check(p);
      }
    }
  }
}

// Rows that the general path takes lie among others, and sums over rows go on behind them.
TEST_P(LayerNormTunedTest, Rows) {
  uint64_t seed = 1;
  for (const Type type : kTypes) {
    for (const int64_t rows : {1, 2, 3, 31, 32, 33, 67, 131}) {
      for (int turn = 0; turn < 12; ++turn, ++seed) {
        Problem p = Layer(type, rows, 40 + static_cast<int64_t>(seed % 90), seed);
        p.odd = seed % 3 == 0 ? (1u << kX) | (1u << kDy) : seed % 3 == 1 ? 1u << kX : 0;
        Check(p);
      }
    }
  }
}

// Large means, constant rows, rows that are scaled, zeros and infinities; with an eps that hides what is wrong, and without.
TEST_P(LayerNormTunedTest, KindsOfData) {
  uint64_t seed = 1;
  for (const Type type : kTypes) {
    for (int kind = 0; kind < isonorm_cli::kDataKinds; ++kind) {
      if (static_cast<DataKind>(kind) == DataKind::kFar) continue;
      for (const double eps : {1e-5, 0.0, 1e-37, 0.5}) {
        for (const int64_t cols : {24, 137, 513}) {
          Problem p = Layer(type, 5, cols, seed++);
          p.kind = static_cast<DataKind>(kind);
          p.eps = eps;
          Check(p);
        }
      }
    }
  }
}

// Each row has a mean of its own, up to many times its deviation and to where squares of means overflow.
TEST_P(LayerNormTunedTest, Means) {
  uint64_t seed = 1;
  for (const double mean : {1e3, 9e4, 1e9, 1e20, 7e28, 9e28, 3e38}) {
    for (const int64_t cols : {29, 256, 1100}) {
      for (int turn = 0; turn < 8; ++turn, ++seed) {
        const Problem p = Layer(Type::kF32, 7, cols, seed);
        Values inputs = MakeInputs(p);
        for (size_t i = 0; i < inputs[kX].size() / sizeof(float); ++i) {
          float value;
          uint8_t* const at = &inputs[kX][i * sizeof(value)];
          std::memcpy(&value, at, sizeof(value));
          const size_t row = i / static_cast<size_t>(cols);
          const double shift = row % 3 == 0 ? mean : row % 3 == 1 ? -mean / 7 : 0;
          isonorm_cli::Store(static_cast<double>(value) * (row % 2 == 0 ? 1 : mean / 50) + shift, Type::kF32, at);
        }
        Check(p, inputs);
      }
    }
  }
}

// dy so large that its sums are infinite in one half of the row and infinite the other way in the other. In a constant row no
// dot product shows that.
TEST_P(LayerNormTunedTest, SumOfDyThatIsNaN) {
  for (const Type type : {Type::kF32, Type::kBf16}) {
    for (uint64_t seed = 1; seed <= 24; ++seed) {
      constexpr size_t kCols = 256;
      Problem p = Layer(type, 5, kCols, seed);
      p.type[kWeight] = Type::kNone;
      Values inputs = MakeInputs(p);
      for (size_t i = 0; i < 5 * kCols; ++i) {
        if (i / kCols % 3 == 0) isonorm_cli::Store(7, type, &inputs[kX][i * SizeOf(type)]);
        if (i / kCols % 2 == 0) isonorm_cli::Store(i % kCols < kCols / 2 ? 3e38 : -3e38, type, &inputs[kDy][i * SizeOf(type)]);
      }
      Check(p, inputs);
    }
  }
}

TEST_P(LayerNormTunedTest, OnThreads) {
  uint64_t seed = 1;
  for (const Type type : kTypes) {
    for (const int64_t rows : {33, 160, 300}) {
      for (int turn = 0; turn < 4; ++turn, ++seed) {
        Problem p = Layer(type, rows, 72, seed);
        p.odd = turn == 3 ? 1u << kX : 0;
        NewThreads threads(3);
        Check(p, MakeInputs(p), threads.executor());
        EXPECT_GT(threads.largest(), 1);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Target, LayerNormTunedTest, testing::ValuesIn(OtherTargets()),
                         [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
