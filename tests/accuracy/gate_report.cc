// Prints docs/accuracy-gates.md: silu, sigmoid and their derivatives for every f32, against f64. An argument N takes only every
// N-th bit pattern, which serves to try the program and not to make the page.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "isonorm/isonorm.hpp"

namespace {

constexpr size_t kBlock = 4096;
// The ranges of the table; the first and the last lie beyond what any function still distinguishes.
constexpr std::array<double, 15> kEdges = {-HUGE_VAL, -104, -88, -20, -2.0285, -0.5285, -0x1p-12, 0,
                                           0x1p-12,   0.5,  1,   8,   20,      104,     HUGE_VAL};
constexpr size_t kRanges = kEdges.size() - 1;
enum Column { kSilu, kSiluSlope, kSiluSlopeAbsolute, kSigmoid, kSigmoidSlope, kColumns };

struct Worst {
  double error = 0;
  float at = 0;  // the argument
  void Take(const Worst& other) {
    if (other.error > error) *this = other;
  }
};

struct Table {
  std::array<std::array<Worst, kColumns>, kRanges> worst = {};
  int64_t count = 0;
  bool falls = false;  // sigmoid somewhere, or silu above 0
  void Add(size_t range, Column column, double error, float at) {
    worst[range][column].Take({error >= 0 ? error : HUGE_VAL, at});  // NaN too
  }
  void Take(const Table& other) {
    for (size_t range = 0; range < kRanges; ++range) {
      for (size_t column = 0; column < kColumns; ++column) worst[range][column].Take(other.worst[range][column]);
    }
    count += other.count;
    falls |= other.falls;
  }
};

// |got - want| in ulp of f32 at `want`.
double UlpError(float got, double want) {
  if (static_cast<double>(got) == want) return 0;
  const int exponent = std::max(static_cast<int>(std::bit_cast<uint64_t>(want) >> 52 & 0x7FF) - 1023 - 23, -149);
  return std::fabs(static_cast<double>(got) - want) * std::bit_cast<double>(static_cast<uint64_t>(1023 - exponent) << 52);
}

struct Samples {
  std::vector<float> z = std::vector<float>(kBlock), ones = std::vector<float>(kBlock, 1.0f);
  std::array<std::vector<float>, 2> value = {ones, ones}, slope = {ones, ones};  // silu, sigmoid

