#include "golden/data.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace isonorm_cli {
namespace {

constexpr std::array<const char*, 11> kTypeNames = {"-",    "f32",  "bf16", "f16", "f64", "i8",
                                                    "e4m3", "e5m2", "e8m0", "i32", "i64"};
constexpr std::array<const char*, kDataKinds> kKindNames = {"plain", "wide", "tiny", "huge",  "faint", "flat",    "far",
                                                            "edge",  "over", "rows", "spike", "mean",  "special", "least"};

template <class Enum, size_t kCount>
std::optional<Enum> Find(const std::array<const char*, kCount>& names, std::string_view name) {
  for (size_t i = 0; i < kCount; ++i) {
    if (name == names[i]) return static_cast<Enum>(i);
  }
  return std::nullopt;
}

uint64_t BitsAt(uint64_t seed, uint64_t index) {
  return SplitMix(seed * 0xD1342543DE82EF95u + (index + 1) * 0x9E3779B97F4A7C15u);
}

// 18 significant bits: exact in f32.
float PlainAt(uint64_t seed, uint64_t index) {
  const uint64_t z = BitsAt(seed, index);
  const uint64_t sum = (z & 0xffff) + ((z >> 16) & 0xffff) + ((z >> 32) & 0xffff) + (z >> 48);
  return static_cast<float>(static_cast<int64_t>(sum) - 131070) * 0x1p-15f;
}

// value * 2^exponent with one rounding to f32; in f64 the product is exact, so that no libm's ldexpf is trusted.
float Scale(float value, int exponent) { return static_cast<float>(std::ldexp(static_cast<double>(value), exponent)); }

float SpecialAt(float plain, uint64_t index, int64_t row) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  switch (row % 6) {
    case 0: return 0.0f;
    case 1: return index % 5 == 2 ? std::bit_cast<float>(0xffc12345u) : plain;
    case 2: return index % 7 == 3 ? kInfinity : plain;
    case 3: return index % 7 == 3 ? -kInfinity : index % 7 == 5 ? kInfinity : plain;
    case 4: return -0.0f;
    default: return plain;
  }
}

double XAt(DataKind kind, uint64_t seed, uint64_t index, int64_t row) {
  const float plain = PlainAt(seed, index);
  const int small_row = static_cast<int>(row < 4096 ? row : 4096);  // by then every value is infinite
  switch (kind) {
    case DataKind::kPlain: return plain;
    case DataKind::kWide: return Scale(plain, static_cast<int>(SplitMix(BitsAt(seed, index) ^ 0x5555u) % 61) - 30);
    case DataKind::kTiny: return Scale(plain, -130);
    case DataKind::kHuge: return Scale(plain, 120);
    case DataKind::kFaint: return Scale(plain, -62);
    case DataKind::kFlat: return Scale(PlainAt(seed, static_cast<uint64_t>(row)), static_cast<int>(row % 8) * 17);
    case DataKind::kFar: return std::ldexp(static_cast<double>(plain), row % 2 != 0 ? -600 : 600);
    case DataKind::kEdge: return Scale(plain, 52 + small_row);
    case DataKind::kOver: return plain * 40000.0f;
    case DataKind::kRows: return Scale(plain, static_cast<int>(row % 41) - 20);
    case DataKind::kSpike: return index % 97 == 0 ? plain * 1000.0f : plain;
    case DataKind::kMean: return plain + 64.0f;
    case DataKind::kSpecial: return SpecialAt(plain, index, row);
    case DataKind::kLeast: return 0x1p-149;
  }
  return 0.0;
}

uint16_t Bf16Bits(float value) {
  if (std::isnan(value)) return 0x7fc0;
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

uint16_t F16Bits(float value) {
  if (std::isnan(value)) return 0x7e00;
  const uint16_t sign = static_cast<uint16_t>((std::bit_cast<uint32_t>(value) >> 16) & 0x8000u);
  const double magnitude = std::fabs(static_cast<double>(value));
  if (magnitude >= 65520.0) return sign | 0x7c00;  // the midpoint above the largest f16 rounds away, to infinity
  // The distance between f16 numbers is 2^(e - 10) for exponent e, and 2^-24 for subnormals. Scaled by it the number is an
  // integer plus a fraction, both exact in f64, and nearbyint rounds it to even.
  const int exponent = magnitude < 0x1p-14 ? -14 : std::ilogb(magnitude);
  const int steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
  // A carry out of the mantissa runs into the exponent field, as it should.
  return static_cast<uint16_t>(sign | (steps + ((exponent + 14) << 10)));
}

template <class Bits>
void Put(Bits bits, uint8_t* out) {  // little-endian wherever this runs
  for (size_t i = 0; i < sizeof(Bits); ++i) out[i] = static_cast<uint8_t>(static_cast<uint64_t>(bits) >> (8 * i));
}

}  // namespace

