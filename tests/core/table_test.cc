// The table of kernels is true: for each of its rows and each target, a call of just these parts and types runs this kernel, or
// the general one where the target has no tuned loops, and gives the bits of the reference.
#include <gtest/gtest.h>

#include <array>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "parallel_run.h"
#include "run.h"

namespace core_test {
namespace {

// A row by its name.
struct Row {
  std::string name, operation, source, sink;
  std::array<std::string, 3> types;  // of x, weight and out

  bool wide() const { return types[0] == "f64"; }
  bool tuned() const {
    return source != "any" && (operation == "forward" || operation == "backward" || operation.ends_with("_partial"));
  }
};

Row RowOf(const std::string& name) {
  Row row;
  row.name = name;
  std::istringstream parts(name);
  for (std::string* part : {&row.operation, &row.source, &row.sink, &row.types[0], &row.types[1], &row.types[2]}) {
    EXPECT_TRUE(std::getline(parts, *part, '.')) << name;
  }
  EXPECT_EQ(parts.peek(), std::istringstream::traits_type::eof()) << name;
  return row;
}

std::vector<Row> Table() {
  std::vector<Row> rows;
  for (size_t i = 0; i < isonorm_kernel_count(); ++i) rows.push_back(RowOf(isonorm_kernel_name(i)));
  return rows;
}

// "f32" and so on; of "any", one of those that it may be. "none" is none.
Type TypeNamed(const std::string& name, uint64_t turn, bool may_be_none) {
  constexpr std::array<Type, 4> kAny = {Type::kF32, Type::kBf16, Type::kF16, Type::kNone};
  if (name == "any") return kAny[turn % (may_be_none ? 4 : 3)];
  return name == "none" ? Type::kNone : isonorm_cli::TypeOf(name).value();
}

// A call that the row is for. Such a call of a general row has a bias too, which no tuned loop takes.
Problem CallOf(const Row& row, int64_t rows, int64_t cols, uint64_t turn) {
  Problem p = Simple(TypeNamed(row.types[0], turn, false), rows, cols);
  p.seed = turn + 1;
  // Groups are rows of their own to loops that find out nothing for a whole row.
  if (row.tuned() && row.sink != "quantize" && row.sink != "rope" && row.sink != "sum" && turn % 2 == 1) p.groups = cols / 64;
  p.type[kWeight] = TypeNamed(row.types[1], turn, true);
  p.type[kY] = p.type[kDy] = row.types[2] == "any" ? p.type[kX] : TypeNamed(row.types[2], turn, false);
  if (!row.tuned() && row.source == "any") p.type[kBias] = p.type[kX];
  if (row.source == "centred") {
    p.contract.statistic = ISONORM_STATISTIC_LAYER;
    p.type[kBias] = TypeNamed("any", turn + turn / 4, true);
  }
  if (row.source == "residual") p.type[kResidual] = p.type[kX];
  if (row.source == "gate" || row.sink == "gate") {
    p.type[kGate] = p.type[kX];
    p.contract.gate_place = row.source == "gate" ? ISONORM_GATE_BEFORE : ISONORM_GATE_AFTER;
    p.contract.gate_function = turn % 2 == 0 ? ISONORM_GATE_SILU : ISONORM_GATE_SIGMOID;
  }
  if (row.sink == "quantize") {
    p.quantization.struct_size = sizeof(p.quantization);
    p.quantization.scale_kind = turn % 2 == 0 ? ISONORM_SCALE_DYNAMIC : ISONORM_SCALE_STATIC;
    p.type[kScale] = Type::kF32;
    p.type[kDy] = p.type[kX];
  }
  if (row.sink == "rope") {
    p.rotation = {turn % 2 == 0 ? ISONORM_ROPE_HALF : ISONORM_ROPE_INTERLEAVED, cols / 2, 20};
    p.type[kCos] = p.type[kSin] = turn % 4 < 2 ? Type::kF32 : p.type[kX];
    p.type[kPositions] = Type::kI32;
  }
  return p;
}

// What is wrong with `ran` as the name of the kernel that ran for a call of the row; "" if nothing is.
std::string Fault(const Row& row, const std::string& ran) {
  const std::string target = isonorm_target();
  std::string wanted = row.name;
  if (row.tuned() && !HasTunedLoops(target)) {
    wanted = row.operation + (row.sink != "sum"                    ? ".any.any.any.any.any"
                              : row.operation == "forward_partial" ? ".any.sum.any.none.f32"
                                                                   : ".any.sum.any.any.f32");
  }
  wanted += "@" + target;
  return ran == wanted ? "" : "'" + ran + "' ran for a call of '" + wanted + "'";
}

// Calls of the row on the target in use, as wide as one head and as a chunk, of one row and of several blocks.
void Check(const Row& row) {
  uint64_t turn = 0;
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 64}, {5, 128}, {67, 192}, {3, 512}, {2, 320}, {19, 64}}) {
    const Problem p = CallOf(row, rows, cols, turn++);
    const Expected expected = Reference(p);
    const bool forward = row.operation == "forward";
    const Problem call = forward ? ForwardOf(p) : BackwardOf(p, turn % 2 == 0 ? Rstd::kSaved : Rstd::kRecomputed);
    Same(call, forward ? expected.forward : expected.backward, Compute(call, expected.inputs), row.name);
    EXPECT_EQ(Fault(row, isonorm_last_kernel()), "") << ToString(call);
  }
}