  void Compute() {
    const std::int64_t n = kBlock;
    for (int i = 0; i < 2; ++i) {
      isonorm::contract contract = isonorm::contracts::torch;
      contract.gate_place = isonorm::gate_place::after;
      contract.gate_function = i == 0 ? isonorm::gate_function::silu : isonorm::gate_function::sigmoid;
      const isonorm::const_tensor x(ones, 1, n), gate(z, 1, n);
      const auto f = static_cast<size_t>(i);
      isonorm::forward(contract, 0, {.x = x, .gate = gate, .y = {value[f], 1, n}});
      isonorm::backward(contract, 0, {.dy = x, .x = x, .gate = gate, .dgate = {slope[f], 1, n}});
    }
  }
};

void Judge(const Samples& samples, Table* table) {
  for (size_t i = 0; i < kBlock; ++i) {
    const double z = static_cast<double>(samples.z[i]);
    if (z != z) {
      ++table->count;
      for (const float got : {samples.value[0][i], samples.value[1][i], samples.slope[0][i], samples.slope[1][i]}) {
        if (std::bit_cast<uint32_t>(got) != 0x7FC00000u) table->Add(0, kSilu, HUGE_VAL, samples.z[i]);
      }
      continue;
    }
    size_t range = 0;
    while (range + 1 < kRanges && !(z < kEdges[range + 1])) ++range;
    const double e = std::exp(-std::fabs(z)), d = 1 / (1 + e);
    const double sigmoid = z >= 0 ? d : e * d, rest = z >= 0 ? e * d : d;
    const bool finite = std::fabs(z) < HUGE_VAL;
    const double silu = finite ? z * sigmoid : z > 0 ? z : -0.0, slope = finite ? sigmoid * (1 + z * rest) : z > 0 ? 1 : 0;
    const float at = samples.z[i];
    const double slope_error = std::fabs(static_cast<double>(samples.slope[0][i]) - slope) * 0x1p24;
    table->Add(range, kSilu, UlpError(samples.value[0][i], silu), at);
    table->Add(range, kSiluSlope, UlpError(samples.slope[0][i], slope), at);
    table->Add(range, kSiluSlopeAbsolute, slope_error, at);
    table->Add(range, kSigmoid, UlpError(samples.value[1][i], sigmoid), at);
    table->Add(range, kSigmoidSlope, UlpError(samples.slope[1][i], sigmoid * rest), at);
    ++table->count;
  }
}

// The arguments rise from one bit pattern to the next above 0, and fall below.
void Compare(const Samples& samples, size_t i, const std::array<float, 2>& before, Table* table) {
  const float z = samples.z[i];
  if (z > 0) table->falls |= samples.value[0][i] < before[0] || samples.value[1][i] < before[1];
  if (z < 0) table->falls |= samples.value[1][i] > before[1];
}

Table Run(uint64_t begin, uint64_t end, uint64_t step) {
  Table table;
  Samples samples;
  std::array<float, 2> before = {0, 0.5f};  // what silu and sigmoid are at 0
  for (uint64_t at = begin; at < end;) {
    for (float& z : samples.z) {
      z = std::bit_cast<float>(static_cast<uint32_t>(at < end ? at : begin));  // a short block repeats a pattern
      at += step;
    }
    samples.Compute();
    Judge(samples, &table);
    for (size_t i = 0; i < kBlock && at <= end; ++i) {
      Compare(samples, i, before, &table);
      before = {samples.value[0][i], samples.value[1][i]};
    }
  }
  return table;
}

// Where an error in ulp says nothing.
bool IsDifference(size_t range, size_t column) { return column == kSiluSlope && kEdges[range + 1] == -0.5285; }

void Print(const Table& table) {
  std::printf(
      "# Accuracy of the gates\n\nsilu, sigmoid and their derivatives for every one of the 2^32 f32 arguments, against f64: "
      "the "
      "worst error in\nulp of the result. Around its zero at -1.2785 the derivative of silu is a difference, so its absolute "
      "error is\ngiven too, in 2^-24. Every NaN gave the canonical NaN. A slow test compares this page with the output of\n\n"
      "    build/bin/gate_report > docs/accuracy-gates.md\n\n"
      "| argument | silu | its derivative | the same, 2^-24 | sigmoid | its derivative |\n| --- | --- | --- | --- | --- | --- "
      "|\n");
  for (size_t range = 0; range < kRanges; ++range) {
    if (range == 0) {
      std::printf("| below %g |", kEdges[1]);
    } else if (range + 1 == kRanges) {
      std::printf("| from %g on |", kEdges[range]);
    } else {
      std::printf("| %g to %g |", kEdges[range], kEdges[range + 1]);
    }
    for (size_t column = 0; column < kColumns; ++column) {
      std::printf(IsDifference(range, column) ? " |" : " %.2f |", table.worst[range][column].error);
    }
    std::printf("\n");
  }
  std::array<Worst, kColumns> all = {};
  for (size_t range = 0; range < kRanges; ++range) {
    for (size_t column = 0; column < kColumns; ++column) {
      if (!IsDifference(range, column)) all[column].Take(table.worst[range][column]);
    }
  }
  const auto print = [&](const char* what, Column column, const char* unit, const char* end) {
    std::printf("| %s | %.4f%s | %a |\n%s", what, all[column].error, unit, static_cast<double>(all[column].at), end);
  };
  std::printf("\n| worst | error | at |\n| --- | --- | --- |\n");
  print("silu", kSilu, " ulp", "");
  print("its derivative", kSiluSlope, " ulp", "");
  print("the same", kSiluSlopeAbsolute, " · 2^-24", "");
  print("sigmoid", kSigmoid, " ulp", "");
  print("its derivative", kSigmoidSlope, " ulp", "\n");
  std::printf("%s\n", table.falls
                          ? "Sigmoid falls somewhere, or silu does above 0."
                          : "From one f32 to the next, over all of them, sigmoid never falls, and silu never does above 0.");
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t step = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
  constexpr uint64_t kAll = uint64_t{1} << 32, kHalf = kAll / 2;
  if (step == 0) return 2;
  Table tables[2];
  std::thread other([&] { tables[1] = Run(kHalf, kAll, step); });  // negative arguments
  tables[0] = Run(0, kHalf, step);
  other.join();
  tables[0].Take(tables[1]);
  Print(tables[0]);
  return step == 1 && tables[0].count != static_cast<int64_t>(kAll) ? 1 : 0;
}
