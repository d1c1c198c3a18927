#include "problem.h"

#include <cmath>
#include <cstdio>
#include <cstring>

namespace core_test {
namespace {

constexpr std::array<const char*, kSlots> kNames = {
    "x",    "weight", "bias", "residual", "gate",  "dy",    "dresidual", "ddx",   "ddweight", "residual_out", "rstd",
    "mean", "y",      "dx",   "dweight",  "dbias", "dgate", "ddy",       "scale", "cos",      "sin",          "positions"};
constexpr std::array<Type, 3> kNarrow = {Type::kF32, Type::kBf16, Type::kF16};

// Draws from one seed.
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(Mix(seed)) {}
  uint64_t Below(uint64_t limit) { return (state_ = Mix(state_)) % limit; }
  bool OneIn(uint64_t count) { return Below(count) == 0; }
  template <class Value, size_t kCount>
  Value From(const std::array<Value, kCount>& values) {
    return values[Below(kCount)];
  }

 private:
  uint64_t state_;
};

// The bit patterns that arithmetic likes least. The first half is finite.
uint64_t OddBits(Type type, uint64_t choice) {
  switch (type) {
    case Type::kBf16: {
      constexpr std::array<uint16_t, 12> kBits = {0x0000, 0x8000, 0x0001, 0x807f, 0x7f7f, 0xff7f,
                                                  0x7f80, 0xff80, 0x7fc0, 0xffc1, 0x7f81, 0x0080};
      return kBits[choice % 12];
    }
    case Type::kF16: {
      constexpr std::array<uint16_t, 12> kBits = {0x0000, 0x8000, 0x0001, 0x83ff, 0x7bff, 0xfbff,
                                                  0x7c00, 0xfc00, 0x7e00, 0xfe01, 0x7c01, 0x0400};
      return kBits[choice % 12];
    }
    case Type::kF64: {
      constexpr std::array<uint64_t, 12> kBits = {0x0,
                                                  0x8000000000000000,
                                                  0x1,
                                                  0x800fffffffffffff,
                                                  0x7fefffffffffffff,
                                                  0xffefffffffffffff,
                                                  0x7ff0000000000000,
                                                  0xfff0000000000000,
                                                  0x7ff8000000000000,
                                                  0xfff8000000012345,
                                                  0x7ff0000000000001,
                                                  0x0010000000000000};
      return kBits[choice % 12];
    }
    default: {
      constexpr std::array<uint32_t, 12> kBits = {0x00000000, 0x80000000, 0x00000001, 0x807fffff, 0x7f7fffff, 0xff7fffff,
                                                  0x7f800000, 0xff800000, 0x7fc00000, 0xffc12345, 0x7f800001, 0x00800000};
      return kBits[choice % 12];
    }
  }
}

// Of three rows one stays as it is, one gets finite oddities, one anything; so no call is NaN all over.
void MakeOdd(const Problem& problem, Slot slot, Bytes* bytes) {
  const size_t size = SizeOf(problem.type[slot]);
  const int64_t rows = problem.rows_of(slot), cols = problem.cols_of(slot);
  for (int64_t row = 0; row < rows; ++row) {
    Dice dice(problem.seed * 31 + static_cast<uint64_t>(row) * 17 + static_cast<uint64_t>(slot));
    const uint64_t mood = dice.Below(3);
    for (uint64_t n = mood == 0 ? 0 : 1 + dice.Below(3); n > 0; --n) {
      const uint64_t col = dice.Below(static_cast<uint64_t>(cols));
      const uint64_t bits = OddBits(problem.type[slot], dice.Below(mood == 1 ? 6 : 12));
      for (size_t i = 0; i < size; ++i) {
        (*bytes)[(static_cast<size_t>(row * cols) + col) * size + i] = static_cast<uint8_t>(bits >> (8 * i));
      }
    }
  }
}

int64_t RandomGroups(Dice& dice, int64_t cols) {
  std::array<int64_t, 6> candidates = {2, 3, 4, 5, 8, cols};
  const int64_t groups = dice.From(candidates);
  return cols % groups == 0 && cols / groups >= 1 && groups <= 1024 ? groups : 1;
}

}  // namespace

