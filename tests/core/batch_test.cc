// A row's result does not depend on its company, an output's not on which others are wanted, and sums over rows come apart.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>

#include "run.h"

namespace core_test {
namespace {

class BatchTest : public testing::TestWithParam<std::string> {};

// `count` rows from `first` on, of everything that has rows.
Values Slice(const Problem& problem, const Values& values, int64_t first, int64_t count) {
  Values slice = values;
  for (int i = 0; i < kSlots; ++i) {
    const Slot slot = static_cast<Slot>(i);
    if (problem.is_vector(slot) || values[slot].empty()) continue;
    const int64_t row = static_cast<int64_t>(values[slot].size()) / problem.rows;
    slice[slot] = Bytes(values[slot].begin() + first * row, values[slot].begin() + (first + count) * row);
  }
  return slice;
}

Problem WithRows(Problem problem, int64_t rows) {
  problem.rows = rows;
  return problem;
}

TEST_P(BatchTest, ARowAloneIsTheRowInTheBatch) {
  for (const int64_t cols : {1, 24, 128, 200, 1000}) {
    for (uint64_t seed = 1; seed <= 5; ++seed) {
      const Problem problem = Random(seed * 100 + static_cast<uint64_t>(cols), 67, cols);
      const Expected expected = Reference(problem);
      Problem forward = ForwardOf(problem), backward = BackwardOf(problem, seed % 2 == 0 ? Rstd::kSaved : Rstd::kRecomputed);
      backward.type[kDweight] = backward.type[kDbias] = Type::kNone;  // these are sums over the batch
      const ScopedTarget target(GetParam());
      for (const int64_t count : {1, 2, 7, 32, 35}) {
        for (int64_t first = 0; first + count <= problem.rows; first += count == 1 ? 1 : 11) {
          const Values inputs = Slice(problem, expected.inputs, first, count);
          Same(WithRows(forward, count), Slice(problem, expected.forward, first, count),
               Compute(WithRows(forward, count), inputs), "rows of a batch");
          Same(WithRows(backward, count), Slice(problem, expected.backward, first, count),
               Compute(WithRows(backward, count), inputs), "rows of a batch");
        }
      }
    }
  }
}

TEST_P(BatchTest, AnySubsetOfOutputs) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const Problem problem = Random(seed, 35, 1 + static_cast<int64_t>(seed * 7 % 150));
    const Expected expected = Reference(problem);
    const ScopedTarget target(GetParam());
    for (const bool is_forward : {true, false}) {
      const Problem call = is_forward ? ForwardOf(problem) : BackwardOf(problem, Rstd::kRecomputed);
      const std::vector<Slot> outputs =
          is_forward ? std::vector<Slot>{kY, kResidualOut, kRstd, kMean} : std::vector<Slot>{kDx, kDweight, kDbias, kDgate};
      for (unsigned mask = 1; mask < 1u << outputs.size(); ++mask) {
        Problem subset = call;
        bool any = false;
        for (size_t i = 0; i < outputs.size(); ++i) {
          if ((mask >> i & 1u) == 0) subset.type[outputs[i]] = Type::kNone;
          any |= subset.has(outputs[i]);
        }
        if (!subset.has(kY)) {
          subset.quantization = {};
          subset.type[kScale] = Type::kNone;
          if (is_forward) Unrotate(&subset);
        }
        if (!any) continue;
        Same(subset, is_forward ? expected.forward : expected.backward, Compute(subset, expected.inputs),
             "subset " + std::to_string(mask));
      }
    }
  }
}

// Gradients of aligned runs of 32 * 2^k rows, kept in f32, add up in pairs to the gradient of all rows.
TEST_P(BatchTest, SumsOverRowsComeApart) {
  for (const int64_t half : {32, 64, 128}) {
    for (const int64_t second : {half, half - 1, int64_t{1}}) {  // the last run may be short
      for (uint64_t seed = 1; seed <= 4; ++seed) {
        Problem problem = Simple(seed % 2 == 0 ? Type::kF32 : Type::kBf16, half + second, 100);
        problem.type[kWeight] = problem.type[kBias] = Type::kF32;
        problem.seed = seed;
        const Problem backward = BackwardOf(problem, Rstd::kRecomputed);
        const ScopedTarget target(GetParam());
        const Values inputs = MakeInputs(problem);
        const Values whole = Compute(backward, inputs);
        const Values first = Compute(WithRows(backward, half), Slice(problem, inputs, 0, half));
        const Values last = Compute(WithRows(backward, second), Slice(problem, inputs, half, second));
        for (const Slot slot : {kDweight, kDbias}) {
          ASSERT_EQ(whole[slot].size(), 400u);
          for (size_t i = 0; i < 400; i += 4) {
            float a, b, sum;
            std::memcpy(&a, &first[slot][i], 4);
            std::memcpy(&b, &last[slot][i], 4);
            std::memcpy(&sum, &whole[slot][i], 4);
            ASSERT_EQ(std::bit_cast<uint32_t>(a + b), std::bit_cast<uint32_t>(sum))
                << NameOf(slot) << " " << i / 4 << ": " << ToString(problem);
          }
        }
      }
    }
  }
}

