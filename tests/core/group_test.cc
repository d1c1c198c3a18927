// Groups on the tuned loops, to which each is a row of its own, and what they leave to the general path.
#include <gtest/gtest.h>

#include <utility>

#include "run.h"

namespace core_test {
namespace {

constexpr int64_t kLeastGroup = 64;  // columns of a group that tuned loops take

class GroupTest : public testing::TestWithParam<std::string> {
 protected:
  // Both directions, with outputs over inputs now and then, else with rows apart.
  static void Check(const Problem& p) {
    const Expected expected = Reference(p);
    const ScopedTarget target(GetParam());
    How how;
    if (p.seed % 3 == 0) {
      how.layout.place[kY].over = how.layout.place[kDx].over = kX;
    } else {
      how.layout.place[kX].strides = how.layout.place[kY].strides = how.layout.place[kDx].strides = {p.cols + 5};
      how.layout.place[kY].offset = how.layout.place[kDx].offset = static_cast<int>(p.seed % 7);
    }
    const Problem forward = ForwardOf(p);
    Same(forward, expected.forward, Compute(forward, expected.inputs, how), "groups");
    ExpectTuned(p);
    const Problem backward = BackwardOf(p, p.seed % 2 == 0 ? Rstd::kSaved : Rstd::kRecomputed);
    Same(backward, expected.backward, Compute(backward, expected.inputs, how), "groups, backward");
    if (!p.has(kResidual)) ExpectTuned(p);
  }

 private:
  static void ExpectTuned(const Problem& p) {
    const std::string kernel = isonorm_last_kernel();
    if (p.rows == 0) return;
    const bool tuned = HasTunedLoops(GetParam()) && p.cols / p.groups >= kLeastGroup;
    EXPECT_EQ(kernel.find(".any.any.any.any.any") == std::string::npos, tuned) << kernel << ": " << ToString(p);
  }
};

// One of the calls that have loops: x alone, with a residual, with a gate before or after the norm.
Problem Grouped(Type type, int64_t rows, int64_t groups, int64_t width, uint64_t seed) {
  Problem p = Simple(type, rows, groups * width);
  p.groups = groups;
  p.seed = seed;
  p.odd = seed % 5 == 0 ? (1u << kX) | (1u << kDy) : seed % 5 == 1 ? 1u << kWeight : 0;
  if (seed % 4 == 1) p.type[kResidual] = type;
  if (seed % 4 >= 2) {
    p.type[kGate] = type;
    p.contract.gate_place = seed % 4 == 2 ? ISONORM_GATE_BEFORE : ISONORM_GATE_AFTER;
    p.contract.gate_function = ISONORM_GATE_SILU;
  }
  p.contract.weight_offset = seed % 7 == 0 ? 1 : 0;
  return p;
}

TEST_P(GroupTest, SizesAndParts) {
  uint64_t seed = 1;
  for (const Type type : {Type::kF32, Type::kBf16, Type::kF16}) {
    for (const int64_t width : {1, 63, 64, 65, 96, 127, 320, 1024}) {
      for (const auto& [groups, rows] : {std::pair<int64_t, int64_t>{2, 33}, {3, 1}, {8, 5}, {5, 67}, {2, 0}}) {
        if (groups * width * rows > 100'000) continue;
        for (int turn = 0; turn < 4; ++turn) Check(Grouped(type, rows, groups, width, seed++));
      }
    }
  }
}

// A weight of which each group has its part elsewhere, or all have the same: what lies between or behind is never read.
TEST_P(GroupTest, WeightOfGroupsAnywhere) {
  const ScopedTarget target(GetParam());
  constexpr int64_t kGroups = 3, kRows = 17;
  for (const Type type : {Type::kF32, Type::kBf16, Type::kF16}) {
    for (const int64_t width : {40, 64, 200}) {
      const Problem p = Grouped(type, kRows, kGroups, width, 8);
      const Values inputs = MakeInputs(p);
      const size_t group_bytes = static_cast<size_t>(width) * SizeOf(type);
      for (const int64_t stride : {int64_t{0}, width + 9, -(width + 9)}) {
        for (const Guard guard : {Guard::kPageBehind, Guard::kPageInFront}) {
          Bytes parts(inputs[kWeight]);
          if (stride == 0) {
            for (size_t i = group_bytes; i < parts.size(); ++i) parts[i] = parts[i - group_bytes];
          }
          Values compact = inputs;
          compact[kWeight] = parts;
          const Expected expected = Reference(p, compact);
          Memory x({kRows, p.cols}, {}, type), y({kRows, p.cols}, {}, type);
          Memory weight({kGroups, width}, {stride, 1}, type, 0, guard);
          x.Fill(compact[kX]);
          weight.Fill(parts);
          isonorm_forward_args args = {};
          args.struct_size = sizeof(args);
          args.x = x.tensor();
          args.weight = weight.tensor();
          args.y = y.tensor();
          args.groups = kGroups;
          ASSERT_EQ(isonorm_forward(&p.contract, p.eps, &args), ISONORM_OK) << isonorm_last_error();
          EXPECT_EQ(y.Compact(), expected.forward[kY]) << "stride " << stride << ": " << ToString(p);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Target, GroupTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
