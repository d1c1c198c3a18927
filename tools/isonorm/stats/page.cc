// The result of `stats` as one HTML page: a template with the names, the table and the JSON put in. Charts are drawn by the
// page's own script. Names come from files and are hostile until escaped: as HTML by Escaped(), as JSON by ScriptText(); the
// script itself makes text nodes only, and the page's policy lets no other script run.
#include <fmt/format.h>
#include <isonorm/isonorm.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <functional>
#include <iterator>
#include <map>
#include <utility>

#include "dtype_names.h"
#include "report/shipped.h"
#include "stats/stats.h"

namespace isonorm_cli {
namespace {

using Json = nlohmann::ordered_json;

// For text and for attributes in double quotes. Bytes that are not UTF-8, which only a path may hold, become a question mark.
std::string Escaped(const std::string& text) {
  const std::string quoted = Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  const std::string valid = Json::parse(quoted).get<std::string>();
  std::string out;
  for (const char c : valid) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    }
  }
  return out;
}

// Within a script element nothing may look like the end of it, or like a comment. In JSON these stand in strings only.
std::string ScriptText(const Json& json) {
  std::string out;
  for (const char c : json.dump(-1, ' ', true, Json::error_handler_t::replace)) {
    if (c == '<' || c == '>' || c == '&') {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out;
}

std::string FileName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// 1,234,567
std::string Grouped(std::int64_t count) {
  std::string text = std::to_string(count);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, 1, ',');
  return text;
}

// A long name breaks after its dots first.
std::string NameHtml(const std::string& name) {
  std::string out;
  for (const char c : Escaped(name)) {
    out += c;
    if (c == '.') out += "<wbr>";
  }
  return out;
}

std::string FilesHtml(const std::vector<FileSummary>& files) {
  std::string html;
  for (const FileSummary& f : files) {
    fmt::format_to(std::back_inserter(html), "<li><b>{}</b> · {} tensor{}, {} values, RMS {}</li>", Escaped(FileName(f.path)),
                   f.tensors, f.tensors == 1 ? "" : "s", Grouped(f.values), NumberText(f.rms));
  }
  return html;
}

struct Column {
  const char* label;
  std::function<std::string(const TensorReport&)> text;
};

const std::vector<Column>& Columns() {
  static const std::vector<Column> columns = {
      {"RMS", [](const TensorReport& r) { return NumberText(r.rms); }},
      {"RMS of a row", [](const TensorReport& r) { return NumberText(r.rms_min.value) + " – " + NumberText(r.rms_max.value); }},
      {"mean", [](const TensorReport& r) { return NumberText(r.mean); }},
      {"drift", [](const TensorReport& r) { return NumberText(r.drift); }},
      {"largest |x|", [](const TensorReport& r) { return NumberText(r.max_abs.value); }},
      {"least cosine",
       [](const TensorReport& r) { return std::isnan(r.cosine_min.value) ? "–" : fmt::format("{:.6f}", r.cosine_min.value); }},
      {"outlier channels",
       [](const TensorReport& r) {
         return r.channels.empty()
                    ? "–"
                    : fmt::format("{}, worst #{} ×{}", r.outlier_count, r.channels[0].index, NumberText(r.channels[0].factor));
       }},
  };
  return columns;
}

std::string HeadHtml() {
  std::string html = "<th scope=\"col\">tensor</th>";
  for (const Column& c : Columns()) fmt::format_to(std::back_inserter(html), "<th scope=\"col\">{}</th>", Escaped(c.label));
  return html;
}

void WriteRows(const StatsPlan& plan, const std::vector<TensorReport>& reports, const Sink& write) {
  std::string html;
  const auto out = std::back_inserter(html);
  std::size_t file = plan.paths.size();
  for (const TensorReport& r : reports) {
    html.clear();
    if (plan.paths.size() > 1 && r.tensor->file != file) {
      file = r.tensor->file;
      fmt::format_to(out, "<tr><td class=\"file\" colspan=\"{}\">{}</td></tr>\n", Columns().size() + 1,
                     Escaped(FileName(plan.paths[file])));
    }
    fmt::format_to(out, "<tr><td>{}<small>{} [{}]</small>", NameHtml(r.tensor->info->name), DtypeName(r.tensor->type),
                   fmt::join(r.tensor->info->shape, ", "));
    if (const std::string remarks = Remarks(r); !remarks.empty()) {
      fmt::format_to(out, "<small class=\"look\">{}</small>", Escaped(remarks));
    }
    html += "</td>";
    for (const Column& c : Columns()) {
      fmt::format_to(out, "<td data-label=\"{}\">{}</td>", Escaped(c.label), Escaped(c.text(r)));
    }
    html += "</tr>\n";
    write(html);
  }
}

// Replaces @WORD@ once, in the template alone: what is put in is not looked at again.
void Fill(std::string_view page, const std::map<std::string_view, std::function<void()>>& values, const Sink& write) {
  while (!page.empty()) {
    const std::size_t at = page.find('@');
    write(page.substr(0, at));
    if (at == std::string_view::npos) break;
    const std::size_t end = page.find('@', at + 1);
    const auto value = end == std::string_view::npos ? values.end() : values.find(page.substr(at + 1, end - at - 1));
    if (value == values.end()) {
      write("@");
      page.remove_prefix(at + 1);
    } else {
      value->second();
      page.remove_prefix(end + 1);
    }
  }
}

}  // namespace

void WriteStatsPage(const StatsPlan& plan, const std::vector<TensorReport>& reports, const StatsOptions& options,
                    const Sink& write) {
  const ReportParts parts = ShippedReport();
  const std::vector<FileSummary> files = SummariseFiles(plan, reports);
  std::string title = "isonorm stats: " + Escaped(FileName(files[0].path));
  if (files.size() > 1) title += fmt::format(" and {} more", files.size() - 1);
  const auto text = [&](std::string value) { return [&write, value = std::move(value)] { write(value); }; };
  Fill(parts.html,
       {{"TITLE", text(title)},
        {"CSS", text(std::string(parts.css))},
        {"FILES", text(FilesHtml(files))},
        {"HEAD", text(HeadHtml())},
        {"ROWS", [&] { WriteRows(plan, reports, write); }},
        {"OUTLIER", text(fmt::format("{:g}", options.outlier))},
        {"EPS", text(fmt::format("{:g}", options.eps))},
        {"VERSION", text(isonorm::version())},
        {"DATA", [&] { WriteStatsJson(plan, reports, options, ScriptText, write); }},
        {"SCRIPT_HASH", text(std::string(parts.script_hash))},
        {"SCRIPT", text(fmt::format("{}{}", parts.charts, parts.script))}},
       write);
}

}  // namespace isonorm_cli
