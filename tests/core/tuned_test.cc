// What the tuned loops keep beside the rows: a weight in another form, and the sums of dweight in another order. And how
// rows leave that come from memory.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <utility>

#include "run.h"

namespace core_test {
namespace {

class TunedTest : public testing::TestWithParam<std::string> {
 protected:
  // Compares, and requires that it was this target that ran, and a tuned loop where the target has them.
  static void Check(const Problem& problem, const Values& expected, const Values& inputs, const How& how = {}) {
    Same(problem, expected, Compute(problem, inputs, how), "tuned loops");
    const std::string kernel = isonorm_last_kernel();
    EXPECT_TRUE(kernel.ends_with("@" + GetParam())) << kernel << ": " << ToString(problem);
    EXPECT_EQ(kernel.find(".plain.cast.") != std::string::npos, HasTunedLoops(GetParam()))
        << kernel << ": " << ToString(problem);
  }
};

// Around the number of rows and of columns from which on, or up to which, the weight is converted once; of bf16 only where lines
// are whole, so rows also begin beside one. Again where rows bypass the cache, by CMakeLists.txt.
TEST_P(TunedTest, WeightInAnotherForm) {
  const ScopedTarget target(GetParam());
  uint64_t seed = 1;
  for (const auto& [x, w] :
       {std::pair{Type::kF16, Type::kF16}, std::pair{Type::kBf16, Type::kBf16}, std::pair{Type::kBf16, Type::kF32}}) {
    for (const int64_t cols : {1, 32, 37, 64, 96, 128, 1000, 1024, 8191, 8192, 8193}) {
      for (const int64_t rows : {15, 16, 17, 33}) {
        for (uint64_t turn = 0; turn < 8; ++turn, ++seed) {
          if (cols > 1024 && turn != seed % 8) continue;
          Problem problem = Simple(x, rows, cols);
          problem.type[kWeight] = w;
          problem.contract.weight_offset = turn % 2 == 0 ? 0.0 : 1.0;
          problem.contract.scaled_rounding = turn < 4 ? ISONORM_ROUND_NONE : ISONORM_ROUND_TO_X;
          problem.seed = seed;
          problem.odd = seed % 5 == 0 ? 1u << kX : seed % 5 == 1 ? 1u << kWeight : 0;
          const Expected expected = Reference(problem);
          How how;
          if (turn == 1) how.layout.place[kX].offset = 1;
          if (turn == 2) how.layout.place[kY].offset = 8;
          if (turn == 3) how.layout.place[kY].strides = {cols + 32};
          if (turn == 4) how.layout.place[kY].strides = {cols + 1};
          if (turn == 5) how.layout.place[kY].over = kX;
          Check(ForwardOf(problem), expected.forward, expected.inputs, how);
        }
      }
    }
  }
}

// One weight is a NaN, an infinity or so large that sums of weights overflow, in every place of a row, and some of x is zero; a
// row that was written already lies over its x.
TEST_P(TunedTest, WeightsThatAreNotFinite) {
  const ScopedTarget target(GetParam());
  constexpr std::array<uint32_t, 8> kF32 = {0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFFC12345,
                                            0x7F800000, 0xFF800000, 0x7F7FFFFF, 0};
  constexpr std::array<uint16_t, 8> kBf16 = {0x7FFF, 0xFFFF, 0x7F81, 0xFFC1, 0x7F80, 0xFF80, 0x7F7F, 0};
  constexpr std::array<uint16_t, 8> kF16 = {0x7FFF, 0xFFFF, 0x7C01, 0xFE01, 0x7C00, 0xFC00, 0x7BFF, 0};
  uint64_t seed = 1;
  for (const auto& [x, w] :
       {std::pair{Type::kF32, Type::kF32}, std::pair{Type::kBf16, Type::kBf16}, std::pair{Type::kBf16, Type::kF32},
        std::pair{Type::kF16, Type::kF16}, std::pair{Type::kF16, Type::kF32}}) {
    for (const int64_t cols : {1, 7, 16, 33, 64, 131, 1025}) {
      for (const int64_t rows : {1, 2, 15, 16}) {
        for (size_t turn = 0; turn < 48; ++turn, ++seed) {
          Problem problem = Simple(x, rows, cols);
          problem.type[kWeight] = w;
          problem.seed = seed;
          problem.contract.weight_offset = std::array{0.0, 1.0, -0x1p126}[turn / 8 % 3];
          problem.contract.scaled_rounding = turn < 24 ? ISONORM_ROUND_NONE : ISONORM_ROUND_TO_X;
          Values inputs = MakeInputs(problem);
          const size_t size = SizeOf(x);
          for (size_t i = seed % 3; i < inputs[kX].size() / size; i += 3) std::memset(&inputs[kX][i * size], 0, size);
          for (size_t n = 0; n <= seed % 2; ++n) {
            const size_t at = Mix(seed * 2 + n) % static_cast<uint64_t>(cols), kind = (turn + n) % 8;
            const uint32_t bits = w == Type::kF32 ? kF32[kind] : w == Type::kBf16 ? kBf16[kind] : kF16[kind];
            std::memcpy(&inputs[kWeight][at * SizeOf(w)], &bits, SizeOf(w));
          }
          const Expected expected = Reference(problem, inputs);
          Problem forward = ForwardOf(problem);
          How how;
          how.layout.place[kX].offset = static_cast<int>(seed % 5);
          if (seed % 2 == 0) how.layout.place[kY].over = kX;
          Check(forward, expected.forward, expected.inputs, how);
          forward.type[kRstd] = Type::kNone;  // a usual call
          Values y = expected.forward;
          y[kRstd].clear();
          Check(forward, y, expected.inputs, how);
        }
      }
    }
  }
}

// dx begins anywhere in a line, its rows share their place there or not, and rows that need the general path come in between.
TEST_P(TunedTest, SumsOfDweight) {
  const ScopedTarget target(GetParam());
  uint64_t seed = 1;
  for (const Type type : {Type::kBf16, Type::kF16, Type::kF32}) {
    for (const int64_t cols : {20, 64, 96, 128, 131, 320}) {
      for (const int64_t rows : {1, 2, 33, 68}) {
        for (const int offset : {0, 1, 8, 17, 31}) {
          Problem problem = Simple(type, rows, cols);
          problem.seed = seed++;
          problem.odd = seed % 3 == 0 ? 0 : (1u << kX) | (1u << kDy);
          const Expected expected = Reference(problem);
          const Problem backward = BackwardOf(problem, seed % 2 == 0 ? Rstd::kSaved : Rstd::kRecomputed);
          How how;
          how.layout.place[kDx].offset = offset;
          for (const int64_t stride : {cols, (cols + 31) / 32 * 32, cols + 1}) {
            how.layout.place[kDx].strides = {stride};
            Check(backward, expected.backward, expected.inputs, how);
          }
        }
      }
    }
  }
}

// Without dx nothing tells a row with infinities from another, and the sums meet all of them.
TEST_P(TunedTest, SumsOfDweightAlone) {
  const ScopedTarget target(GetParam());
  uint64_t seed = 1;
  for (const Type type : {Type::kBf16, Type::kF16, Type::kF32}) {
    for (const int64_t cols : {20, 96, 131}) {
      for (const int64_t rows : {1, 2, 33, 68}) {
        for (int turn = 0; turn < 4; ++turn) {
          Problem problem = Simple(type, rows, cols);
          problem.seed = seed++;
          problem.odd = 1u << (turn % 2 == 0 ? kX : kDy);
          Expected expected = Reference(problem);
          Problem backward = BackwardOf(problem, turn < 2 ? Rstd::kSaved : Rstd::kRecomputed);
          backward.type[kDx] = Type::kNone;
          expected.backward[kDx].clear();
          Check(backward, expected.backward, expected.inputs);
        }
      }
    }
  }
}

// Around every length from which on some plan of src/cpu/plan.cc treats rows in another way; as they lie, an element off and in
// place. Forced to bypass the cache, under each plan, by CMakeLists.txt.
TEST_P(TunedTest, RowsOfEveryPlan) {
  const ScopedTarget target(GetParam());
  uint64_t seed = 1;
  for (const Type type : {Type::kF32, Type::kBf16, Type::kF16}) {
    for (const int64_t kilobytes_by_four : {1, 4, 8, 16, 32, 64, 96, 132}) {
      const auto cols_at = kilobytes_by_four * 256 / static_cast<int64_t>(SizeOf(type));
      for (const int64_t cols : {cols_at - 1, cols_at, cols_at + 1, cols_at + 40}) {
        Problem problem = Simple(type, 5, cols);
        problem.seed = seed++;
        const Expected expected = Reference(problem);
        const Problem forward = ForwardOf(problem), backward = BackwardOf(problem, Rstd::kSaved);
        How as_it_lies, off, over;
        off.layout.place[kY] = off.layout.place[kDx] = {.offset = 1, .strides = {cols + 3}};
        over.layout.place[kY].over = kX;
        over.layout.place[kDx].over = kDy;
        for (const How& how : {as_it_lies, off, over}) {
          Check(forward, expected.forward, expected.inputs, how);
          Check(backward, expected.backward, expected.inputs, how);
        }
      }
    }
  }
}

// Calls so large that a plan fetches their rows, or takes fewer of them at a time, though their stores are ordinary. Under the
// plan that has such calls, by CMakeLists.txt.
TEST_P(TunedTest, CallsThatAreFetched) {
  const ScopedTarget target(GetParam());
  uint64_t seed = 1;
  for (const auto& [type, cols] :
       {std::pair{Type::kF32, 64}, std::pair{Type::kF32, 128}, std::pair{Type::kF32, 131}, std::pair{Type::kF32, 256},
        std::pair{Type::kF32, 257}, std::pair{Type::kF32, 2880}, std::pair{Type::kBf16, 128}, std::pair{Type::kF16, 1025}}) {
    constexpr int64_t kBytes = (4 << 20) + 4096;
    Problem problem = Simple(type, kBytes / (2 * SizeOf(type) * cols) + 1, cols);
    problem.seed = seed++;
    problem.odd = seed % 2 == 0 ? 1u << kX : 1u << kWeight;
    const Expected expected = Reference(problem);
    How as_it_lies, off;
    off.layout.place[kY] = {.offset = 1, .strides = {cols + 3}};
    for (const How& how : {as_it_lies, off}) Check(ForwardOf(problem), expected.forward, expected.inputs, how);
  }
}

INSTANTIATE_TEST_SUITE_P(Target, TunedTest, testing::ValuesIn(OtherTargets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
