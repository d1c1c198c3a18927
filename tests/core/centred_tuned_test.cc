// The tuned loops of LayerNorm: every weight and bias, rows of every width in and out of blocks, statistics, and rows between
// others that these loops leave to the general path.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "run.h"

namespace core_test {
namespace {

constexpr std::array<Type, 3> kStored = {Type::kF32, Type::kBf16, Type::kF16};
constexpr std::array<Type, 4> kVectors = {Type::kNone, Type::kF32, Type::kBf16, Type::kF16};

class CentredTunedTest : public testing::TestWithParam<std::string> {
 protected:
  static Problem LayerNorm(Type type, int64_t rows, int64_t cols, uint64_t seed) {
    Problem p = Simple(type, rows, cols);
    p.contract.statistic = ISONORM_STATISTIC_LAYER;
    p.eps = 1e-5;
    p.type[kBias] = type;
    p.seed = seed;
    return p;
  }

  // Compares, and requires that the loops ran where the target has them, unless a call is not theirs.
  static void Check(const Problem& problem, const Values& inputs, const How& how = {}, bool tuned = true) {
    const Problem forward = ForwardOf(problem);
    const Values expected = Reference(problem, inputs).forward;
    const ScopedTarget target(GetParam());
    Same(forward, expected, Compute(forward, inputs, how), "LayerNorm");
    const std::string kernel = isonorm_last_kernel();
    EXPECT_EQ(kernel.find(".centred.cast.") != std::string::npos, tuned && problem.rows > 0 && HasTunedLoops(GetParam()))
        << kernel << ": " << ToString(forward);
  }
  static void Check(const Problem& problem, const How& how = {}, bool tuned = true) {
    Check(problem, MakeInputs(problem), how, tuned);
  }
};

TEST_P(CentredTunedTest, EveryWidth) {
  uint64_t seed = 1;
  for (const Type type : kStored) {
    for (int64_t cols = 1; cols <= 130; ++cols, ++seed) {
      Check(LayerNorm(type, 1 + static_cast<int64_t>(seed % 18), cols, seed));
    }
    for (const int64_t cols :
         {192, 255, 256, 257, 320, 384, 511, 512, 513, 640, 768, 1000, 1024, 1025, 2880, 4096, 5120, 7168}) {
      for (const int64_t rows : {1, 2, 5}) Check(LayerNorm(type, rows, cols, seed++));
    }
  }
}

TEST_P(CentredTunedTest, EveryNumberOfRows) {
  uint64_t seed = 1;
  for (const Type type : kStored) {
    for (const int64_t rows : {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 67}) {
      for (const int64_t cols : {24, 64, 128, 200, 520}) Check(LayerNorm(type, rows, cols, seed++));
    }
  }
}

// Up to the widths and from the number of rows at which vectors are converted.
TEST_P(CentredTunedTest, EveryWeightAndBias) {
  uint64_t seed = 1;
  for (const Type type : kStored) {
    for (const Type weight : kVectors) {
      for (const Type bias : kVectors) {
        for (const double offset : {0.0, 1.0}) {
          for (const int64_t cols : {40, 131, 8192, 8193}) {
            ++seed;
            Problem p = LayerNorm(type, cols > 1000 ? 2 : seed % 2 == 0 ? 17 : 3, cols, seed);
            p.type[kWeight] = weight;
            p.type[kBias] = bias;
            p.contract.weight_offset = offset;
            p.contract.scaled_rounding = seed % 3 == 0 ? ISONORM_ROUND_TO_X : ISONORM_ROUND_NONE;
            p.odd = seed % 5 == 0 ? 1u << kWeight : seed % 5 == 1 ? 1u << kBias : 0;
            const auto as_it_lies = [type](Type vector) {
              return vector == Type::kNone || (vector == type && type != Type::kF16);
            };
            const bool in_place = as_it_lies(weight) && as_it_lies(bias) && (offset == 0 || weight == Type::kNone);
            Check(p, {}, in_place || cols <= 8192);
          }
        }
      }
    }
  }
}

// Everything that a row can be, between rows of other kinds.
TEST_P(CentredTunedTest, KindsOfRows) {
  uint64_t seed = 1;
  for (const Type type : kStored) {
    for (int kind = 0; kind < isonorm_cli::kDataKinds; ++kind) {
      if (static_cast<DataKind>(kind) == DataKind::kFar) continue;
      for (const double eps : {0.0, 1e-42, 1e-12, 1e-5}) {
        for (const int32_t place : {ISONORM_EPS_INSIDE, ISONORM_EPS_OUTSIDE}) {
          for (const int64_t cols : {24, 128, 600}) {
            Problem p = LayerNorm(type, 19, cols, seed++);
            p.kind = static_cast<DataKind>(kind);
            p.eps = eps;
            p.contract.eps_place = place;
            Check(p);
          }
        }
      }
    }
    for (int turn = 0; turn < 12; ++turn) {
      Problem p = LayerNorm(type, 35, turn % 2 == 0 ? 128 : 72, seed++);
      p.odd = 1u << kX;
      Check(p);
    }
  }
}

// A mean of 2^e times the deviation, which is 1 or less: of the values nothing but rounding errors is left at last, for some
// rows so little that c leaves f16's range.
TEST_P(CentredTunedTest, LargeMeans) {
  uint64_t seed = 1;
  for (const int32_t rounding : {ISONORM_ROUND_NONE, ISONORM_ROUND_TO_X}) {
    for (const double eps : {0.0, 1e-5}) {
      for (const Type type : kStored) {
        for (int e = 4; e <= 30; ++e) {
          Problem p = LayerNorm(type, e % 2 == 0 ? 21 : 1, e % 4 < 2 ? 128 : 328, seed++);
          p.eps = eps;
          p.contract.scaled_rounding = rounding;
          Values inputs = MakeInputs(p);
          for (int64_t i = 0; i < p.rows * p.cols; ++i) {
            uint8_t* const at = inputs[kX].data() + static_cast<size_t>(i) * SizeOf(type);
            if (type == Type::kF32) {
              float value = 0;
              std::memcpy(&value, at, sizeof(value));
              value = p.rows == 1 || i / p.cols % 3 == 2
                          ? std::ldexp(1.0f, e) + (i % p.cols == 5 ? std::ldexp(1.0f, e - 23) : 0.0f)
                          : std::ldexp(1.0f, e) + value;
              std::memcpy(at, &value, sizeof(value));
            } else {  // neighbouring numbers
              const auto value = static_cast<uint16_t>((type == Type::kBf16 ? 0x3F80 : 0x3C00) + 32 * e + (at[0] & 1));
              std::memcpy(at, &value, sizeof(value));
            }
          }
          Check(p, inputs);
        }
      }
    }
  }
}

// Rows of one value, whose mean is rounded: distances and their shift cancel, so m is 0 or just below it, and without eps rstd
// is infinite.
TEST_P(CentredTunedTest, EqualValues) {
  uint64_t seed = 1;
  for (const int64_t cols : {24, 100, 328, 1000}) {
    for (const double eps : {0.0, 1e-14, 1e-12, 1e-5}) {
      for (int turn = 0; turn < 8; ++turn) {
        Problem p = LayerNorm(Type::kF32, turn % 4 == 3 ? 1 : 21, cols, seed++);
        p.eps = eps;
        Values inputs = MakeInputs(p);
        for (int64_t row = 0; row < p.rows; ++row) {
          if (turn % 2 == 0 && row % 3 == 0) continue;
          const float value = 1.0f + static_cast<float>(Mix(seed * 64 + static_cast<uint64_t>(row)) % 1000003) * 0.37f;
          for (int64_t i = row * cols; i < (row + 1) * cols; ++i) {
            std::memcpy(inputs[kX].data() + static_cast<size_t>(i) * sizeof(value), &value, sizeof(value));
          }
        }
        Check(p, inputs);
      }
    }
  }
}

// Rows that begin anywhere in a line, with gaps, and y over x.
TEST_P(CentredTunedTest, Places) {
  uint64_t seed = 1;
  for (const Type type : kStored) {
    for (const Type weight : {type, Type::kF32}) {
      for (const int64_t cols : {32, 131, 1056}) {
        for (const int64_t rows : {1, 6}) {
          Problem p = LayerNorm(type, rows, cols, seed++);
          p.type[kWeight] = weight;
          const Values inputs = MakeInputs(p);
          for (const int offset : {0, 1, 8, 17, 31}) {
            for (const int64_t gap : {0, 1, 32}) {
              How how;
              how.layout.place[kX].offset = 3 * offset % 32;
              how.layout.place[kY].offset = offset;
              how.layout.place[kWeight].offset = how.layout.place[kBias].offset = offset % 5;
              how.layout.place[kX].strides = how.layout.place[kY].strides = {cols + gap};
              Check(p, inputs, how);
              how.layout.place[kX].bytes = how.layout.place[kWeight].bytes = 1;
              how.layout.place[kY].bytes = 1;
              Check(p, inputs, how);
              how.layout.place[kY] = Place{};
              how.layout.place[kY].over = kX;
              Check(p, inputs, how);
            }
          }
        }
      }
    }
  }
}

TEST_P(CentredTunedTest, Guarded) {
  uint64_t seed = 1;
  for (const Guard guard : {Guard::kPageBehind, Guard::kPageInFront}) {
    How how;
    for (Place& place : how.layout.place) place.guard = guard;
    for (const Type type : kStored) {
      for (int64_t cols = 1; cols <= 140; ++cols) {
        ++seed;
        Problem p = LayerNorm(type, seed % 2 == 0 ? 1 : 5, cols, seed);
        p.type[kBias] = kVectors[seed % 4];
        p.type[kWeight] = kVectors[seed / 4 % 4];
        Check(p, how);
      }
    }
  }
}

// What these loops leave to the general path.
TEST_P(CentredTunedTest, OtherCalls) {
  for (const Type type : kStored) {
    Problem p = LayerNorm(type, 3, 64, 1);
    Check(p);
    p.groups = 2;
    Check(p, {}, false);
    p.groups = 1;
    p.type[kResidual] = type;
    Check(p, {}, false);
    p.type[kResidual] = Type::kNone;
    p.type[kY] = type == Type::kF32 ? Type::kBf16 : Type::kF32;
    Check(p, {}, false);
    p.type[kY] = p.type[kGate] = type;
    p.contract.gate_place = ISONORM_GATE_AFTER;
    Check(p, {}, false);
  }
  Problem p = LayerNorm(Type::kF32, 3, 64, 1);
  p.type[kWeight] = Type::kBf16;
  p.contract.scaled_rounding = ISONORM_ROUND_TO_WEIGHT;
  Check(p, {}, false);
}

// As torch saves them beside 16-bit rows.
TEST_P(CentredTunedTest, StatisticsOfEveryType) {
  uint64_t seed = 1;
  for (const Type type : kStored) {
    for (const Type mean : kStored) {
      for (const Type rstd : kStored) {
        for (const int64_t rows : {1, 5, 17}) {
          const Problem p = LayerNorm(type, rows, rows == 5 ? 1000 : 96, ++seed);
          const Values inputs = MakeInputs(p);
          Problem forward = ForwardOf(p);
          forward.type[kMean] = mean;
          forward.type[kRstd] = rstd;
          Values expected;
          {
            const ScopedTarget reference("reference");
            expected = Compute(forward, inputs);
          }
          const ScopedTarget target(GetParam());
          Same(forward, expected, Compute(forward, inputs), "statistics");
          const std::string kernel = isonorm_last_kernel();
          EXPECT_EQ(kernel.find(".centred.cast.") != std::string::npos, HasTunedLoops(GetParam())) << kernel;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Target, CentredTunedTest, testing::ValuesIn(OtherTargets()),
                         [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
