// Every case of the shipped golden file: the reference computes the file's digests, and the values behind them are where an
// oracle in long double says, within bounds that follow from counting roundings. And the proof that a wrong value would be
// seen.
#include "accuracy/golden_oracle.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <optional>

#include "accuracy/golden_norm.h"

namespace isonorm_test {
namespace {

using isonorm_cli::kOutputCount;
using isonorm_cli::kOutputNames;
using isonorm_cli::Output;
using isonorm_cli::Produced;
using isonorm_cli::Tally;

std::vector<GoldenCase> Cases() {
  const isonorm_cli::GoldenFile file = isonorm_cli::ParseGolden("public.tsv", isonorm_cli::ShippedGolden());
  EXPECT_EQ(file.error, "");
  return file.cases;
}

// What the reference makes of a case, with the digests of the file.
Produced Reference(const GoldenCase& golden) {
  EXPECT_EQ(isonorm_set_target("reference"), ISONORM_OK);
  Tally tally;
  Produced produced = CheckCase(golden, "reference", {{}}, &tally);
  isonorm_set_target(nullptr);
  EXPECT_TRUE(tally.passed()) << golden.id << ": " << (tally.first.empty() ? "nothing was compared" : tally.first[0].output);
  return produced;
}

// Equal values leave LayerNorm nothing but the rounding of their mean: the specification pins its bits, and mathematics says
// only that they are noise. And where sums may overflow, a round of ranks may send infinities, or none.
bool MayBeOpen(const GoldenCase& golden) {
  return golden.contract.statistic == ISONORM_STATISTIC_LAYER &&
         (golden.data == isonorm_cli::DataKind::kFlat || (golden.data == isonorm_cli::DataKind::kHuge && golden.ranks > 0));
}

TEST(GoldenOracle, EveryValueOfEveryCaseIsWithinItsBound) {
  struct Count {
    int cases = 0, outputs = 0;
    bool operator==(const Count&) const = default;
  };
  std::map<char, Count> counts;  // by the first letter of a case, which says where it came from
  Judgement all;
  for (const GoldenCase& golden : Cases()) {
    const Produced produced = Reference(golden);
    int64_t bytes = 0, outputs = 0;
    for (const auto& output : produced) outputs += output ? 1 : 0, bytes += output ? static_cast<int64_t>(output->size()) : 0;
    const Judgement judgement = Judge(golden, produced);
    EXPECT_EQ(judgement.wrong, "");
    EXPECT_EQ(judgement.outputs, outputs) << golden.id;
    EXPECT_EQ(judgement.values > 0, bytes > 0) << golden.id;
    EXPECT_TRUE(judgement.open == 0 || MayBeOpen(golden)) << golden.id;
    Count& count = counts[golden.id[0]];
    ++count.cases, count.outputs += static_cast<int>(outputs);
    all.values += judgement.values, all.open += judgement.open;
    all.quantised += judgement.quantised, all.ties += judgement.ties;
  }
  const std::map<char, Count> expected = {
      {'p', {596, 1419}}, {'q', {98, 284}}, {'r', {61, 150}}, {'d', {22, 87}}, {'t', {36, 134}}};
  EXPECT_TRUE(counts == expected);
  // What is left open is no value of most; and nearly all bytes have but one right value, so they were compared by ==.
  EXPECT_LE(all.open * 50, all.values);
  EXPECT_LE(all.ties * 50, all.quantised);
  EXPECT_EQ(all.quantised, 327772);
  std::printf("%lld values, %lld of them open; %lld quantised, %lld of them ties\n", static_cast<long long>(all.values),
              static_cast<long long>(all.open), static_cast<long long>(all.quantised), static_cast<long long>(all.ties));
}

// The type of an output; nothing for bytes.
std::optional<Type> TypeOfOutput(const GoldenCase& golden, Output output) {
  using isonorm_cli::Type;
  const std::map<Output, Type> types = {{isonorm_cli::kY, golden.out},          {isonorm_cli::kResidualOut, golden.residual},
                                        {isonorm_cli::kDx, golden.x},           {isonorm_cli::kDgate, golden.x},
                                        {isonorm_cli::kDweight, golden.weight}, {isonorm_cli::kDbias, golden.bias},
                                        {isonorm_cli::kDdy, golden.dy}};
  if (output == isonorm_cli::kScale && golden.quantization.scale_kind == ISONORM_SCALE_POWER_OF_TWO) return std::nullopt;
  const auto type = types.find(output);
  if (type == types.end()) return TypeOf(golden.compute());
  return isonorm_cli::SizeOf(type->second) == 1 ? std::nullopt : std::optional(TypeOf(type->second));
}

// The values of an output, each changed by `change`, which leaves those that it returns nothing for.
using Change = std::function<std::optional<long double>(size_t index, long double value)>;
bool Changed(const GoldenCase& golden, Output output, const Change& change, Produced* produced) {
  const std::optional<Type> type = TypeOfOutput(golden, output);
  std::vector<uint8_t>& bytes = *(*produced)[output];
  const size_t size = type ? FormatOf(*type).bytes : 1;
  bool any = false;
  for (size_t i = 0; i < bytes.size() / size; ++i) {
    const std::optional<long double> value = change(i, type ? Get(*type, &bytes[i * size]) : bytes[i]);
    if (!value) continue;
    any = true;
    type ? Put(*type, *value, &bytes[i * size]) : static_cast<void>(bytes[i] = static_cast<uint8_t>(*value));
  }
  return any;
}

// The place of the largest finite value; nothing if all are 0 or not finite.
std::optional<size_t> Largest(const GoldenCase& golden, Output output, Produced produced) {
  std::optional<size_t> largest;
  long double most = 0;
  const auto look = [&](size_t at, long double value) -> std::optional<long double> {
    if (std::isfinite(value) && std::fabs(value) > most) largest = at, most = std::fabs(value);
    return std::nullopt;
  };
  Changed(golden, output, look, &produced);
  return largest;
}

// Of every output of every case that the reference made, but of those that the oracle leaves open, one value is made wrong: the
// largest one by a thirtieth, or NaN; or a NaN is made a number; or a byte another one. All of that must be seen.
TEST(GoldenOracleGate, OneWrongValueOfAnyOutputIsSeen) {
  std::array<int, kOutputCount> seen = {};
  int nans = 0;
  for (const GoldenCase& golden : Cases()) {
    if (golden.id[0] == 'p' || MayBeOpen(golden)) continue;
    const Produced produced = Reference(golden);
    for (size_t i = 0; i < kOutputCount; ++i) {
      const auto output = static_cast<Output>(i);
      if (!produced[i] || produced[i]->empty()) continue;
      const bool bytes = !TypeOfOutput(golden, output);
      const std::optional<size_t> largest = Largest(golden, output, produced);
      const auto with = [&](size_t at, std::optional<long double> replaced) {
        return [=](size_t index, long double value) -> std::optional<long double> {
          if (index != at) return std::nullopt;
          return replaced ? replaced : bytes ? value + (value < 128 ? 64 : -64) : value * (1 + 1 / 30.0L);
        };
      };
      const auto is_seen = [&](const Change& change) {
        Produced wrong = produced;
        return !Changed(golden, output, change, &wrong) || !Judge(golden, wrong).wrong.empty();
      };
      // What a row of one column has for gradients is what is left of numbers that cancel.
      if (largest && golden.cols > 1) {
        EXPECT_TRUE(is_seen(with(*largest, std::nullopt))) << golden.id << " " << kOutputNames[i];
        ++seen[i];
      }
      if (bytes) continue;
      if (largest) {
        EXPECT_TRUE(is_seen(with(*largest, std::nanl("")))) << golden.id << " " << kOutputNames[i];
      }
      bool number = false;
      EXPECT_TRUE(is_seen([&](size_t, long double value) -> std::optional<long double> {
        if (!std::isnan(value) || number) return std::nullopt;
        number = true;
        return 1;
      })) << golden.id
          << " " << kOutputNames[i];
      nans += number ? 1 : 0;
    }
  }
  for (size_t i = 0; i < kOutputCount; ++i) EXPECT_GE(seen[i], 2) << kOutputNames[i];
  EXPECT_GE(nans, 20);
}

// How sharp the bounds are where nothing is rounded to a storage type on the way: all of y by 2^-19, which is 32 units, or one
// value of any other output by 2^-15 is too much.
TEST(GoldenOracleGate, F32BoundsAreSharp) {
  std::array<int, kOutputCount> seen = {};
  for (const GoldenCase& golden : Cases()) {
    const isonorm_contract& contract = golden.contract;
    if (golden.x != isonorm_cli::Type::kF32 || golden.cols == 1 || contract.scaled_rounding != ISONORM_ROUND_NONE ||
        contract.statistic != ISONORM_STATISTIC_RMS || contract.rotation_rounding == ISONORM_ROUND_TO_X ||
        golden.data != isonorm_cli::DataKind::kPlain) {
      continue;
    }
    const Produced produced = Reference(golden);
    for (size_t i = 0; i < kOutputCount; ++i) {
      const auto output = static_cast<Output>(i);
      if (!produced[i] || TypeOfOutput(golden, output) != Type::kF32) continue;
      const std::optional<size_t> largest = Largest(golden, output, produced);
      if (!largest) continue;
      Produced wrong = produced;
      const bool y = output == isonorm_cli::kY;
      const auto change = [&](size_t at, long double value) {
        return y || at == *largest ? std::optional(value * (1 + (y ? 0x1p-19L : 0x1p-15L))) : std::nullopt;
      };
      ASSERT_TRUE(Changed(golden, output, change, &wrong));
      EXPECT_NE(Judge(golden, wrong).wrong, "") << golden.id << " " << kOutputNames[i];
      ++seen[i];
    }
  }
  EXPECT_GT(seen[isonorm_cli::kY], 90);
  for (size_t i = 0; i < kOutputCount; ++i) EXPECT_TRUE(seen[i] > 0 || i == isonorm_cli::kScale) << kOutputNames[i];
}

TEST(GoldenOracleGate, AMissingOrAShorterOutputIsSeen) {
  const GoldenCase golden = Cases().front();
  Produced wrong = Reference(golden);
  EXPECT_EQ(Judge(golden, wrong).wrong, "");
  wrong[isonorm_cli::kY]->pop_back();
  EXPECT_NE(Judge(golden, wrong).wrong, "");
  wrong[isonorm_cli::kY].reset();
  EXPECT_NE(Judge(golden, wrong).wrong, "");
  wrong = Reference(golden);
  wrong[isonorm_cli::kDx] = std::vector<uint8_t>(4);
  EXPECT_NE(Judge(golden, wrong).wrong, "");
}

}  // namespace
}  // namespace isonorm_test
