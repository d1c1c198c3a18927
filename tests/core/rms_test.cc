// The RMS of vectors, its gradient and the penalty: every target gives the bits of the reference, in any layout and place.
#include <gtest/gtest.h>

#include <isonorm/thread_pool.hpp>
#include <memory>
#include <string>

#include "run.h"
#include "support/rms.h"

namespace core_test {
namespace {

struct Shape {
  int64_t rows, cols, padding;
};

struct Outputs {
  Bytes rms, dx, penalty, penalty_dx, accumulated, in_place;
  bool operator==(const Outputs&) const = default;
};

// One after the other: rms of x; its gradient, with drms in the place of rms; the penalty with its gradient, and that added to
// what dx holds. Everything but rms, which is f32 or f64 with x, has types of its own.
Outputs Compute(Type x_type, Type dx_type, DataKind kind, const Shape& shape, uint64_t seed, const isonorm_executor* executor) {
  const Type compute = x_type == Type::kF64 ? Type::kF64 : Type::kF32;
  const int unaligned = shape.padding == 0 ? 0 : static_cast<int>(seed % 7) + 1;  // bytes
  const auto matrix = [&](Type type) {
    return std::make_unique<Memory>(std::vector<int64_t>{shape.rows, shape.cols},
                                    std::vector<int64_t>{shape.cols + shape.padding, 1}, type, static_cast<int>(seed % 8),
                                    Guard::kPattern, unaligned);
  };
  using isonorm_cli::MakeData;
  using isonorm_cli::Role;
  const auto x = matrix(x_type), dx = matrix(dx_type);
  const Bytes x_bytes = MakeData(Role::kX, kind, seed, shape.rows, shape.cols, x_type);
  x->Fill(x_bytes);
  Memory per_row({shape.rows}, {}, compute, 0, Guard::kPattern, unaligned);
  Outputs outputs;
  const auto expect_ok = [](isonorm_status status) {
    EXPECT_EQ(status, ISONORM_OK) << isonorm_last_error();
    EXPECT_TRUE(std::string(isonorm_last_kernel()).ends_with(std::string("@") + isonorm_target())) << isonorm_last_kernel();
  };
  expect_ok(isonorm_test::Rms(x->tensor(), per_row.tensor(), executor));
  outputs.rms = per_row.Compact();
  const Bytes drms = MakeData(Role::kDy, DataKind::kPlain, seed, 1, shape.rows, compute);
  per_row.Fill(drms);
  expect_ok(isonorm_test::RmsBackward(x->tensor(), per_row.tensor(), dx->tensor(), executor));
  outputs.dx = dx->Compact();
  EXPECT_EQ(per_row.Compact(), drms);
  expect_ok(isonorm_test::RmsPenalty(x->tensor(), 0.37, per_row.tensor(), dx->tensor(), 0, executor));
  outputs.penalty = per_row.Compact();
  outputs.penalty_dx = dx->Compact();
  expect_ok(isonorm_test::RmsPenalty(x->tensor(), -1.5, nullptr, dx->tensor(), ISONORM_ACCUMULATE, executor));
  outputs.accumulated = dx->Compact();
  EXPECT_EQ(x->Compact(), x_bytes) << "the input was written to";
  EXPECT_TRUE(x->SurroundingsIntact() && dx->SurroundingsIntact() && per_row.SurroundingsIntact());
  if (x_type == dx_type) {
    per_row.Fill(drms);
    expect_ok(isonorm_test::RmsBackward(x->tensor(), per_row.tensor(), x->tensor(), executor));
    outputs.in_place = x->Compact();
    EXPECT_EQ(outputs.in_place, outputs.dx) << "in place differs from out of place";
  }
  return outputs;
}

class RmsTest : public testing::TestWithParam<std::string> {
 protected:
  static void Check(Type x, Type dx, DataKind kind, int64_t rows, int64_t cols, uint64_t seed) {
    static const isonorm::thread_pool pool(3);
    Outputs expected;
    {
      const ScopedTarget reference("reference");
      expected = Compute(x, dx, kind, {rows, cols, 0}, seed, nullptr);
    }
    const ScopedTarget target(GetParam());
    for (const int64_t padding : {0, 5}) {
      for (const isonorm_executor* executor : {static_cast<const isonorm_executor*>(nullptr), pool.executor()}) {
        const bool same = Compute(x, dx, kind, {rows, cols, padding}, seed, executor) == expected;
        EXPECT_TRUE(same) << NameOf(x) << " to " << NameOf(dx) << ", rows " << rows << ", cols " << cols << ", data "
                          << static_cast<int>(kind) << ", padding " << padding << (executor != nullptr ? ", executor" : "");
      }
    }
  }
};

constexpr std::array<Type, 3> kNarrow = {Type::kF32, Type::kBf16, Type::kF16};

TEST_P(RmsTest, WidthsAndTypes) {
  for (const int64_t cols : {1, 2, 7, 8, 17, 63, 64, 65, 127, 128, 129, 255, 257, 1000, 1024, 4097, 28672}) {
    const int64_t rows = cols > 4000 ? 2 : 19;
    for (const Type x : kNarrow) {
      for (const Type dx : kNarrow)
        Check(x, dx, DataKind::kPlain, rows, cols, static_cast<uint64_t>(cols) * 10 + static_cast<uint64_t>(x));
    }
    Check(Type::kF64, Type::kF64, DataKind::kPlain, rows, cols, static_cast<uint64_t>(cols));
  }
}

TEST_P(RmsTest, KindsOfData) {
  for (int kind = 0; kind < isonorm_cli::kDataKinds; ++kind) {
    for (const Type type : {Type::kF32, Type::kBf16, Type::kF16, Type::kF64}) {
      if (static_cast<DataKind>(kind) == DataKind::kFar && type != Type::kF64) continue;
      for (const int64_t cols : {1, 40, 129, 600})
        Check(type, type, static_cast<DataKind>(kind), 80, cols, static_cast<uint64_t>(kind) + 1);
    }
  }
}

TEST_P(RmsTest, NoRows) { Check(Type::kF32, Type::kF32, DataKind::kPlain, 0, 12, 1); }

INSTANTIATE_TEST_SUITE_P(Target, RmsTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