const char* NameOf(Slot slot) { return kNames[static_cast<size_t>(slot)]; }

uint64_t Mix(uint64_t value) { return isonorm_cli::SplitMix(value + 0x9E3779B97F4A7C15u); }

std::string ToString(const Problem& p) {
  char text[400];
  std::snprintf(
      text, sizeof(text),
      "rows %lld cols %lld groups %lld window %lld eps %g statistic %d eps_place %d scaled_rounding %d sum_rounding %d "
      "gate_place %d gate_function %d weight_offset %g data %d seed %llu odd %x;",
      static_cast<long long>(p.rows), static_cast<long long>(p.cols), static_cast<long long>(p.groups),
      static_cast<long long>(p.window), p.eps, p.contract.statistic, p.contract.eps_place, p.contract.scaled_rounding,
      p.contract.sum_rounding, p.contract.gate_place, p.contract.gate_function, p.contract.weight_offset,
      static_cast<int>(p.kind), static_cast<unsigned long long>(p.seed), p.odd);
  std::string all = text;
  const isonorm_quantization& q = p.quantization;
  if (p.quantizes()) {
    std::snprintf(text, sizeof(text), " scale_kind %d rounded_to %d group_cols %lld min_scale %g scale_ub %g;", q.scale_kind,
                  q.rounded_to.code, static_cast<long long>(q.group_cols), q.min_scale, q.scale_ub);
    all += text;
  }
  if (p.rotates()) {
    std::snprintf(text, sizeof(text), " rotation_rounding %d style %d half %lld table %lld;", p.contract.rotation_rounding,
                  p.rotation.style, static_cast<long long>(p.rotation.half), static_cast<long long>(p.rotation.table));
    all += text;
  }
  for (int slot = 0; slot < kSlots; ++slot) {
    if (p.has(static_cast<Slot>(slot)))
      all += std::string(" ") + kNames[static_cast<size_t>(slot)] + "=" + NameOf(p.type[static_cast<size_t>(slot)]);
  }
  return all;
}

Problem Simple(Type type, int64_t rows, int64_t cols) {
  Problem p;
  p.type[kX] = p.type[kWeight] = p.type[kY] = p.type[kDy] = type;
  p.rows = rows;
  p.cols = cols;
  return p;
}

Problem Random(uint64_t seed, int64_t rows, int64_t cols) {
  Dice dice(seed);
  Problem p;
  const bool wide = dice.OneIn(8);
  const auto any = [&] { return wide ? Type::kF64 : dice.From(kNarrow); };
  const auto maybe = [&](uint64_t one_in) { return dice.OneIn(one_in) ? any() : Type::kNone; };
  isonorm_contract& c = p.contract;
  c.statistic = dice.OneIn(4) ? ISONORM_STATISTIC_LAYER : ISONORM_STATISTIC_RMS;
  c.eps_place = dice.OneIn(4) ? ISONORM_EPS_OUTSIDE : ISONORM_EPS_INSIDE;
  c.scaled_rounding = 1 + static_cast<int32_t>(dice.Below(3));
  c.sum_rounding = 1 + static_cast<int32_t>(dice.Below(2));
  c.gate_place = wide || !dice.OneIn(3) ? ISONORM_GATE_NONE : dice.OneIn(2) ? ISONORM_GATE_BEFORE : ISONORM_GATE_AFTER;
  c.gate_function = dice.OneIn(2) ? ISONORM_GATE_SILU : ISONORM_GATE_SIGMOID;
  c.weight_offset = dice.From(std::array<double, 6>{0, 0, 0, 1, 0.5, -1.1});
  p.eps = dice.From(std::array<double, 10>{1e-6, 1e-6, 1e-5, 1e-5, 0, 0, 1e-12, 1e-37, 1e-42, 0.5});
  p.type[kX] = any();
  p.type[kY] = wide && dice.OneIn(2) ? Type::kF32 : any();
  p.type[kWeight] = dice.OneIn(8) ? Type::kNone : any();
  p.type[kBias] = maybe(2);
  p.type[kResidual] = c.gate_place == ISONORM_GATE_BEFORE ? Type::kNone : maybe(2);
  p.type[kGate] = c.gate_place == ISONORM_GATE_NONE ? Type::kNone : any();
  p.type[kDy] = any();
  p.type[kDresidual] = maybe(2);
  p.rows = rows;
  p.cols = cols;
  p.groups = dice.OneIn(4) ? RandomGroups(dice, cols) : 1;
  if (c.statistic == ISONORM_STATISTIC_RMS && dice.OneIn(4)) {
    p.window = 1 + static_cast<int64_t>(dice.Below(static_cast<uint64_t>(cols / p.groups)));
  }
  p.kind = dice.OneIn(2) ? DataKind::kPlain : static_cast<DataKind>(dice.Below(isonorm_cli::kDataKinds));
  if (!wide && p.kind == DataKind::kFar) p.kind = DataKind::kRows;
  p.seed = seed;
  p.odd = dice.OneIn(5) ? static_cast<unsigned>(dice.Below(1u << kResidualOut)) : 0;
  if (dice.OneIn(4)) Quantize(seed, &p);
  if (dice.OneIn(4)) Rotate(seed, &p);
  return p;
}

