// Prints docs/accuracy.md: the library's results against the oracle. Its bits are the same everywhere, so the page is too,
// and a test compares it byte by byte with what this program prints.
#include <algorithm>
#include <cstdio>

#include "accuracy/bounds.h"
#include "accuracy/layer_norm_data.h"
#include "accuracy/metrics.h"
#include "accuracy/rms_calls.h"
#include "accuracy/variants.h"

namespace isonorm_test {
namespace {

constexpr Type kNarrow[] = {Type::kF32, Type::kBf16, Type::kF16};

int64_t RowsFor(int64_t cols) { return std::max<int64_t>(8, 40000 / cols); }

// "| a | b |" and the line below a heading.
void Head(const std::vector<std::string>& cells) {
  std::string names = "|", line = "|";
  for (const std::string& cell : cells) {
    names += " " + cell + " |";
    line += " --- |";
  }
  std::printf("%s\n%s\n", names.c_str(), line.c_str());
}

void Cell(const char* format, long double value) {
  std::printf(" ");
  std::printf(format, static_cast<double>(value));
  std::printf(" |");
}

void ForwardF32() {
  std::printf(
      "\n## f32 forward\n\nWorst ulp of y (contract `torch`, f32 weight), by kind of data and width; the limit is 3.5. "
      "The last column is the\nmean over all widths.\n\n");
  const std::vector<int64_t> widths = {64, 128, 384, 768, 1024, 2048, 4096, 8192, 16384};
  std::vector<std::string> head = {"data"};
  for (const int64_t cols : widths) head.push_back(std::to_string(cols));
  head.push_back("mean");
  Head(head);
  for (const char* kind : kKinds) {
    std::printf("| %s |", kind);
    long double mean = 0;
    for (const int64_t cols : widths) {
      Problem problem = MakeProblem(ISONORM_CONTRACT_TORCH, kind, Type::kF32, Type::kF32, RowsFor(cols), cols);
      const Errors errors = UlpErrors(RunForward(problem, Type::kF32).y, Solve(problem).y);
      Cell("%.2f", errors.worst());
      mean += errors.mean() / static_cast<long double>(widths.size());
    }
    Cell("%.3f", mean);
    std::printf("\n");
  }
}

void SixteenBits() {
  std::printf(
      "\n## 16-bit outputs\n\nWorst ulp of y on plain data (contract `torch`, 50 rows of 4096), and how many of the results "
      "are the exact\n"
      "value correctly rounded; 0.5 ulp is the best that is possible, the limit is 0.51.\n\n");
  Head({"x and y", "weight", "worst ulp", "correctly rounded"});
  for (const Type type : {Type::kBf16, Type::kF16}) {
    for (const Type weight : {type, Type::kF32}) {
      Problem problem = MakeProblem(ISONORM_CONTRACT_TORCH, "plain", type, weight, 50, 4096);
      const Tensor y = RunForward(problem, type).y;
      const Values want = Solve(problem).y;
      int64_t right = 0;
      for (int64_t i = 0; i < y.size(); ++i) right += y[i] == RoundTo(type, want[static_cast<size_t>(i)]);
      std::printf("| %s | %s |", FormatOf(type).name, FormatOf(weight).name);
      Cell("%.4f", UlpErrors(y, want).worst());
      Cell("%.3f %%", 100 * static_cast<long double>(right) / static_cast<long double>(y.size()));
      std::printf("\n");
    }
  }
}

void Mixes() {
  std::printf("\n## Every mix of types\n\nWorst ulp of y in its own type (contract `gemma`, 30 rows of 1024, plain data).\n\n");
  Head({"x", "weight", "y f32", "y bf16", "y f16"});
  for (const Type x : kNarrow) {
    for (const Type weight : kNarrow) {
      std::printf("| %s | %s |", FormatOf(x).name, FormatOf(weight).name);
      for (const Type y : kNarrow) {
        Problem problem = MakeProblem(ISONORM_CONTRACT_GEMMA, "plain", x, weight, 30, 1024);
        Cell("%.3f", UlpErrors(RunForward(problem, y).y, Solve(problem).y).worst());
      }
      std::printf("\n");
    }
  }
}

void Magnitudes() {
  std::printf(
      "\n## No row overflows or vanishes\n\nWorst ulp of y for f32 rows of 1024 values of this size, eps 0, no weight.\n\n");
  const std::vector<int> exponents = {-140, -126, -100, -60, -50, -48, -30, 0, 30, 58, 60, 64, 100, 125};
  std::vector<std::string> head = {"size"}, line;
  for (const int exponent : exponents) head.push_back("2^" + std::to_string(exponent));
  Head(head);
  std::printf("| ulp |");
  for (const int exponent : exponents) {
    Problem problem;
    problem.eps = 0;
    Random random(static_cast<uint64_t>(exponent + 1000));
    problem.x = Tensor(Type::kF32, {40, 1024}).Fill([&](int64_t) {
      return std::ldexp(static_cast<long double>(random.Plain()), exponent);
    });
    Cell("%.2f", UlpErrors(RunForward(problem, Type::kF32).y, Solve(problem).y).worst());
  }
  std::printf("\n");
}

void LayerNorm() {
  std::printf(
      "\n## LayerNorm far from zero\n\nWorst error of y in f32 where the mean is so many times the deviation, relative to "
      "max(1, |y|); "
      "the limit is 4.4e-7.\n\n");
  const std::vector<int64_t> widths = {384, 768, 1024, 4096, 8192};
  std::vector<std::string> head = {"mean / deviation"};
  for (const int64_t cols : widths) head.push_back(std::to_string(cols));
  Head(head);
  for (const double ratio : {0.0, 1.0, 10.0, 1e2, 1e3, 1e4, 9e4}) {
    std::printf("| %g |", ratio);
    for (const int64_t cols : widths) {
      Problem problem = MakeFar(ratio, cols, Type::kF32);
      Cell("%.2e", ScaledErrors(RunForward(problem, Type::kF32).y, Solve(problem).y).worst());
    }
    std::printf("\n");
  }
}

struct Column {
  Tensor Outputs::*got;
  Values Answer::*want;
  Values Answer::*terms;
  double Bounds::*bound;
};

void Gradients(Type type) {
  constexpr Column kColumns[] = {{&Outputs::y, &Answer::y, &Answer::y_terms, &Bounds::y},
                                 {&Outputs::dx, &Answer::dx, &Answer::dx_terms, &Bounds::dx},
                                 {&Outputs::dweight, &Answer::dweight, &Answer::dweight_terms, &Bounds::dweight},
                                 {&Outputs::dbias, &Answer::dbias, &Answer::dbias_terms, &Bounds::dbias},
                                 {&Outputs::dgate, &Answer::dgate, &Answer::dgate_terms, &Bounds::dgate}};
  std::printf("\n### %s\n\n", FormatOf(type).name);
  Head({"variant", "y", "bound", "dx", "bound", "dweight", "bound", "dbias", "bound", "dgate", "bound"});
  for (const Variant& variant : Variants()) {
    if (type == Type::kF64 && HasGate(variant)) continue;
    Errors errors[5];
    double bounds[5] = {};
    for (const int64_t cols : {96, 768, 3072}) {
      Problem problem = MakeVariant(variant, type, 40, cols);
      Outputs out = RunBackward(problem);
      out.y = RunForward(problem, type).y;
      const Answer answer = Solve(problem);
      for (size_t i = 0; i < 5; ++i) {
        const Column& column = kColumns[i];
        if (!(out.*column.got).present()) continue;
        errors[i].Add(TermErrors(out.*column.got, answer.*column.want, answer.*column.terms).worst());
        bounds[i] = std::max(bounds[i], BoundsOf(problem).*column.bound);
      }
    }
    std::printf("| %s |", variant.name);
    for (size_t i = 0; i < 5; ++i) {
      if (errors[i].count() == 0) {
        std::printf(" | |");
      } else {
        Cell("%.1f", errors[i].worst());
        Cell("%.0f", bounds[i]);
      }
    }
    std::printf("\n");
  }
}

void Rms() {
  std::printf("\n## isonorm_rms\n\nWorst ulp of the RMS of rows with outliers, in the compute type.\n\n");
  const std::vector<int64_t> widths = {3, 64, 768, 4096, 16384};
  std::vector<std::string> head = {"x"};
  for (const int64_t cols : widths) head.push_back(std::to_string(cols));
  Head(head);
  for (const Type type : {Type::kF32, Type::kBf16, Type::kF16, Type::kF64}) {
    std::printf("| %s |", FormatOf(type).name);
    for (const int64_t cols : widths) {
      RmsCall call(MakeX("outliers", type, 50, cols, static_cast<uint64_t>(cols)));
      const std::string error = call.Rms();
      Cell("%.2f", error.empty() ? UlpErrors(call.rms, call.Want()).worst() : HUGE_VALL);
    }
    std::printf("\n");
  }
}

}  // namespace
}  // namespace isonorm_test

int main() {
  using namespace isonorm_test;
  std::printf(
      "# Accuracy\n\nMeasured against the formulas in long double with compensated sums (`tests/accuracy/oracle.cc`), which "
      "know nothing of "
      "the\nlibrary's order. One ulp is the distance between neighbouring numbers of the type, at the exact value. The bits "
      "are the "
      "same\non every machine, so these tables are too: a test compares this page with the output of\n\n    "
      "build/bin/accuracy_report > "
      "docs/accuracy.md\n");
  ForwardF32();
  SixteenBits();
  Mixes();
  Magnitudes();
  LayerNorm();
  std::printf(
      "\n## Gradients, and every variant\n\nWorst error in units of 2^-24 (f32) or 2^-53 (f64) of the size of the terms that "
      "are added, beyond the half ulp "
      "of the store,\nover 40 rows of 96, 768 and 3072 columns; beside it the bound that follows from counting the roundings\n"
      "(`tests/accuracy/bounds.h`). The formulas themselves are tested against central differences.\n");
  Gradients(Type::kF32);
  Gradients(Type::kF64);
  Rms();
  return 0;
}
