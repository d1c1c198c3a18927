// Which tensors `stats` looks at, and in which order.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "glob.h"
#include "interrupt.h"
#include "stats/stats.h"

namespace isonorm_cli {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::string_view Digits(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < text.size() && IsDigit(text[end])) ++end;
  return text.substr(at, end - at);
}

std::string_view WithoutZeros(std::string_view digits) {
  const std::size_t first = digits.find_first_not_of('0');
  return first == std::string_view::npos ? std::string_view{} : digits.substr(first);
}

// Runs of digits are compared as numbers: layer 2 comes before layer 10.
bool NaturalLess(std::string_view a, std::string_view b) {
  std::size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (IsDigit(a[i]) && IsDigit(b[j])) {
      const std::string_view left = Digits(a, i), right = Digits(b, j);
      const std::string_view x = WithoutZeros(left), y = WithoutZeros(right);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
      i += left.size();
      j += right.size();
    } else if (a[i] != b[j]) {
      return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[j]);
    } else {
      ++i;
      ++j;
    }
  }
  if (i < a.size() || j < b.size()) return i == a.size();
  return a < b;  // 01 and 1
}

StatsTensor MakeTensor(const OpenFile& file, std::size_t number, const TensorInfo& info) {
  StatsTensor tensor;
  tensor.x = {&file.file, &info};
  tensor.file = number;
  tensor.cols = info.shape.empty() ? 1 : info.shape.back();  // a scalar is one row of one value
  tensor.rows = 1;
  for (std::size_t i = 0; i + 1 < info.shape.size(); ++i) tensor.rows *= info.shape[i];
  return tensor;
}

// Every glob must match somewhere, and what it matches must hold floating-point values. `matched` remembers over the files.
bool Selected(const OpenFile& file, const TensorInfo& info, const std::vector<Glob>& globs, std::vector<bool>& matched) {
  if (globs.empty()) return info.type != ElementType::kOther;
  bool any = false;
  for (std::size_t g = 0; g < globs.size(); ++g) {
    if (!globs[g].Matches(info.name)) continue;
    if (info.type == ElementType::kOther) {
      throw Failure(kBadInput,
                    fmt::format("{}: {}, which --tensor '{}' selects, is of type {}; stats reads F32, BF16, F16, F64",
                                file.file.path(), Printable(info.name), globs[g].text(), info.type_name));
    }
    matched[g] = any = true;
  }
  return any;
}

[[noreturn]] void RefuseFile(const OpenFile& file, const std::vector<std::string>& globs) {
  const std::string& path = file.file.path();
  if (!globs.empty()) {
    throw Failure(kBadInput, fmt::format("{}: no tensor matches --tensor '{}'", path, fmt::join(globs, "' or '")));
  }
  FirstFew reasons;
  for (const TensorInfo& info : file.header.tensors) reasons.Add(info, fmt::format("is of type {}", info.type_name));
  throw Failure(kBadInput, fmt::format("{}: holds no floating-point tensor{}{}; stats reads F32, BF16, F16, F64", path,
                                       reasons.empty() ? "" : ": ", reasons.text()));
}

}  // namespace

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

StatsPlan PlanStats(const StatsOptions& options) {
  StatsPlan plan;
  std::vector<Glob> globs(options.globs.begin(), options.globs.end());
  for (const std::string& path : options.inputs) {
    plan.files.push_back(std::make_unique<const OpenFile>(path));
    for (Glob& glob : globs) {
      if (const TensorInfo* const exact = plan.files.back()->header.Find(glob.text())) glob.Meet(exact->name);
    }
  }
  std::vector<bool> matched(globs.size());
  for (std::size_t number = 0; number < plan.files.size(); ++number) {
    const OpenFile& file = *plan.files[number];
    const auto first = static_cast<std::ptrdiff_t>(plan.tensors.size());
    for (const TensorInfo& info : file.header.tensors) {
      StopIfInterrupted();
      if (Selected(file, info, globs, matched)) {
        plan.tensors.push_back(MakeTensor(file, number, info));
      } else if (globs.empty()) {
        plan.left_out.push_back(MakeTensor(file, number, info));
      }
    }
    if (std::ssize(plan.tensors) == first) RefuseFile(file, options.globs);
    std::sort(plan.tensors.begin() + first, plan.tensors.end(),
              [](const StatsTensor& a, const StatsTensor& b) { return NaturalLess(a.x.info->name, b.x.info->name); });
  }
  for (std::size_t g = 0; g < matched.size(); ++g) {
    if (!matched[g]) {
      throw Failure(kBadInput,
                    fmt::format("{}: no tensor matches --tensor '{}'", fmt::join(options.inputs, ", "), options.globs[g]));
    }
  }
  return plan;
}

std::vector<FileSummary> SummariseFiles(const StatsPlan& plan, const std::vector<TensorReport>& reports) {
  struct Sums {
    double largest = 0, squares = 0;
    std::int64_t finite = 0;
  };
  std::vector<FileSummary> files(plan.files.size());
  std::vector<Sums> sums(files.size());
  for (std::size_t i = 0; i < files.size(); ++i) files[i].path = plan.files[i]->file.path();
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