void Rotate(uint64_t seed, Problem* problem) {
  const int64_t head = problem->cols / problem->groups;
  if (problem->contract.gate_place == ISONORM_GATE_AFTER || head < 2 || head > 512) return;
  Dice dice(seed ^ 0x7075);
  Rotation& rotation = problem->rotation;
  rotation.style = dice.OneIn(2) ? ISONORM_ROPE_HALF : ISONORM_ROPE_INTERLEAVED;
  rotation.half = dice.OneIn(2) ? head / 2 : 1 + static_cast<int64_t>(dice.Below(static_cast<uint64_t>(head / 2)));
  rotation.table = dice.From(std::array<int64_t, 4>{1, 2, 7, 40});
  problem->contract.rotation_rounding = dice.OneIn(2) ? ISONORM_ROUND_NONE : ISONORM_ROUND_TO_X;
  problem->type[kCos] = problem->type[kSin] = dice.OneIn(2) ? Type::kF32 : problem->type[kX];
  problem->type[kPositions] = dice.OneIn(2) ? Type::kI32 : Type::kI64;
}

void Unrotate(Problem* problem) {
  problem->rotation = {};
  problem->type[kCos] = problem->type[kSin] = problem->type[kPositions] = Type::kNone;
}

void Quantize(uint64_t seed, Problem* problem) {
  if (problem->compute() == Type::kF64) return;
  Dice dice(seed ^ 0x51AE);
  isonorm_quantization& q = problem->quantization;
  q = {};
  q.struct_size = sizeof(q);
  q.scale_kind = 1 + static_cast<int32_t>(dice.Below(3));
  if (dice.OneIn(3)) q.rounded_to = dice.OneIn(2) ? ISONORM_BF16 : ISONORM_F16;
  if (q.scale_kind != ISONORM_SCALE_STATIC) {
    const int64_t group = dice.From(std::array<int64_t, 4>{0, 32, 64, 128});
    q.group_cols = group != 0 && problem->cols / problem->groups % group == 0 ? group : 0;
    q.min_scale = dice.From(std::array<double, 6>{0, 0, 0, 0x1p-126, 0x1p-9, 8});
    q.scale_ub = dice.From(std::array<double, 6>{0, 0, 0, 1.5, 1e-40, 3e38});
  }
  problem->type[kY] = dice.From(std::array<Type, 3>{Type::kI8, Type::kE4M3, Type::kE5M2});
  problem->type[kScale] = q.scale_kind == ISONORM_SCALE_POWER_OF_TWO ? Type::kE8M0 : Type::kF32;
}

