// mean and rstd as outputs of any type and as inputs of backward: the same bits on every target, and what they spare backward.
#include <gtest/gtest.h>

#include <cstring>

#include "run.h"

namespace core_test {
namespace {

class SavedStatisticsTest : public testing::TestWithParam<std::string> {
 protected:
  static Problem Layer(uint64_t seed, int64_t cols) {
    Problem problem = Random(seed, 5, cols);
    problem.contract.statistic = ISONORM_STATISTIC_LAYER;
    problem.contract.eps_place = ISONORM_EPS_INSIDE;
    problem.window = 0;
    return problem;
  }
};

// Of every type: the values of the compute type, rounded once. Backward takes them as they are.
TEST_P(SavedStatisticsTest, OfSixteenBits) {
  for (const int64_t cols : {1, 24, 130, 640}) {
    for (uint64_t seed = 1; seed <= 12; ++seed) {
      Problem problem = seed % 3 == 0 ? Random(seed, 5, cols) : Layer(seed, cols);
      if (problem.compute() == Type::kF64) continue;
      const Expected expected = Reference(problem);
      for (const Type type : {Type::kBf16, Type::kF16}) {
        Problem forward = ForwardOf(problem), backward = BackwardOf(problem, Rstd::kSaved);
        Values inputs = expected.inputs, outputs = expected.forward;
        for (const Slot slot : {kRstd, kMean}) {
          if (!forward.has(slot)) continue;
          forward.type[slot] = backward.type[slot] = type;
          const Bytes& wide = expected.forward[slot];
          Bytes narrow(wide.size() / 2);
          for (size_t i = 0; i < wide.size() / sizeof(float); ++i) {
            float value;
            std::memcpy(&value, &wide[i * sizeof(float)], sizeof(value));
            isonorm_cli::Store(static_cast<double>(value), type, &narrow[i * 2]);
          }
          inputs[slot] = outputs[slot] = narrow;
        }
        const auto gradients = [&](const char* target) {
          const ScopedTarget scope(target);
          return Compute(backward, inputs);
        };
        const Values wanted = gradients("reference");
        Same(backward, wanted, gradients(GetParam().c_str()), "backward");
        const ScopedTarget target(GetParam());
        Same(forward, outputs, Compute(forward, expected.inputs), "forward");
      }
    }
  }
}

// No row here is of extreme size, so eps is in rstd and is not looked at again.
TEST_P(SavedStatisticsTest, SpareBackwardTheEps) {
  for (const DataKind kind : {DataKind::kPlain, DataKind::kSpike, DataKind::kMean}) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      Problem problem = Layer(seed, 96);
      problem.kind = kind;
      problem.odd = 0;
      problem.eps = 1e-5;
      const Expected expected = Reference(problem);
      const ScopedTarget target(GetParam());
      for (const double eps : {0.0, 1e-5, 0.5}) {
        Problem backward = BackwardOf(problem, Rstd::kSaved);
        backward.eps = eps;
        Same(backward, expected.backward, Compute(backward, expected.inputs), "eps " + std::to_string(eps));
      }
    }
  }
}

// A row whose rstd says too little has it computed again; the rows beside it keep theirs, which other roundings may have made.
TEST_P(SavedStatisticsTest, EachRowByItself) {
  for (const Type type : {Type::kF32, Type::kBf16, Type::kF16}) {
    for (const int64_t cols : {64, 1000}) {
      for (const int32_t statistic : {ISONORM_STATISTIC_RMS, ISONORM_STATISTIC_LAYER}) {
        Problem problem = Simple(type, 7, cols);
        problem.contract.statistic = statistic;
        Values inputs = Reference(problem).inputs;
        for (size_t row = 0; row < 7; ++row) {
          float rstd;
          uint8_t* const at = &inputs[kRstd][row * sizeof(rstd)];
          std::memcpy(&rstd, at, sizeof(rstd));
          rstd = row % 3 == 1 ? -1.0f : rstd * 1.002f;
          std::memcpy(at, &rstd, sizeof(rstd));
        }
        const Problem backward = BackwardOf(problem, Rstd::kSaved);
        const auto gradients = [&](const std::string& target) {
          const ScopedTarget scope(target.c_str());
          return Compute(backward, inputs);
        };
        Same(backward, gradients("reference"), gradients(GetParam()), "rstd of every other row");
      }
    }
  }
}

// Without its mean, an rstd of LayerNorm says too little.
TEST_P(SavedStatisticsTest, RstdAloneIsNotUsed) {
  const Problem problem = Layer(5, 96);
  Expected expected = Reference(problem);
  Problem backward = BackwardOf(problem, Rstd::kSaved);
  backward.type[kMean] = Type::kNone;
  std::fill(expected.inputs[kRstd].begin(), expected.inputs[kRstd].end(), uint8_t{0x3F});
  const ScopedTarget target(GetParam());
  Same(backward, expected.backward, Compute(backward, expected.inputs), "rstd alone");
}

INSTANTIATE_TEST_SUITE_P(Target, SavedStatisticsTest, testing::ValuesIn(Targets()),
                         [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
