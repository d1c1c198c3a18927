#include "cpu/plan.h"

namespace isonorm {
namespace {

constexpr int64_t kKilo = 1 << 10, kMega = 1 << 20;
constexpr RowPlan Nothing(int64_t most) { return {most, 0, 0, 0}; }
constexpr RowPlan Near(int64_t most, int ahead) { return {most, ahead, 0, 64, true}; }
constexpr GradientPlan kOneByOne = {GradientFetch::kInDotsToo};

// Rows of two tensors, and 8-bit or gated ones, were measured on Zen 4 alone.
constexpr RowPlan kSeveral[] = {Nothing(2 * kKilo), {24 * kKilo, 1, 64, 64, false, 512}, {kEveryRow, 1, 64, 64, false, 256}};

// Zen 4: the CPU appears to drop prefetches when it has no room for them. Beyond 8 KB f32 asks for each line of the next row
// twice: once gave 85 % of the speed of a copy where twice gives 95 %, and in place 70 and 94 %. What is streamed leaves by a
// buffer, because streaming stores are slow while loads miss the first-level cache: with each line fetched once, eight lines at
// a time moved rows of 16 KB at 91 % of the speed of a copy, 64 lines at 80 %, each line by itself at two thirds.
constexpr RowPlan kZen4Wide[] = {Nothing(4 * kKilo), {8 * kKilo, 2, 0, 64, false, 512}, {kEveryRow, 1, 64, 64, false, 256}};
constexpr RowPlan kZen4Narrow[] = {Nothing(4 * kKilo),
                                   {8 * kKilo, 2, 0, 64, false, 512},
                                   {24 * kKilo, 2, 16, 48, false, 512},
                                   {kEveryRow, 1, 16, 48, false, 256}};

// Zen 5: each line once and no buffer, which moved f32 rows of 16 KB at 87 to 93 % of the speed of a copy, and the plan of Zen
// 4 at 77 to 84 %; rows of 2 KB had 45 %. In dx of bf16 it is the other way round: 51 and 66 %.
constexpr RowPlan kZen5[] = {Nothing(255),    Near(kKilo, 8),  Near(2 * kKilo, 4), Near(8 * kKilo, 2),
                             {16 * kKilo, 2}, {24 * kKilo, 1}, Near(kEveryRow, 1)};
constexpr RowPlan kZen5InPlace[] = {Nothing(255), Near(kKilo, 8), Near(8 * kKilo, 2), Near(kEveryRow, 1)};

// Zen 3, see docs/tuning.md: short rows as on Zen 5; of longer ones f32 asks for one half of a line in the sum, for the other
// in the write, so that memory is never idle. Rows that do not stay in the second-level cache are left to the hardware.
constexpr RowPlan kZen3Wide[] = {Nothing(255),       Near(kKilo, 8),           Near(2 * kKilo, 4),
                                 Near(4 * kKilo, 2), {256 * kKilo, 1, 32, 32}, Nothing(kEveryRow)};
constexpr RowPlan kZen3Narrow[] = {Nothing(255),       Near(kKilo, 8),   Near(2 * kKilo, 4),
                                   Near(4 * kKilo, 2), {256 * kKilo, 1}, Nothing(kEveryRow)};

// Intel's servers from Sapphire Rapids on, see docs/tuning.md: once and without a buffer, into L2. Above 4 KB, in place, a part
// is fetched in the sum, as much as is best.
constexpr RowPlan Far(int64_t most, int ahead) { return {most, ahead}; }
constexpr RowPlan kXeon[] = {Nothing(255),      Far(kKilo, 8),       Far(2 * kKilo, 4),
                             Far(4 * kKilo, 2), Far(256 * kKilo, 1), Nothing(kEveryRow)};
constexpr RowPlan kXeonWideInPlace[] = {
    Nothing(255), Far(kKilo, 8), Far(2 * kKilo, 4), Far(4 * kKilo, 2), {256 * kKilo, 1, 32, 32}, Nothing(kEveryRow)};
constexpr RowPlan kXeonNarrowInPlace[] = {
    Nothing(255), Far(kKilo, 8), Far(2 * kKilo, 4), Far(4 * kKilo, 2), {256 * kKilo, 1, 16, 48}, Nothing(kEveryRow)};

// Of plans that are the same for all rows the one that is nearest to the best on each of these CPUs.
constexpr RowPlan kOnce[] = {Nothing(255), {kKilo, 8}, {256 * kKilo, 2, 0, 64, false, 512}, Nothing(kEveryRow)};

constexpr Plan kDefault = {"default", {kOnce, kOnce}, {kOnce, kOnce}, kSeveral, {{GradientFetch::kInWrite}, kOneByOne}};
constexpr Plan kZen3Plan = {"zen3",
                            {kZen3Wide, kZen3Narrow},
                            {kZen3Wide, kZen3Narrow},
                            kSeveral,
                            {{GradientFetch::kNone, false, true}, {GradientFetch::kInWrite}},
                            16 * kMega};
constexpr Plan kZen4Plan = {"zen4", {kZen4Wide, kZen4Narrow}, {kZen4Wide, kZen4Narrow}, kSeveral, {kOneByOne, kOneByOne}};
constexpr Plan kZen5Plan = {
    "zen5", {kZen5, kZen5}, {kZen5InPlace, kZen5InPlace}, kSeveral, {{GradientFetch::kInWrite, true, true}, kOneByOne}};

constexpr Plan kXeonPlan = {"xeon",
                            {kXeon, kXeon},
                            {kXeonWideInPlace, kXeonNarrowInPlace},
                            kSeveral,
                            {{GradientFetch::kInWrite}, kOneByOne},
                            32 * kMega,
                            4 * kMega,
                            true};

constexpr const Plan* kPlans[] = {&kDefault, &kZen3Plan, &kZen4Plan, &kZen5Plan, &kXeonPlan};

constexpr bool AreWhole() {
  for (const Plan* plan : kPlans) {
    for (int narrow = 0; narrow < 2; ++narrow) {
      if (!IsWhole(plan->streamed[narrow], narrow != 0) || !IsWhole(plan->in_place[narrow], narrow != 0)) return false;
    }
    if (!IsWhole(plan->several, false)) return false;
  }
  return true;
}
static_assert(AreWhole());

// Zen 3 and Zen 4 are of one family. Zen 6 has models of Zen 5's.
struct Models {
  unsigned family, first, last;
  const Plan* plan;
};
constexpr Models kModels[] = {
    {0x19, 0x00, 0x0F, &kZen3Plan}, {0x19, 0x10, 0x1F, &kZen4Plan}, {0x19, 0x20, 0x5F, &kZen3Plan},
    {0x19, 0x60, 0xAF, &kZen4Plan}, {0x1A, 0x00, 0xFF, &kZen5Plan},
};

}  // namespace

const Plan& PlanOf(const Processor& processor) {
  if (processor.maker == Processor::kIntel && processor.avx512_fp16) return kXeonPlan;
  if (processor.maker != Processor::kAmd) return kDefault;
  for (const Models& models : kModels) {
    if (processor.family == models.family && processor.model >= models.first && processor.model <= models.last) {
      return *models.plan;
    }
  }
  return kDefault;
}

const Plan* PlanNamed(std::string_view name) {
  for (const Plan* plan : kPlans) {
    if (name == plan->name) return plan;
  }
  return nullptr;
}

}  // namespace isonorm
