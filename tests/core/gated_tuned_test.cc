// The loops of their own that gates have, and what they leave to the general path.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "run.h"

namespace core_test {
namespace {

// Compares both directions, every other time with outputs over inputs, and requires that a loop for gates ran where there is
// one.
class TunedGateTest : public testing::TestWithParam<std::string> {
 protected:
  static void Check(const Problem& p, const Expected& expected) {
    const ScopedTarget target(GetParam());
    How how;
    if (p.seed % 2 == 0) {
      how.layout.place[kY].over = p.seed % 4 == 0 ? kX : kGate;
    } else {
      how.layout.place[kY].offset = static_cast<int>(p.seed % 7);
      how.layout.place[kX].strides = how.layout.place[kGate].strides = {p.cols + 3};
    }
    const Problem forward = ForwardOf(p);
    Same(forward, expected.forward, Compute(forward, expected.inputs, how), "gate");
    ExpectOwnLoop("forward", p);
    how = {};
    if (p.seed % 2 == 0) {
      how.layout.place[kDx].over = p.seed % 4 == 0 ? kX : kDy;
      how.layout.place[kDgate].over = p.seed % 4 == 0 ? kDy : kGate;
    } else {
      how.layout.place[kDx].offset = static_cast<int>(p.seed % 5);
    }
    Problem backward = BackwardOf(p, p.seed % 3 == 0 ? Rstd::kSaved : Rstd::kRecomputed);
    Values wanted = expected.backward;
    for (const Slot slot : {kDx, kDgate, kDweight}) {  // each is missing once in a while
      if (p.seed % 2 == 0 || p.seed % 11 != static_cast<uint64_t>(slot) % 11) continue;
      backward.type[slot] = Type::kNone;
      wanted[slot].clear();
    }
    Same(backward, wanted, Compute(backward, expected.inputs, how), "gate, backward");
    ExpectOwnLoop("backward", p);
  }

 private:
  static void ExpectOwnLoop(const std::string& operation, const Problem& p) {
    const std::string kernel = isonorm_last_kernel();
    if (p.rows == 0) return;
    const std::string own = operation + (p.contract.gate_place == ISONORM_GATE_BEFORE ? ".gate.cast." : ".plain.gate.");
    EXPECT_EQ(kernel.starts_with(own), HasTunedLoops(GetParam()) && p.cols <= 8192) << kernel << ": " << ToString(p);
  }
};

// Every gate for x, weight and gate of some types.
Problem Gated(Type type, int64_t rows, int64_t cols, uint64_t seed) {
  Problem p = Simple(type, rows, cols);
  p.seed = seed;
  p.type[kGate] = type;
  constexpr std::array<Type, 4> kWeights = {Type::kF32, Type::kBf16, Type::kF16, Type::kNone};
  if (seed % 5 < 4) p.type[kWeight] = kWeights[seed % 5];
  p.contract.gate_place = seed % 2 == 0 ? ISONORM_GATE_AFTER : ISONORM_GATE_BEFORE;
  p.contract.gate_function = seed / 2 % 3 == 0 ? ISONORM_GATE_SIGMOID : ISONORM_GATE_SILU;
  p.contract.scaled_rounding = seed % 3 == 0 ? ISONORM_ROUND_TO_X : ISONORM_ROUND_NONE;
  p.contract.weight_offset = seed % 7 == 0 ? 1 : 0;
  p.contract.eps_place = seed % 13 == 0 ? ISONORM_EPS_OUTSIDE : ISONORM_EPS_INSIDE;
  return p;
}

constexpr std::array<Type, 3> kTypes = {Type::kF32, Type::kBf16, Type::kF16};

TEST_P(TunedGateTest, Widths) {
  uint64_t seed = 1;
  for (const Type type : kTypes) {
    for (const int64_t cols :
         {1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 320, 1000, 2880, 4096, 8191, 8192, 8193}) {
      for (int turn = 0; turn < 6; ++turn, ++seed) {
        Problem p = Gated(type, 1 + static_cast<int64_t>(seed % 4), cols, seed);
        p.odd = seed % 4 == 0 ? (1u << kX) | (1u << kDy) : seed % 4 == 1 ? 1u << kGate : seed % 4 == 2 ? 1u << kWeight : 0;
        Check(p, Reference(p));
      }
    }
  }
}

TEST_P(TunedGateTest, Rows) {
  uint64_t seed = 1;
  for (const Type type : kTypes) {
    for (const int64_t rows : {0, 1, 2, 31, 32, 33, 67}) {
      for (int turn = 0; turn < 12; ++turn, ++seed) {
        Problem p = Gated(type, rows, 40 + static_cast<int64_t>(seed % 90), seed);
        p.odd = seed % 3 == 0 ? (1u << kX) | (1u << kGate) | (1u << kDy) : 0;
        Check(p, Reference(p));
      }
    }
  }
}

// Gates on both sides of where the formula of f changes and where the short ways to compute it end, alone and among near ones.
TEST_P(TunedGateTest, FarGates) {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto beyond = [=](float edge) { return std::nextafter(edge, infinity); };
  const std::array<float, 18> far = {20.0f,          beyond(20.0f),
                                     87.0f,          beyond(87.0f),
                                     88.0f,          beyond(88.0f),
                                     100.0f,         104.0f,
                                     149.0f,         150.0f,
                                     beyond(150.0f), 1e30f,
                                     infinity,       std::numeric_limits<float>::quiet_NaN(),
                                     19.75f,         30.0f,
                                     70.5f,          0.0f};
  uint64_t seed = 1;
  for (const Type type : kTypes) {
    for (size_t every = 1; every <= 40; every += 13) {
      for (int turn = 0; turn < 8; ++turn, ++seed) {
        const Problem p = Gated(type, 3, 137, seed);
        Values inputs = MakeInputs(p);
        for (size_t i = 0, k = 0; i < 3 * 137; i += every, ++k) {
          const float value = far[k % far.size()];
          isonorm_cli::Store(k / far.size() % 2 == 0 ? -value : value, type, &inputs[kGate][i * SizeOf(type)]);
        }
        Check(p, Reference(p, inputs));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Target, TunedGateTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
