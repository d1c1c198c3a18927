#include "golden_maker.h"

#include <algorithm>
#include <vector>

#include "golden/run.h"

namespace core_test {
namespace {

using isonorm_cli::GoldenCase;
using isonorm_cli::kOutputCount;
using isonorm_cli::kOutputNames;

std::vector<std::string> Split(std::string_view line) {
  std::vector<std::string> fields;
  for (size_t begin = 0;;) {
    const size_t end = line.find('\t', begin);
    fields.emplace_back(line.substr(begin, end - begin));
    if (end == std::string_view::npos) return fields;
    begin = end + 1;
  }
}

std::string Join(const std::vector<std::string>& fields) {
  std::string line;
  for (const std::string& field : fields) line += (line.empty() ? "" : "\t") + field;
  return line + "\n";
}

// The digests of what the case gives, and whether it gives the same once more, without any fault.
bool Compute(GoldenCase* golden, std::string* error) {
  isonorm_cli::Tally first, second;
  const isonorm_cli::Produced produced = CheckCase(*golden, "reference", {{}}, &first);
  for (size_t output = 0; output < kOutputCount; ++output) {
    golden->expected[output] = produced[output] ? isonorm_cli::DigestOf(*produced[output]) : std::nullopt;
  }
  CheckCase(*golden, "reference", {{}}, &second);
  if (second.passed()) return true;
  *error =
      golden->id + ": " + (second.first.empty() ? "nothing was called" : second.first[0].output + ": " + second.first[0].got);
  return false;
}

}  // namespace

std::string MakeGolden(std::string_view text, std::string* error) {
  const std::string before = isonorm_target();
  isonorm_set_target("reference");
  isonorm_cli::GoldenFile file = isonorm_cli::ParseGolden("golden file", text);
  *error = file.error;
  std::string made;
  std::vector<std::string> head;
  auto golden = file.cases.begin();
  for (size_t begin = 0; begin < text.size() && error->empty();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    std::vector<std::string> fields = Split(line);
    const bool comment = line.empty() || line.front() == '#';
    if (!comment && (head.empty() || fields.front() == "case")) {
      head = fields;
    } else if (!comment) {
      if (!Compute(&*golden, error)) break;
      for (size_t output = 0; output < kOutputCount; ++output) {
        const auto column = static_cast<size_t>(std::find(head.begin(), head.end(), kOutputNames[output]) - head.begin());
        const isonorm_cli::Digest digest = golden->expected[output];
        if (column < head.size()) fields[column] = isonorm_cli::ToString(digest);
        if (column == head.size() && digest) *error = golden->id + ": there is no column '" + kOutputNames[output] + "'";
      }
      ++golden;
    }
    made += comment ? std::string(line) + "\n" : Join(fields);
  }
  isonorm_set_target(before.c_str());
  return error->empty() ? made : "";
}

}  // namespace core_test
