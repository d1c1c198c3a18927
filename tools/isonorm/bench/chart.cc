// A bar chart as SVG, written by hand: a few rectangles and lines of text on a background of their own, so that it reads the
// same on light and dark pages.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "bench/machine.h"
#include "bench/report.h"
#include "bench/textbook.h"

namespace isonorm_cli::bench {
namespace {

constexpr int kWidth = 930;
constexpr int kLeft = 270;  // where the bars start
constexpr int kBars = 480;  // how long a bar of 100 % is
constexpr int kTop = 70;
constexpr int kRowHeight = 26;

struct Bar {
  std::string name;
  double percent;
  double goal;      // 0: none
  double textbook;  // 0: not measured
  double seconds;
};

// Percent of the reference's speed, for every row that has a limit or a best loop.
std::vector<Bar> Bars(const std::vector<Result>& results) {
  std::vector<Bar> bars;
  for (const Result& r : results) {
    if (r.kind != Kind::kCached && r.unit != Unit::kPercentOfLimit) continue;
    const bool times = r.unit == Unit::kTimesReference;
    Bar bar = {r.name, times ? 100 / r.value : r.value, 0, 0, r.seconds};
    if (r.goal) bar.goal = times ? 100 / *r.Goal() : *r.Goal();
    for (const Measure& m : r.beside) {
      if (m.name == kTextbookName || m.name == "unfused") bar.textbook = 100 * r.reference.seconds / m.seconds;
    }
    if (r.reference.name == kTextbookName) bar.textbook = 100;
    bars.push_back(bar);
  }
  return bars;
}

double X(double percent) { return kLeft + kBars * std::clamp(percent, 0.0, 115.0) / 100; }

std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else
      out += c;
  }
  return out;
}

}  // namespace

std::string Chart(const std::vector<Result>& results) {
  const std::vector<Bar> bars = Bars(results);
  const int bottom = kTop + kRowHeight * static_cast<int>(bars.size());
  std::string svg;
  const auto out = std::back_inserter(svg);
  fmt::format_to(out,
                 "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
                 "font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#1f2933\">\n"
                 "<rect width=\"{0}\" height=\"{1}\" rx=\"8\" fill=\"#f7f9fb\"/>\n",
                 kWidth, bottom + 34);
  fmt::format_to(out,
                 "<text x=\"16\" y=\"26\" font-size=\"15\" font-weight=\"600\">isonorm on one core, percent of the "
                 "machine's limit or of the best loop without a fixed order</text>\n");
  fmt::format_to(out,
                 "<text x=\"16\" y=\"46\" fill=\"#52606d\">{}, {}, target {}. Grey: a textbook loop at -O3 -march=native "
                 "-ffast-math; of fused rows, beside the norm alone. Tick: the goal.</text>\n",
                 Escaped(CpuName()), CompilerName(), isonorm::target());
  for (int percent = 0; percent <= 100; percent += 25) {
    fmt::format_to(out,
                   "<line x1=\"{0}\" x2=\"{0}\" y1=\"{1}\" y2=\"{2}\" stroke=\"#cbd2d9\"/>\n"
                   "<text x=\"{0}\" y=\"{3}\" text-anchor=\"middle\" fill=\"#52606d\">{4} %</text>\n",
                   X(percent), kTop - 6, bottom, bottom + 18, percent);
  }
  int y = kTop;
  for (const Bar& bar : bars) {
    fmt::format_to(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n", kLeft - 8, y + 13, Escaped(bar.name));
    fmt::format_to(out, "<rect x=\"{}\" y=\"{}\" width=\"{:.1f}\" height=\"11\" fill=\"#2b6cb0\"/>\n", kLeft, y + 2,
                   X(bar.percent) - kLeft);
    if (bar.textbook > 0) {
      fmt::format_to(out, "<rect x=\"{}\" y=\"{}\" width=\"{:.1f}\" height=\"5\" fill=\"#9aa5b1\"/>\n", kLeft, y + 14,
                     X(bar.textbook) - kLeft);
    }
    if (bar.goal > 0) {
      fmt::format_to(out, "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" stroke=\"#c05621\" stroke-width=\"2\"/>\n",
                     X(bar.goal), y, y + 15);
    }
    fmt::format_to(out, "<text x=\"{:.1f}\" y=\"{}\">{:.0f} %, {}</text>\n",
                   X(std::max({bar.percent, bar.textbook, 100.0})) + 6, y + 13, bar.percent, TimeText(bar.seconds));
    y += kRowHeight;
  }
  svg += "</svg>\n";
  return svg;
}

}  // namespace isonorm_cli::bench
