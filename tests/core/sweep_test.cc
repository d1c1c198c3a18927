// Widths, row counts, type mixes, contracts and kinds of data: every target gives the bits of the reference.
#include <gtest/gtest.h>

#include <set>

#include "sweep.h"

namespace core_test {
namespace {

TEST(SweepTest, ThereIsSomethingToCompare) { EXPECT_FALSE(OtherTargets().empty()) << "no target but the reference"; }

TEST(SweepTest, SmallWidths) {
  Sweep sweep;
  for (int64_t cols = 1; cols <= 130; ++cols) {
    for (uint64_t i = 0; i < 12; ++i)
      sweep.Check(Random(1000 * static_cast<uint64_t>(cols) + i, 1 + static_cast<int64_t>(i % 4), cols));
  }
}

// Where the tree of the sum gets another level, and around it; and where vectors end.
TEST(SweepTest, PowersOfTwo) {
  Sweep sweep;
  for (int64_t power = 256; power <= 16384; power *= 2) {
    for (const int64_t step : {-8, -1, 0, 1, 7}) {
      for (uint64_t i = 0; i < 5; ++i)
        sweep.Check(Random(static_cast<uint64_t>(power + step) * 100 + i, 1 + static_cast<int64_t>(i % 3), power + step));
    }
  }
}

TEST(SweepTest, WidthsOfModels) {
  Sweep sweep;
  for (const int64_t cols : {192, 384, 576, 768, 769, 1536, 2304, 2560, 2880, 3584, 5120, 7168, 12288, 28672, 53248, 65537}) {
    for (uint64_t i = 0; i < 4; ++i)
      sweep.Check(Random(static_cast<uint64_t>(cols) * 100 + i, i == 0 && cols < 10000 ? 33 : 1, cols));
  }
}

// Blocks of 32 rows and their pairs in the sums of the gradients; row blocks of the kernels.
TEST(SweepTest, Rows) {
  Sweep sweep;
  for (const int64_t rows :
       {0, 1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 32, 33, 61, 63, 64, 65, 95, 96, 97, 127, 128, 129, 160, 255, 257, 1023, 1025}) {
    for (const int64_t cols : {1, 8, 33, 128, 257}) {
      for (uint64_t i = 0; i < 3; ++i) sweep.Check(Random(static_cast<uint64_t>(rows * 1000 + cols) * 10 + i, rows, cols));
    }
  }
}

TEST(SweepTest, ManyRows) {
  Sweep sweep;
  for (const int64_t rows : {57345, 65535, 65536, 65537, 100000}) {
    for (const int64_t cols : {1, 4}) sweep.Check(Random(static_cast<uint64_t>(rows + cols), rows, cols));
  }
}

// The types of x, weight and output, with each of the others in turn.
TEST(SweepTest, Types) {
  constexpr std::array<Type, 4> kTypes = {Type::kF32, Type::kBf16, Type::kF16, Type::kNone};
  Sweep sweep;
  uint64_t seed = 1;
  std::set<std::array<Type, 3>> mixes;
  for (const int64_t cols : {1, 63, 64, 129, 640}) {
    for (size_t mix = 0; mix < 4 * 4 * 4 * 4 * 4; ++mix, ++seed) {
      Problem p = Random(seed, 3, cols);
      if (p.compute() == Type::kF64 || mix % 4 == 3 || mix / 4 % 4 == 3) continue;  // x and the output are there
      p.quantization = {};
      p.type[kScale] = Type::kNone;
      Unrotate(&p);
      p.type[kX] = kTypes[mix % 4];
      p.type[kY] = kTypes[mix / 4 % 4];
      p.type[kWeight] = kTypes[mix / 16 % 4];
      if (p.contract.gate_place != ISONORM_GATE_BEFORE) p.type[kResidual] = kTypes[mix / 64 % 4];
      p.type[kBias] = kTypes[mix / 256 % 4];
      mixes.insert({p.type[kX], p.type[kWeight], p.type[kY]});
      if (seed % 4 == 0) Quantize(seed, &p);
      if (seed % 5 == 0) Rotate(seed, &p);
      sweep.Check(p);
    }
  }
  EXPECT_EQ(mixes.size(), 36u);  // 27 and those without weight
}

TEST(SweepTest, Contracts) {
  Sweep sweep;
  uint64_t seed = 1;
  for (int bits = 0; bits < 2 * 2 * 3 * 2 * 3 * 16; ++bits, ++seed) {
    for (const int64_t cols : {37, 264}) {
      Problem p = Random(seed * 7 + static_cast<uint64_t>(cols), 2, cols);
      const bool wide = p.compute() == Type::kF64;
      int rest = bits;
      const auto digit = [&rest](int base) {
        const int value = rest % base;
        rest /= base;
        return value;
      };
      p.contract.statistic = 1 + digit(2);
      p.contract.eps_place = 1 + digit(2);
      p.contract.scaled_rounding = 1 + digit(3);
      p.contract.sum_rounding = 1 + digit(2);
      p.contract.gate_place = wide ? ISONORM_GATE_NONE : 1 + digit(3);
      const auto present = [&](Slot slot, bool wanted) { p.type[slot] = wanted ? p.type[kX] : Type::kNone; };
      if (digit(2) == 0) present(kWeight, false);
      present(kBias, digit(2) == 1);
      present(kResidual, digit(2) == 1 && p.contract.gate_place != ISONORM_GATE_BEFORE);
      p.contract.weight_offset = digit(2);
      if (p.has(kGate) != (p.contract.gate_place != ISONORM_GATE_NONE)) present(kGate, !p.has(kGate));
      if (p.contract.statistic == ISONORM_STATISTIC_LAYER) p.window = 0;
      Unrotate(&p);
      if (seed % 2 == 0) Rotate(seed, &p);
      sweep.Check(p);
    }
  }
}

TEST(SweepTest, NamedContracts) {
  Sweep sweep;
  uint64_t seed = 1;
  for (size_t i = 0; i < isonorm_contract_count(); ++i) {
    isonorm_contract contract = {};
    contract.struct_size = sizeof(contract);
    ASSERT_EQ(isonorm_contract_by_name(isonorm_contract_name(i), &contract, sizeof(contract)), ISONORM_OK);
    for (const Type type : {Type::kF32, Type::kBf16, Type::kF16}) {
      for (const Type weight : {Type::kF32, type}) {
        for (const int64_t cols : {96, 128, 1000, 2880}) {
          Problem p = Simple(type, 33, cols);
          p.contract = contract;
          p.type[kWeight] = weight;
          p.type[kGate] = contract.gate_place == ISONORM_GATE_NONE ? Type::kNone : type;
          p.seed = seed++;
          sweep.Check(p);
        }
      }
    }
  }
}

TEST(SweepTest, KindsOfData) {
  Sweep sweep;
  uint64_t seed = 1;
  for (int kind = 0; kind < isonorm_cli::kDataKinds; ++kind) {
    for (const double eps : {0.0, 1e-42, 1e-37, 1e-12, 1e-6, 1.0}) {
      for (const int32_t statistic : {ISONORM_STATISTIC_RMS, ISONORM_STATISTIC_LAYER}) {
        for (const int32_t place : {ISONORM_EPS_INSIDE, ISONORM_EPS_OUTSIDE}) {
          for (const Type type : {Type::kF32, Type::kBf16, Type::kF16, Type::kF64}) {
            for (const int64_t cols : {7, 129, 600}) {
              Problem p = Simple(type, 12, cols);
              p.kind = static_cast<DataKind>(kind);
              if (p.kind == DataKind::kFar && type != Type::kF64) continue;
              p.contract.statistic = statistic;
              p.contract.eps_place = place;
              p.eps = eps;
              p.seed = seed++;
              sweep.Check(p);
            }
          }
        }
      }
    }
  }
}

// NaN with payloads, infinities, subnormals and the largest numbers, in one tensor and in all.
TEST(SweepTest, OddValuesInEveryTensor) {
  Sweep sweep;
  for (uint64_t seed = 1; seed <= 1500; ++seed) {
    Problem p = Random(seed, 4, 1 + static_cast<int64_t>(seed % 300));
    const unsigned all = (1u << kResidualOut) - 1;
    p.odd = seed % 3 == 0 ? all : 1u << (seed % kResidualOut);
    sweep.Check(p);
  }
}

}  // namespace
}  // namespace core_test