float Read(Type type, const Bytes& bytes, size_t index) {
  if (type == Type::kF32) {
    float value;
    std::memcpy(&value, &bytes[4 * index], 4);
    return value;
  }
  uint16_t bits;  // bf16
  std::memcpy(&bits, &bytes[2 * index], 2);
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// What dweight and dbias held is added in f32, and the sum is rounded once to their type. Up to 32 rows in f32 that are not
// accumulated are added up where they are stored, others in the workspace.
TEST_P(BatchTest, AccumulatedGradients) {
  for (const Type type : {Type::kF32, Type::kBf16}) {
    for (const int64_t rows : {0, 1, 7, 31, 32, 33, 100}) {
      for (const int64_t cols : {1, 65, 300}) {
        Problem problem = Simple(Type::kBf16, rows, cols);
        problem.type[kWeight] = problem.type[kBias] = Type::kF32;
        problem.seed = static_cast<uint64_t>(rows + cols);
        Problem stored = problem;
        stored.type[kWeight] = stored.type[kBias] = type;
        Values inputs = MakeInputs(stored);
        // The same weights as f32, so that the gradient before its storage rounding can be had.
        Values exact = inputs;
        for (const Slot slot : {kWeight, kBias}) {
          exact[slot].resize(static_cast<size_t>(4 * cols));
          for (size_t i = 0; i < static_cast<size_t>(cols); ++i)
            isonorm_cli::Store(Read(type, inputs[slot], i), Type::kF32, &exact[slot][4 * i]);
        }
        inputs[kDweight] = isonorm_cli::MakeData(isonorm_cli::Role::kResidual, DataKind::kPlain, 9, 1, cols, type);
        inputs[kDbias] = isonorm_cli::MakeData(isonorm_cli::Role::kResidual, DataKind::kPlain, 10, 1, cols, type);
        const ScopedTarget target(GetParam());
        const Values gradient = Compute(BackwardOf(problem, Rstd::kRecomputed), exact);
        Values expected = Compute(BackwardOf(stored, Rstd::kRecomputed), inputs);
        for (const Slot slot : {kDweight, kDbias}) {
          for (size_t i = 0; i < static_cast<size_t>(cols); ++i) {
            const float sum = Read(type, inputs[slot], i) + Read(Type::kF32, gradient[slot], i);
            isonorm_cli::Store(sum, type, &expected[slot][SizeOf(type) * i]);
          }
        }
        How how;
        how.flags = ISONORM_ACCUMULATE;
        Same(BackwardOf(stored, Rstd::kRecomputed), expected, Compute(BackwardOf(stored, Rstd::kRecomputed), inputs, how),
             "accumulated");
      }
    }
  }
}

TEST_P(BatchTest, NoRowsGiveZeroGradients) {
  for (const Type type : {Type::kF32, Type::kBf16, Type::kF16, Type::kF64}) {
    Problem problem = Simple(type, 0, 77);
    problem.type[kBias] = type;
    const ScopedTarget target(GetParam());
    const Values outputs = Compute(BackwardOf(problem, Rstd::kRecomputed), MakeInputs(problem));
    EXPECT_EQ(outputs[kDweight], Bytes(77 * SizeOf(type), 0));
    EXPECT_EQ(outputs[kDbias], Bytes(77 * SizeOf(type), 0));
  }
}

// Neither what the workspace held nor where it lies matters.
TEST_P(BatchTest, AnyWorkspace) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const Problem problem = Random(seed, 130, 1 + static_cast<int64_t>(seed * 13 % 100));
    const Expected expected = Reference(problem);
    const Problem backward = BackwardOf(problem, Rstd::kSaved);
    const ScopedTarget target(GetParam());
    for (const uint8_t fill : {0x00, 0x7F, 0xFF}) {
      for (size_t offset = 0; offset < 9; ++offset) {
        How how;
        how.workspace_fill = fill;
        how.workspace_offset = offset;
        Same(backward, expected.backward, Compute(backward, expected.inputs, how), "workspace at " + std::to_string(offset));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Target, BatchTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