uint64_t SplitMix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

size_t SizeOf(Type type) {
  constexpr std::array<size_t, 11> kSizes = {0, 4, 2, 2, 8, 1, 1, 1, 1, 4, 8};
  return kSizes[static_cast<size_t>(type)];
}

const char* NameOf(Type type) { return kTypeNames[static_cast<size_t>(type)]; }
std::optional<Type> TypeOf(std::string_view name) { return Find<Type>(kTypeNames, name); }
std::optional<DataKind> DataKindOf(std::string_view name) { return Find<DataKind>(kKindNames, name); }

isonorm_dtype DtypeOf(Type type) {
  switch (type) {
    case Type::kF32: return ISONORM_F32;
    case Type::kBf16: return ISONORM_BF16;
    case Type::kF16: return ISONORM_F16;
    case Type::kF64: return ISONORM_F64;
    case Type::kI8: return ISONORM_I8;
    case Type::kE4M3: return ISONORM_E4M3;
    case Type::kE5M2: return ISONORM_E5M2;
    case Type::kE8M0: return ISONORM_E8M0;
    case Type::kI32: return ISONORM_I32;
    case Type::kI64: return ISONORM_I64;
    case Type::kNone: break;
  }
  return isonorm_dtype{0, 0, 0};
}

double ValueAt(Role role, DataKind kind, uint64_t seed, uint64_t index, int64_t row) {
  const uint64_t own_seed = seed + static_cast<uint64_t>(role);
  if (role == Role::kX || role == Role::kDdx) return XAt(kind, own_seed, index, row);
  if (role == Role::kDy && kind == DataKind::kLeast) return index % 9 == 0 ? -0.0f : -std::fabs(PlainAt(own_seed, index)) / 8;
  if (role != Role::kGate) return PlainAt(own_seed, index);
  if (kind == DataKind::kSpecial) return XAt(kind, own_seed, index, row);
  constexpr std::array<float, 3> kReach = {1.0f, 4.0f, 40.0f};  // the last one takes silu beyond every limit it has
  return PlainAt(own_seed, index) * kReach[index % 3];
}

void Store(double value, Type type, uint8_t* out) {
  const float narrow = static_cast<float>(value);
  switch (type) {
    case Type::kF32: return Put(std::isnan(value) ? 0x7fc00000u : std::bit_cast<uint32_t>(narrow), out);
    case Type::kBf16: return Put(Bf16Bits(narrow), out);
    case Type::kF16: return Put(F16Bits(narrow), out);
    case Type::kF64: return Put(std::isnan(value) ? uint64_t{0x7ff8} << 48 : std::bit_cast<uint64_t>(value), out);
    default: return;  // the library alone quantises
  }
}

std::vector<uint8_t> MakeData(Role role, DataKind kind, uint64_t seed, int64_t rows, int64_t cols, Type type) {
  const size_t size = SizeOf(type);
  std::vector<uint8_t> bytes(static_cast<size_t>(rows) * static_cast<size_t>(cols) * size);
  uint8_t* out = bytes.data();
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col, out += size) {
      Store(ValueAt(role, kind, seed, static_cast<uint64_t>(row * cols + col), row), type, out);
    }
  }
  return bytes;
}

std::vector<uint8_t> MakeTable(Table table, uint64_t seed, int64_t rows, int64_t pairs, Type type) {
  const size_t size = SizeOf(type);
  std::vector<uint8_t> bytes(static_cast<size_t>(rows) * static_cast<size_t>(pairs) * size);
  for (size_t i = 0; i < bytes.size() / size; ++i) {
    const double tangent = PlainAt(seed + static_cast<uint64_t>(Role::kAngle), i), square = tangent * tangent;
    Store((table == Table::kCos ? 1 - square : 2 * tangent) / (1 + square), type, &bytes[i * size]);
  }
  return bytes;
}

std::vector<uint8_t> MakePositions(uint64_t seed, int64_t tokens, int64_t table_rows, Type type) {
  const size_t size = SizeOf(type);
  std::vector<uint8_t> bytes(static_cast<size_t>(tokens) * size);
  for (size_t i = 0; i < static_cast<size_t>(tokens); ++i) {
    const uint64_t position = BitsAt(seed + static_cast<uint64_t>(Role::kPosition), i) % static_cast<uint64_t>(table_rows);
    type == Type::kI64 ? Put(position, &bytes[i * size]) : Put(static_cast<uint32_t>(position), &bytes[i * size]);
  }
  return bytes;
}

}  // namespace isonorm_cli