Problem ForwardOf(const Problem& problem) {
  Problem p = problem;
  p.type[kDy] = p.type[kDresidual] = p.type[kDx] = p.type[kDweight] = p.type[kDbias] = p.type[kDgate] = Type::kNone;
  p.type[kResidualOut] = p.type[kResidual];
  p.type[kRstd] = p.compute();
  p.type[kMean] = p.contract.statistic == ISONORM_STATISTIC_LAYER ? p.compute() : Type::kNone;
  return p;
}

Problem BackwardOf(const Problem& problem, Rstd rstd, Sum sum) {
  Problem p = problem;
  p.type[kY] = p.type[kScale] = Type::kNone;
  p.quantization = {};
  p.type[kDx] = p.type[kX];
  p.type[kDweight] = p.type[kWeight];
  p.type[kDbias] = p.type[kBias];
  p.type[kDgate] = p.type[kGate];
  p.type[kRstd] = rstd == Rstd::kSaved ? p.compute() : Type::kNone;
  p.type[kMean] = p.contract.statistic == ISONORM_STATISTIC_LAYER ? p.type[kRstd] : Type::kNone;
  p.type[kResidualOut] = sum == Sum::kFromStored ? p.type[kResidual] : Type::kNone;
  if (sum == Sum::kFromStored) p.type[kX] = p.type[kResidual] = Type::kNone;
  return p;
}

bool MayUseStoredSum(const Problem& problem) {
  return problem.has(kResidual) && problem.contract.sum_rounding == ISONORM_SUM_STORED;
}

Values MakeInputs(const Problem& problem) {
  using isonorm_cli::Role;
  // Double backward has neither dresidual nor bias. Every other ddx is of x's kind, as tangents of x are.
  constexpr std::array<Role, 9> kRoles = {Role::kX,  Role::kWeight,    Role::kBias,      Role::kResidual, Role::kGate,
                                          Role::kDy, Role::kDresidual, Role::kDresidual, Role::kBias};
  Values values;
  for (int i = 0; i < kResidualOut; ++i) {
    const Slot slot = static_cast<Slot>(i);
    if (!problem.has(slot)) continue;
    const bool like_x = slot == kDdx && problem.seed % 2 == 0;
    values[slot] = isonorm_cli::MakeData(like_x ? Role::kX : kRoles[slot], problem.kind, problem.seed + (like_x ? 9 : 0),
                                         problem.rows_of(slot), problem.cols, problem.type[slot]);
    if ((problem.odd >> i & 1u) != 0) MakeOdd(problem, slot, &values[slot]);
  }
  if (problem.quantizes() && problem.has_static_scale()) {
    constexpr std::array<float, 6> kScales = {0x1p-126f, 0x1p126f, 0.01f, 1.0f, 0.3f, 1e-30f};
    values[kScale].resize(sizeof(float));
    std::memcpy(values[kScale].data(), &kScales[problem.seed % kScales.size()], sizeof(float));
  }
  if (problem.rotates()) {
    for (const Slot slot : {kCos, kSin}) {
      const size_t size = SizeOf(problem.type[slot]);
      values[slot].resize(static_cast<size_t>(problem.rotation.table * problem.rotation.half) * size);
      for (size_t i = 0; i < values[slot].size() / size; ++i) {
        const double angle = static_cast<double>(Mix(problem.seed * 5 + i) % 6283) / 1000;
        isonorm_cli::Store(slot == kCos ? std::cos(angle) : std::sin(angle), problem.type[slot], &values[slot][i * size]);
      }
      if (problem.odd % 4 == 3) MakeOdd(problem, slot, &values[slot]);
    }
    const size_t size = SizeOf(problem.type[kPositions]);
    values[kPositions].resize(static_cast<size_t>(problem.rows) * size);
    for (size_t row = 0; row < static_cast<size_t>(problem.rows); ++row) {
      const uint64_t position = Mix(problem.seed * 3 + row) % static_cast<uint64_t>(problem.rotation.table);
      for (size_t i = 0; i < size; ++i) values[kPositions][row * size + i] = static_cast<uint8_t>(position >> (8 * i));
    }
  }
  return values;
}

}  // namespace core_test
