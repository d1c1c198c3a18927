// Gradients of rows that were computed apart: parts combine to the bits of one call over all rows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "executors.h"
#include "run.h"

namespace core_test {
namespace {

isonorm_tensor Matrix(void* data, Type type, int64_t* shape, int ndim) {
  return {data, {ISONORM_DEVICE_CPU, 0}, ndim, isonorm_cli::DtypeOf(type), shape, nullptr, 0};
}

struct Parts {
  Bytes dweight, dbias;  // [parts, cols] in the compute type
  int64_t count = 0;
};

// Backward of each run of rows, for the sums alone.
Parts ComputeParts(const Problem& problem, const Values& inputs, int64_t part_rows) {
  Parts parts;
  for (int64_t begin = 0; begin < problem.rows; begin += part_rows, ++parts.count) {
    Problem run = problem;
    run.rows = std::min(part_rows, problem.rows - begin);
    for (const Slot output : {kDx, kDgate}) run.type[output] = Type::kNone;
    for (const Slot output : {kDweight, kDbias}) {
      if (run.has(output)) run.type[output] = problem.compute();
    }
    Values own = inputs;
    for (int i = 0; i < kSlots; ++i) {
      const Slot slot = static_cast<Slot>(i);
      if (!run.has(slot) || run.is_vector(slot) || inputs[slot].empty()) continue;
      const size_t row = static_cast<size_t>(run.cols_of(slot)) * SizeOf(run.type[slot]);
      const auto first = inputs[slot].begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(begin) * row);
      own[slot].assign(first, first + static_cast<std::ptrdiff_t>(static_cast<size_t>(run.rows) * row));
    }
    const Values sums = Compute(run, own);
    parts.dweight.insert(parts.dweight.end(), sums[kDweight].begin(), sums[kDweight].end());
    parts.dbias.insert(parts.dbias.end(), sums[kDbias].begin(), sums[kDbias].end());
  }
  return parts;
}

// `gradient` starts as what is accumulated to.
Bytes Combine(const Bytes& parts, int64_t count, int64_t rows, int64_t part_rows, const Problem& problem, Type type,
              uint32_t flags, Bytes gradient, const isonorm_executor* executor = nullptr) {
  int64_t shape[2] = {count, problem.cols}, cols = problem.cols;
  // Both lie at every misalignment in turn.
  const size_t off = static_cast<size_t>(rows) % 8;
  gradient.resize(static_cast<size_t>(cols) * SizeOf(type));
  Bytes memory(off, 0), sums(off, 0);
  memory.insert(memory.end(), parts.begin(), parts.end());
  memory.push_back(0);
  sums.insert(sums.end(), gradient.begin(), gradient.end());
  const isonorm_tensor in = Matrix(memory.data() + off, problem.compute(), shape, 2),
                       out = Matrix(sums.data() + off, type, &cols, 1);
  const isonorm_combine_args args = {sizeof(args), &in, &out, rows, part_rows, flags, 0, nullptr, executor};
  if (isonorm_combine_gradients(&args) != ISONORM_OK) ADD_FAILURE() << isonorm_last_error() << " " << ToString(problem);
  EXPECT_TRUE(std::equal(parts.begin(), parts.end(), memory.begin() + static_cast<std::ptrdiff_t>(off)))
      << "parts were written to";
  return Bytes(sums.begin() + static_cast<std::ptrdiff_t>(off), sums.end());
}

// With something to sum over rows.
Problem RandomWithSums(uint64_t seed, int64_t rows, int64_t cols) {
  Problem problem = Random(seed, rows, cols);
  if (!problem.has(kWeight) && !problem.has(kBias)) problem.type[kBias] = problem.type[kX];
  return problem;
}

class CombineTest : public testing::TestWithParam<std::string> {
 protected:
  // Both gradients of the problem, from parts of so many rows, written and accumulated.
  static bool Check(const Problem& problem, const Values& inputs, int64_t part_rows) {
    const ScopedTarget target(GetParam());
    const Parts parts = ComputeParts(problem, inputs, part_rows);
    for (const uint32_t flags : {0u, uint32_t{ISONORM_ACCUMULATE}}) {
      Values start = inputs;
      for (const Slot slot : {kDweight, kDbias}) start[slot] = inputs[slot == kDweight ? kWeight : kBias];
      How how;
      how.flags = flags;
      const Values once = Compute(problem, start, how);
      for (const Slot slot : {kDweight, kDbias}) {
        if (!problem.has(slot)) continue;
        const Bytes& sums = slot == kDweight ? parts.dweight : parts.dbias;
        const Bytes got = Combine(sums, parts.count, problem.rows, part_rows, problem, problem.type[slot], flags, start[slot]);
        if (got == once[slot]) continue;
        ADD_FAILURE() << NameOf(slot) << " of " << parts.count << " parts of " << part_rows << " rows, flags " << flags << ": "
                      << ToString(problem);
        return false;
      }
    }
    return true;
  }
};

TEST_P(CombineTest, EveryNumberOfRows) {
  for (int64_t rows = 0; rows <= 200; ++rows) {
    const Problem random = RandomWithSums(static_cast<uint64_t>(rows) + 7, rows, 24);
    const Problem problem = BackwardOf(random, Rstd::kRecomputed);
    for (const int64_t part_rows : {32, 64, 128, 256}) ASSERT_TRUE(Check(problem, MakeInputs(random), part_rows)) << rows;
  }
}

TEST_P(CombineTest, ManyParts) {
  for (const int64_t rows : {1000, 1024, 1025, 2047, 3299, 4096}) {
    const Problem random = RandomWithSums(static_cast<uint64_t>(rows), rows, 130);
    const Problem problem = BackwardOf(random, Rstd::kRecomputed);
    for (const int64_t part_rows : {32, 64, 512}) ASSERT_TRUE(Check(problem, MakeInputs(random), part_rows)) << rows;
  }
}

TEST_P(CombineTest, TypesAndData) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Problem random = RandomWithSums(seed * 3, 32 + static_cast<int64_t>(seed * 41 % 500), 65);
    if (seed % 3 == 0) random.odd = (1u << kResidualOut) - 1;
    ASSERT_TRUE(Check(BackwardOf(random, Rstd::kRecomputed), MakeInputs(random), 32));
  }
}

