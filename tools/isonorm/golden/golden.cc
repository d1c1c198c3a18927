#include "golden/golden.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <new>
#include <utility>

namespace isonorm_cli {
namespace {

constexpr int64_t kMaxElements = int64_t{1} << 30;  // more is a broken line, not a test
constexpr int64_t kMaxRanks = 1024;

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> fields;
  for (size_t begin = 0;;) {
    const size_t end = text.find(separator, begin);
    fields.push_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return fields;
    begin = end + 1;
  }
}

// The fields of one line by name. The first field that is missing or has no allowed value leaves its sentence in `error`.
class Line {
 public:
  Line(const std::vector<std::string_view>& head, const std::vector<std::string_view>& fields) {
    for (size_t i = 0; i < head.size(); ++i) fields_[head[i]] = fields[i];
  }

  std::string_view Text(std::string_view column) {
    const auto field = fields_.find(column);
    if (field != fields_.end()) return field->second;
    Fail("there is no column '" + std::string(column) + "'");
    return "";
  }

  template <class Number>
  Number Num(std::string_view column, Number least) {
    const std::string_view text = Text(column);
    Number value{};
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc() || end != text.data() + text.size() || !(value >= least)) Reject(column);
    return value;
  }

  template <class Value>
  Value Choice(std::string_view column, std::initializer_list<std::pair<std::string_view, Value>> choices) {
    const std::string_view text = Text(column);
    for (const auto& [name, value] : choices) {
      if (name == text) return value;
    }
    Reject(column);
    return choices.begin()->second;
  }

  bool Has(std::string_view column) const { return fields_.contains(column); }

  // Of a column that older files do not have.
  int64_t Count(std::string_view column, int64_t least, int64_t otherwise) {
    return Has(column) ? Num<int64_t>(column, least) : otherwise;
  }

  Type ElementType(std::string_view column, bool optional) {
    const std::optional<Type> type = TypeOf(Text(column));
    if (!type || (*type == Type::kNone && !optional)) Reject(column);
    return type.value_or(Type::kNone);
  }

  DataKind Kind(std::string_view column) {
    const std::optional<DataKind> kind = DataKindOf(Text(column));
    if (!kind) Reject(column);
    return kind.value_or(DataKind::kPlain);
  }

  Digest DigestOf(std::string_view column) {
    const std::string_view text = Text(column);
    if (text == "-") return std::nullopt;
    uint64_t value = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    if (code != std::errc() || end != text.data() + text.size() || text.size() != 16) Reject(column);
    return value;
  }

  void Reject(std::string_view column) {
    Fail("column '" + std::string(column) + "' cannot be '" + std::string(Text(column)) + "'");
  }
  const std::string& error() const { return error_; }

 private:
  void Fail(std::string sentence) {
    if (error_.empty()) error_ = std::move(sentence);
  }

  std::map<std::string_view, std::string_view> fields_;
  std::string error_;
};

isonorm_contract ParseContract(Line& line) {
  isonorm_contract contract = {};
  contract.struct_size = sizeof(contract);
  contract.statistic = line.Choice<int32_t>("statistic", {{"rms", ISONORM_STATISTIC_RMS}, {"layer", ISONORM_STATISTIC_LAYER}});
  contract.eps_place = line.Choice<int32_t>("eps_place", {{"inside", ISONORM_EPS_INSIDE}, {"outside", ISONORM_EPS_OUTSIDE}});
  contract.scaled_rounding = line.Choice<int32_t>(
      "scaled_rounding", {{"none", ISONORM_ROUND_NONE}, {"to_x", ISONORM_ROUND_TO_X}, {"to_weight", ISONORM_ROUND_TO_WEIGHT}});
  contract.sum_rounding = line.Choice<int32_t>("sum_rounding", {{"stored", ISONORM_SUM_STORED}, {"kept", ISONORM_SUM_KEPT}});
  using Gate = std::pair<int32_t, int32_t>;
  const Gate gate = line.Choice<Gate>("gate", {{"-", {ISONORM_GATE_NONE, ISONORM_GATE_SILU}},
                                               {"before", {ISONORM_GATE_BEFORE, ISONORM_GATE_SILU}},
                                               {"after", {ISONORM_GATE_AFTER, ISONORM_GATE_SILU}},
                                               {"before_sigmoid", {ISONORM_GATE_BEFORE, ISONORM_GATE_SIGMOID}},
                                               {"after_sigmoid", {ISONORM_GATE_AFTER, ISONORM_GATE_SIGMOID}}});
  contract.gate_place = gate.first;
  contract.gate_function = gate.second;
  contract.weight_offset = line.Num<double>("weight_offset", -0x1p100);
  return contract;
}

// Columns that older files, and lines of other variants, do not have.
void ParseQuantization(Line& line, GoldenCase* c) {
  if (!line.Has("scale_kind")) return;
  const auto kind = line.Choice<int32_t>("scale_kind", {{"-", 0},
                                                        {"static", ISONORM_SCALE_STATIC},
                                                        {"dynamic", ISONORM_SCALE_DYNAMIC},
                                                        {"power_of_two", ISONORM_SCALE_POWER_OF_TWO}});
  const auto number = line.Num<double>("scale_number", 0.0);  // the static scale, or min_scale
  const auto upper = line.Num<double>("scale_ub", 0.0);
  const auto group = line.Num<int64_t>("scale_group", 0);
  const Type rounded_to = line.ElementType("round_to", true);
  if ((kind != 0) != (SizeOf(c->out) == 1)) line.Reject("out");
  if (kind == 0) return;
  isonorm_quantization& q = c->quantization;
  q.struct_size = sizeof(q);
  q.scale_kind = kind;
  q.rounded_to = DtypeOf(rounded_to);
  q.group_cols = group;
  q.scale_ub = upper;
  if (c->has_static_scale()) {
    c->static_scale = static_cast<float>(number);
  } else {
    q.min_scale = number;
  }
}

