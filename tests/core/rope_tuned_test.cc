// The loops of their own that heads of a multiple of 64 columns have, and what they leave to the general path.
#include <gtest/gtest.h>

#include <array>

#include "run.h"

namespace core_test {
namespace {

class TunedRopeTest : public testing::TestWithParam<std::string> {};

constexpr std::array<int32_t, 2> kStyles = {ISONORM_ROPE_HALF, ISONORM_ROPE_INTERLEAVED};

// Every rounding, table and style, rows and tables that are odd, any strides.
TEST_P(TunedRopeTest, TunedHeads) {
  const ScopedTarget target(GetParam());
  uint64_t seed = 1;
  for (const Type type : {Type::kF32, Type::kBf16, Type::kF16}) {
    for (const int64_t cols : {64, 128, 192, 256, 512}) {
      for (const int32_t style : kStyles) {
        for (const int64_t rows : {1, 5, 16, 17, 61}) {
          for (int turn = 0; turn < 6; ++turn, ++seed) {
            Problem p = Simple(type, rows, cols);
            p.contract.scaled_rounding = turn % 3 == 0 ? ISONORM_ROUND_TO_X : ISONORM_ROUND_NONE;
            p.contract.weight_offset = turn == 5 ? 1 : 0;
            p.eps = turn == 4 ? 0 : 1e-6;
            p.seed = seed;
            Rotate(seed, &p);
            p.contract.rotation_rounding = turn % 3 != 2 ? ISONORM_ROUND_TO_X : ISONORM_ROUND_NONE;
            p.rotation.style = style;
            p.rotation.half = cols / 2;
            p.type[kCos] = p.type[kSin] = turn % 2 == 0 ? Type::kF32 : type;
            p.odd = seed % 5 == 0 ? 1u << kX : seed % 5 == 1 ? 1u << kWeight : seed % 5 == 2 ? (1u << kX) | (1u << kWeight) : 0;
            const Expected expected = Reference(p);
            const Problem forward = ForwardOf(p);
            How how;
            how.layout.place[kY].offset = static_cast<int>(seed % 3);
            if (seed % 4 == 0) how.layout.place[kX].strides = how.layout.place[kY].strides = {cols + 64};
            Same(forward, expected.forward, Compute(forward, expected.inputs, how), "tuned heads");
            EXPECT_EQ(std::string(isonorm_last_kernel()).find(".plain.rope.") != std::string::npos, HasTunedLoops(GetParam()))
                << ToString(p);
            how.layout.place[kY] = {};
            how.layout.place[kY].over = kX;
            Same(forward, expected.forward, Compute(forward, expected.inputs, how), "tuned heads in place");
          }
        }
      }
    }
  }
}

// Weights and angles beyond what the tuned loops look for: large ones, whose sums are infinities less infinities.
TEST_P(TunedRopeTest, LargeWeightsAndAngles) {
  const ScopedTarget target(GetParam());
  for (const Type type : {Type::kF32, Type::kBf16, Type::kF16}) {
    for (const int32_t style : kStyles) {
      for (int turn = 0; turn < 4; ++turn) {
        Problem p = Simple(type, 20, 128);
        Rotate(7, &p);
        p.rotation = {style, 64, 40};
        p.type[kCos] = p.type[kSin] = turn % 2 == 0 ? Type::kF32 : type;
        p.contract.rotation_rounding = ISONORM_ROUND_TO_X;
        Values inputs = MakeInputs(p);
        const double large = type == Type::kF16 ? 60000 : 3e38;
        for (int64_t i = 0; i < 128; i += 5) {
          isonorm_cli::Store(i % 2 == 0 ? large : -large, type, &inputs[kWeight][static_cast<size_t>(i) * SizeOf(type)]);
        }
        if (turn >= 2) {
          inputs = MakeInputs(p);
          const Type table = p.type[kCos];
          const double most = table == Type::kF16 ? 60000 : 3e38;
          for (int64_t i = 0; i < 64 * 40; i += 1000) {
            isonorm_cli::Store(most, table, &inputs[kCos][static_cast<size_t>(i) * SizeOf(table)]);
            isonorm_cli::Store(-most, table, &inputs[kSin][static_cast<size_t>(i) * SizeOf(table)]);
          }
        }
        const Expected expected = Reference(p, inputs);
        Same(ForwardOf(p), expected.forward, Compute(ForwardOf(p), expected.inputs), "large");
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Target, TunedRopeTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
