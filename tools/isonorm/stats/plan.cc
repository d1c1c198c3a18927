// Which tensors `stats` looks at, and in which order.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "glob.h"
#include "interrupt.h"
#include "stats/files.h"
#include "stats/names.h"

namespace isonorm_cli {
namespace {

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

FilePlan PlanStats(const FileStatsOptions& options) {
  FilePlan plan;
  std::vector<Glob> globs(options.globs.begin(), options.globs.end());
  for (const std::string& path : options.inputs) {
    plan.files.push_back(std::make_unique<const OpenFile>(path));
    plan.paths.push_back(path);
    for (Glob& glob : globs) {
      if (const TensorInfo* const exact = plan.files.back()->header.Find(glob.text())) glob.Meet(exact->name);
    }
  }
  std::vector<bool> matched(globs.size());
  for (std::uint32_t number = 0; number < plan.files.size(); ++number) {
    const OpenFile& file = *plan.files[number];
    const auto first = static_cast<std::ptrdiff_t>(plan.tensors.size());
    for (const TensorInfo& info : file.header.tensors) {
      StopIfInterrupted();
      if (Selected(file, info, globs, matched)) {
        plan.tensors.push_back(MakeStatsTensor(info, Stored{&file.file, &info}.type(), number));
      } else if (globs.empty()) {
        plan.left_out.push_back(MakeStatsTensor(info, {}, number));
      }
    }
    if (std::ssize(plan.tensors) == first) RefuseFile(file, options.globs);
    std::sort(plan.tensors.begin() + first, plan.tensors.end(),
              [](const StatsTensor& a, const StatsTensor& b) { return NaturalLess(a.info->name, b.info->name); });
  }
  for (std::size_t g = 0; g < matched.size(); ++g) {
    if (!matched[g]) {
      throw Failure(kBadInput,
                    fmt::format("{}: no tensor matches --tensor '{}'", fmt::join(options.inputs, ", "), options.globs[g]));
    }
  }
  return plan;
}

}  // namespace isonorm_cli