// Likewise of the sums of ranks.
void CheckPartial(const Row& row) {
  const bool forward = row.operation == "forward_partial";
  for (uint64_t turn = 0; turn < 4; ++turn) {
    Problem p = CallOf(row, 5, 256, turn);
    if (forward) p.type[kWeight] = Type::kF32;
    p.type[kY] = p.type[kDy] = p.type[kX];
    if (row.wide()) p.type[kWeight] = Type::kF64;
    const Expected expected = Reference(p);
    ParallelHow how;
    how.ranks = 2;
    ParallelResult result = ComputeParallel(ForwardOf(p), expected.inputs, how);
    Problem call = ForwardOf(p);
    if (!forward) {
      call = BackwardOf(p, Rstd::kRecomputed);
      result = ComputeParallel(call, expected.inputs, how, result.statistic);
    }
    Same(call, forward ? expected.forward : expected.backward, result.outputs, row.name);
    EXPECT_EQ(Fault(row, result.partial_kernel), "") << ToString(call);
  }
}

// Likewise of double backward.
void CheckDouble(const Row& row) {
  for (uint64_t turn = 0; turn < 4; ++turn) {
    Problem p = CallOf(row, 5, 192, turn);
    p.type[kY] = Type::kNone;
    p.type[kDdx] = p.type[kDx] = p.type[kX];
    p.type[kDdy] = p.type[kDy];
    p.type[kDweight] = p.type[kDdweight] = p.type[kWeight];
    const Values inputs = MakeInputs(p);
    Values expected;
    {
      const ScopedTarget reference("reference");
      expected = Compute(p, inputs);
    }
    Same(p, expected, Compute(p, inputs), row.name);
    EXPECT_EQ(Fault(row, isonorm_last_kernel()), "") << ToString(p);
  }
}

// What a vector function writes, of x in this type.
std::pair<Bytes, Bytes> RunRms(const Row& row, Type type) {
  constexpr int64_t kRows = 5, kCols = 200;
  const Type compute = row.wide() ? Type::kF64 : Type::kF32;
  Memory x({kRows, kCols}, {}, type), dx({kRows, kCols}, {}, type), per_row({kRows}, {}, compute);
  x.Fill(isonorm_cli::MakeData(isonorm_cli::Role::kX, DataKind::kPlain, 1, kRows, kCols, type));
  per_row.Fill(isonorm_cli::MakeData(isonorm_cli::Role::kDy, DataKind::kPlain, 2, 1, kRows, compute));
  isonorm_status status = ISONORM_ERROR_INTERNAL;
  if (row.operation == "rms") {
    const isonorm_rms_args args = {sizeof(args), x.tensor(), per_row.tensor(), nullptr, nullptr};
    status = isonorm_rms(&args);
  } else if (row.operation == "rms_backward") {
    const isonorm_rms_backward_args args = {sizeof(args), x.tensor(), per_row.tensor(), dx.tensor(), nullptr, nullptr};
    status = isonorm_rms_backward(&args);
  } else if (row.operation == "rms_penalty") {
    const isonorm_rms_penalty_args args = {sizeof(args), x.tensor(), per_row.tensor(), dx.tensor(), 0.3, 0, 0,
                                           nullptr,      nullptr};
    status = isonorm_rms_penalty(&args);
  }
  EXPECT_EQ(status, ISONORM_OK) << row.name << ": " << isonorm_last_error();
  return {per_row.Compact(), dx.Compact()};
}

void CheckRms(const Row& row) {
  for (uint64_t turn = 0; turn < 3; ++turn) {
    const Type type = TypeNamed(row.types[0], turn, false);
    const auto got = RunRms(row, type);
    EXPECT_EQ(Fault(row, isonorm_last_kernel()), "");
    const ScopedTarget reference("reference");
    EXPECT_TRUE(got == RunRms(row, type)) << row.name;
  }
}

class TableTest : public testing::TestWithParam<std::string> {};

TEST_P(TableTest, EveryRowRunsAndHasTheBitsOfTheReference) {
  const ScopedTarget target(GetParam());
  for (const Row& row : Table()) {
    SCOPED_TRACE(row.name);
    if (row.operation == "forward" || row.operation == "backward") {
      Check(row);
    } else if (row.operation == "forward_partial" || row.operation == "backward_partial") {
      CheckPartial(row);
    } else if (row.operation == "double_backward") {
      CheckDouble(row);
    } else if (row.operation.starts_with("rms")) {
      CheckRms(row);
    } else {
      ADD_FAILURE() << "no call for such a row is known here";
    }
  }
}

// A row that no call can reach, such as one that got lost on the way from the table to the loops, and a name that is not the
// call's.
TEST_P(TableTest, LostAndWrongRowsAreSeen) {
  const ScopedTarget target(GetParam());
  const Row row = RowOf("forward.plain.cast.f32.f32.f32"), lost = RowOf("forward.plain.cast.f32.f16.f32");
  const Problem p = ForwardOf(CallOf(row, 3, 64, 0));
  Compute(p, MakeInputs(p));
  EXPECT_EQ(Fault(row, isonorm_last_kernel()), "");
  EXPECT_EQ(Fault(lost, isonorm_last_kernel()) == "", !HasTunedLoops(GetParam()));
  const Problem q = ForwardOf(CallOf(lost, 3, 64, 0));
  Compute(q, MakeInputs(q));
  EXPECT_EQ(Fault(lost, isonorm_last_kernel()) == "", !HasTunedLoops(GetParam()));
}

// Who takes a row out has to say so here.
TEST(Table, HasAllItsRows) { EXPECT_EQ(isonorm_kernel_count(), 77u); }

INSTANTIATE_TEST_SUITE_P(Target, TableTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
