// What tables, JSON and pages say about a tensor and about a file.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "stats/names.h"
#include "stats/stats.h"

namespace isonorm_cli {

StatsTensor MakeStatsTensor(const TensorInfo& info, isonorm::dtype type, std::uint32_t file) {
  StatsTensor tensor = {
      .info = &info, .type = type, .file = file, .rows = 1, .cols = info.shape.empty() ? 1 : info.shape.back()};
  for (std::size_t i = 0; i + 1 < info.shape.size(); ++i) tensor.rows *= info.shape[i];
  return tensor;
}

// The layer is the first number that stands alone between separators, or after the word layer or block: h.11.ln_1, layer2.norm.
Layer LayerOf(const std::string& name) {
  const auto separator = [](char c) { return c == '.' || c == '_' || c == '/' || c == '-'; };
  for (std::size_t i = 0; i < name.size();) {
    if (!IsDigit(name[i])) {
      ++i;
      continue;
    }
    const std::string_view digits = Digits(name, i);
    const std::string_view before = std::string_view(name).substr(0, i);
    const std::size_t end = i + digits.size();
    const bool starts = before.empty() || separator(before.back()) || before.ends_with("layer") || before.ends_with("block");
    if (starts && (end == name.size() || separator(name[end])) && digits.size() <= 6) {
      return {name.substr(0, i) + "*" + name.substr(end), std::stoll(std::string(digits))};
    }
    i = end;
  }
  return {name};
}

std::string NumberText(double value) {
  if (std::isnan(value)) return "-";
  const double a = std::abs(value);
  return a == 0 || (a >= 1e-3 && a < 1e6) ? fmt::format("{:.4g}", value) : fmt::format("{:.3e}", value);
}

std::string Remarks(const TensorReport& r) {
  const std::int64_t values = r.tensor->rows * r.tensor->cols;
  if (values == 0) return "empty";
  std::vector<std::string> words;
  const auto add = [&](std::int64_t count, const char* one, const char* many) {
    if (count > 0) words.push_back(fmt::format("{} {}", count, count == 1 ? one : many));
  };
  add(r.nan, "NaN", "NaN");
  add(r.infinite, "infinity", "infinities");
  if (r.zeros == values) words.emplace_back("all zero");
  add(r.subnormal, "subnormal", "subnormal");
  add(r.f16_overflow, "value above 65504, the largest f16", "values above 65504, the largest f16");
  add(r.f16_to_zero, "value would be zero in f16", "values would be zero in f16");
  add(r.f32_overflow_rows, "row whose plain f32 sum of squares overflows", "rows whose plain f32 sum of squares overflows");
  add(r.f32_vanish_rows, "row whose plain f32 sum of squares vanishes", "rows whose plain f32 sum of squares vanishes");
  add(r.constant, "constant row", "constant rows");
  return fmt::format("{}", fmt::join(words, "; "));
}

std::vector<FileSummary> SummariseFiles(const StatsPlan& plan, const std::vector<TensorReport>& reports) {
  struct Sums {
    double largest = 0, squares = 0;
    std::int64_t finite = 0;
  };
  std::vector<FileSummary> files(plan.paths.size());
  std::vector<Sums> sums(files.size());
  for (std::size_t i = 0; i < files.size(); ++i) files[i].path = plan.paths[i];
  for (const TensorReport& r : reports) {
    FileSummary& file = files[r.tensor->file];
    Sums& sum = sums[r.tensor->file];
    ++file.tensors;
    file.values += r.tensor->rows * r.tensor->cols;
    if (r.finite > 0) sum.largest = std::max(sum.largest, r.rms);
  }
  for (const TensorReport& r : reports) {  // relative to the largest, so that no square overflows
    Sums& sum = sums[r.tensor->file];
    if (r.finite == 0) continue;
    const double share = sum.largest > 0 ? r.rms / sum.largest : 0;
    sum.squares += share * share * static_cast<double>(r.finite);
    sum.finite += r.finite;
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    const Sums& sum = sums[i];
    if (sum.finite > 0) files[i].rms = sum.largest * std::sqrt(sum.squares / static_cast<double>(sum.finite));
  }
  return files;
}

}  // namespace isonorm_cli