void ParseRotation(Line& line, GoldenCase* c) {
  c->contract.rotation_rounding = ISONORM_ROUND_NONE;
  if (!line.Has("rope")) return;
  c->rope = line.Choice<int32_t>("rope", {{"-", 0}, {"half", ISONORM_ROPE_HALF}, {"interleaved", ISONORM_ROPE_INTERLEAVED}});
  c->contract.rotation_rounding =
      line.Choice<int32_t>("rotation_rounding", {{"none", ISONORM_ROUND_NONE}, {"to_x", ISONORM_ROUND_TO_X}});
  c->table = line.ElementType("table", c->rope == 0);
  c->positions = line.ElementType("positions", true);
  c->pairs = line.Num<int64_t>("pairs", 0);
  c->table_rows = line.Num<int64_t>("table_rows", c->rope != 0 ? 1 : 0);
  c->position_offset = line.Num<int64_t>("position_offset", 0);
  c->heads = line.Num<int64_t>("heads", 1);
  if (c->pairs > c->cols) line.Reject("pairs");
  if (c->table_rows > kMaxElements / (c->pairs > 0 ? c->pairs : 1)) line.Reject("table_rows");
  if (c->heads < 1 || c->rows % c->heads != 0) line.Reject("heads");
}

bool IsControl(char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; }

GoldenCase ParseCase(Line& line) {
  GoldenCase c;
  c.id = line.Text("case");
  c.op =
      line.Choice<Op>("op", {{"forward", Op::kForward}, {"backward", Op::kBackward}, {"double_backward", Op::kDoubleBackward}});
  c.contract = ParseContract(line);
  c.eps = line.Num<double>("eps", 0.0);
  c.x = line.ElementType("x", false);
  c.weight = line.ElementType("weight", true);
  c.bias = line.ElementType("bias", true);
  c.out = line.ElementType("out", false);
  c.residual = line.ElementType("residual", true);
  c.dy = line.ElementType("dy", c.op == Op::kForward);
  c.dresidual = line.ElementType("dresidual", true);
  if (line.Has("ddx")) c.ddx = line.ElementType("ddx", true);
  if (line.Has("ddw")) c.ddweight = line.ElementType("ddw", true);
  c.rows = line.Num<int64_t>("rows", 0);
  c.cols = line.Num<int64_t>("cols", 1);
  c.groups = line.Num<int64_t>("groups", 1);
  c.window = line.Num<int64_t>("partial", 0);
  c.data = line.Kind("data");
  c.seed = line.Num<uint64_t>("seed", 0);
  if (c.cols > kMaxElements) line.Reject("cols");
  if (c.rows > kMaxElements / (c.cols > 0 ? c.cols : 1)) line.Reject("rows");
  c.ranks = line.Count("ranks", 0, 0);
  c.part_rows = line.Count("part_rows", 0, 0);
  for (size_t i = 0; i < kOutputCount; ++i) {
    if (i < kScale || line.Has(kOutputNames[i])) c.expected[i] = line.DigestOf(kOutputNames[i]);
  }
  ParseQuantization(line, &c);
  ParseRotation(line, &c);
  const bool one_call = c.rope != 0 || c.op == Op::kDoubleBackward;
  if (c.ranks > kMaxRanks || (c.ranks > 1 && c.cols / c.ranks < 8) || (c.ranks > 0 && one_call)) line.Reject("ranks");
  if (c.part_rows > 0 && (c.rope != 0 || !c.backward())) line.Reject("part_rows");
  return c;
}

}  // namespace

std::string ToString(const Digest& digest) {
  if (!digest) return "-";
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(*digest));
  return text;
}

GoldenFile ParseGolden(std::string name, std::string_view text) {
  GoldenFile file{std::move(name), {}, ""};
  std::vector<std::string_view> head;
  size_t number = 0;
  for (std::string_view row : Split(text, '\n')) {
    ++number;
    if (row.ends_with('\r')) row.remove_suffix(1);
    if (row.empty() || row.starts_with('#')) continue;
    const std::vector<std::string_view> fields = Split(row, '\t');
    if (head.empty() || fields.front() == "case") {
      head = fields;
      continue;
    }
    std::string error;
    if (std::any_of(row.begin(), row.end(), IsControl)) {
      error = "it holds a control character";  // names and lines are printed where digests differ
    } else if (fields.size() != head.size()) {
      error = "there are " + std::to_string(fields.size()) + " fields for " + std::to_string(head.size()) + " columns";
    } else {
      Line line(head, fields);
      file.cases.push_back(ParseCase(line));
      file.cases.back().line = row;
      error = line.error();
    }
    if (!error.empty()) {
      file.error = file.name + ", line " + std::to_string(number) + ": " + error + ".";
      file.cases.clear();
      return file;
    }
  }
  return file;
}

GoldenFile ReadGolden(const std::string& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in.is_open() && errno == ENOMEM) throw std::bad_alloc();  // it says so in no other way
  std::string text;
  std::array<char, 16384> piece;
  while (in.read(piece.data(), piece.size()), in.gcount() > 0) text.append(piece.data(), static_cast<size_t>(in.gcount()));
  if (!in.is_open() || in.bad()) return GoldenFile{path, {}, path + ": this golden file cannot be read."};
  return ParseGolden(path, text);
}

}  // namespace isonorm_cli