INSTANTIATE_TEST_SUITE_P(Target, CombineTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

// Parts of parts, kept in the compute type on the way.
TEST(CombineLevelsTest, LevelByLevel) {
  for (const int64_t rows : {128, 300, 640, 1000}) {
    Problem random = Simple(Type::kBf16, rows, 200);
    random.type[kBias] = Type::kF16;
    const Problem problem = BackwardOf(random, Rstd::kRecomputed);
    const Values inputs = MakeInputs(random), once = Compute(problem, inputs);
    Parts parts = ComputeParts(problem, inputs, 32);
    for (int64_t part_rows = 32; part_rows < rows; part_rows *= 4) {
      const size_t part = 200 * sizeof(float);
      Bytes larger;
      for (int64_t begin = 0; begin < rows; begin += 4 * part_rows) {
        const int64_t own = std::min(4 * part_rows, rows - begin), count = (own + part_rows - 1) / part_rows;
        const auto first = parts.dweight.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(begin / part_rows) * part);
        const Bytes some(first, first + static_cast<std::ptrdiff_t>(static_cast<size_t>(count) * part));
        const Bytes sum = Combine(some, count, own, part_rows, problem, Type::kF32, 0, {});
        larger.insert(larger.end(), sum.begin(), sum.end());
      }
      parts.dweight = larger;
    }
    EXPECT_EQ(parts.dweight.size(), 200 * sizeof(float));
    EXPECT_EQ(Combine(parts.dweight, 1, rows, 4096, problem, Type::kBf16, 0, {}), once[kDweight]) << rows;
  }
}

// 16 MB of parts: a few tasks of columns each.
TEST(CombineLevelsTest, Threads) {
  constexpr int64_t kParts = 1001, kWide = 4100;
  const Problem problem = Simple(Type::kF32, 1, kWide);
  Bytes parts(static_cast<size_t>(kParts * kWide) * sizeof(float));
  for (size_t i = 0; i < parts.size() / sizeof(float); ++i) {
    const float value = static_cast<float>(static_cast<int64_t>(Mix(i) % 2001) - 1000) * 0x1.234p-8f;
    std::memcpy(parts.data() + i * sizeof(float), &value, sizeof(value));
  }
  Shuffled shuffled(7);
  NewThreads threads(5);
  const Bytes alone = Combine(parts, kParts, kParts * 32, 32, problem, Type::kBf16, 0, {});
  EXPECT_EQ(Combine(parts, kParts, kParts * 32, 32, problem, Type::kBf16, 0, {}, shuffled.executor()), alone);
  EXPECT_EQ(Combine(parts, kParts, kParts * 32, 32, problem, Type::kBf16, 0, {}, threads.executor()), alone);
  EXPECT_GT(shuffled.largest(), 1);
  EXPECT_GT(threads.largest(), 1);
}

// What the tree is for: parts added one after another give other bits.
TEST(CombineLevelsTest, OrderShows) {
  const Problem random = Simple(Type::kF32, 32 * 7, 64), problem = BackwardOf(random, Rstd::kRecomputed);
  const Values inputs = MakeInputs(random);
  const Parts parts = ComputeParts(problem, inputs, 32);
  std::vector<float> sum(64, 0), part(64);
  for (size_t i = 0; i < 7; ++i) {
    std::memcpy(part.data(), parts.dweight.data() + i * 256, 256);
    for (size_t j = 0; j < 64; ++j) sum[j] += part[j];
  }
  Bytes bytes(256);
  std::memcpy(bytes.data(), sum.data(), 256);
  EXPECT_NE(bytes, Compute(problem, inputs)[kDweight]);
}

}  // namespace
}  // namespace core_test
