// docs/theory.md cannot rot: every number on it is computed again, and every test that it names exists.
#include <gtest/gtest.h>

#include <cctype>
#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "accuracy/rms_calls.h"
#include "accuracy/theory.h"

namespace isonorm_test {
namespace {

std::string Text(long double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*Lf", digits, value);
  const std::string all = text;
  return all.find_first_not_of("-0.") == std::string::npos && all[0] == '-' ? all.substr(1) : all;  // no -0.000
}

template <class R>
std::string List(const R& row, int digits) {
  std::string text = "[";
  for (const auto value : row) text += (text.size() > 1 ? ", " : "") + Text(value, digits);
  return text + "]";
}

using Cells = std::vector<std::vector<std::string>>;

std::string Table(const Cells& cells) {  // columns two spaces apart
  std::string text;
  for (const auto& row : cells) {
    std::string line;
    for (size_t column = 0; column < row.size(); ++column) {
      size_t width = 0;
      for (const auto& other : cells) width = std::max(width, column < other.size() ? other[column].size() : 0);
      line += row[column] + std::string(column + 1 < row.size() ? width + 2 - row[column].size() : 0, ' ');
    }
    text += line + "\n";
  }
  return text;
}

std::string SmallRows() {
  using Floats = std::vector<float>;
  Cells cells = {{"row", "RMS", "RMSNorm"}};
  for (const Floats& x : {Floats{3, 4}, Floats{1, 2, 3, 6}, Floats{1, 5, 7}, Floats{1000, 2000, 3000}}) {
    cells.push_back({List(x, 0), Text(isonorm::rms(x), 2), List(RmsNorm(x), 3)});
  }
  const Floats weighted = Norm(isonorm::contracts::torch, 0, Floats{1, 5, 7}, Floats(3, 1.5f), Floats(3, 0.5f));
  return Table(cells) + "[1, 5, 7] with the weight 1.5 and the bias 0.5: " + List(weighted, 1) + "\n";
}

std::string Sizes() {
  Cells cells = {{"row", "L2", "RMS", "mean |x|", "max |x|"}};
  for (const Row& x : {Row{5, 0}, Row{3, 4}, Row{1, 1}, Row{1, 1, 1, 1}, Row{1, 1, 1, 1, 1, 1, 1, 1}}) {
    cells.push_back({List(x, 0), Text(Length(x), 3), Text(isonorm::rms(x), 3), Text(MeanSize(x), 3), Text(Largest(x), 3)});
  }
  return Table(cells);
}

std::string Widths() {
  Cells cells = {{"width", "rows", "mean L2", "mean RMS"}};
  for (const size_t n : {1, 4, 16, 256, 4096, 65536}) {
    const size_t rows = 262144 / n;
    Normal normal(n);
    long double length = 0, rms = 0;
    for (size_t row = 0; row < rows; ++row) {
      Row x(n);
      for (double& value : x) value = normal();
      length += Length(x);
      rms += isonorm::rms(x);
    }
    const auto count = static_cast<long double>(rows);
    cells.push_back({std::to_string(n), std::to_string(rows), Text(length / count, 2), Text(rms / count, 3)});
  }
  return Table(cells);
}

std::string BothNorms() {
  Cells cells = {{"row", "mean / RMS", "RMSNorm", "its mean", "LayerNorm", "its mean"}};
  for (const Row& x : {Row{-1, 0, 1}, Row{1, 2, 3}, Row{1000, 2000, 3000}, Row{101, 102, 103}, Row{7, 7, 7}}) {
    const Row rms = RmsNorm(x, 1e-6), layer = LayerNorm(x, 1e-6);
    cells.push_back({List(x, 0), Text(Mean(x) / isonorm::rms(x), 3), List(rms, 3), Text(Mean(rms), 3), List(layer, 3),
                     Text(Mean(layer), 3)});
  }
  return Table(cells);
}

std::string GradientForms() {
  const Row x = {3, 4}, dy = {1, 1};
  Row differences;
  for (size_t i = 0; i < x.size(); ++i) {
    Row up = x, down = x;
    up[i] += 0x1p-17;
    down[i] -= 0x1p-17;
    differences.push_back(static_cast<double>((Dot(dy, RmsNorm(up)) - Dot(dy, RmsNorm(down))) / 0x1p-16L));
  }
  const Row full = Gradient(isonorm::contracts::torch, 0, x, dy);
  const Values diagonal = WrongGradient(Wrong::kDiagonalOnly, 0, x, dy), twice = WrongGradient(Wrong::kDividedTwice, 0, x, dy);
  return "x = [3, 4], dy = [1, 1], eps = 0\n" +
         Table({{"", "dx", "x.dx"},
                {"central differences", List(differences, 4), Text(Dot(x, differences), 4)},
                {"isonorm::backward", List(full, 4), Text(Dot(x, full), 4)},
                {"diagonal only", List(diagonal, 4), Text(Dot(x, diagonal), 4)},
                {"divided by n twice", List(twice, 4), Text(Dot(x, twice), 4)}});
}

std::string ConstantLoss() {
  Cells cells = {{"width", "isonorm::backward", "diagonal only", "divided by n twice"}};
  for (const size_t n : {4, 64, 4096}) {
    const Row x = NormalRow(n, n), y = RmsNorm(x);
    const long double whole = Length(y) / isonorm::rms(x);
    const auto share = [&](const auto& dx) { return Text(Length(dx) / whole, 3); };
    cells.push_back({std::to_string(n), share(Gradient(isonorm::contracts::torch, 0, x, y)),
                     share(WrongGradient(Wrong::kDiagonalOnly, 0, x, y)), share(WrongGradient(Wrong::kDividedTwice, 0, x, y))});
  }
  return Table(cells);
}

std::string Stream() {
  Cells cells = {{"branches added", "RMS of the stream"}};
  const size_t n = 4096;
  Row stream(n);
  for (uint64_t layers = 1; layers <= 64; ++layers) {
    const Row branch = RmsNorm(NormalRow(n, layers));
    for (size_t i = 0; i < n; ++i) stream[i] += branch[i];
    if ((layers & (layers - 1)) == 0) cells.push_back({std::to_string(layers), Text(isonorm::rms(stream), 2)});
  }
  return Table(cells);
}

std::string EpsPlaces() {
  Cells cells = {{"row", "eps 1e-6 inside the root", "eps 1e-6 outside"}};
  for (const auto& [name, size] : {std::pair{"[1, -1]", 1.0}, {"[1e-3, -1e-3]", 1e-3}, {"[1e-6, -1e-6]", 1e-6}}) {
    const Row x = {size, -size};
    cells.push_back({name, List(RmsNorm(x, 1e-6), 3), List(Norm(isonorm::contracts::paper, 1e-6, x), 3)});
  }
  return Table(cells);
}

std::string Overflow() {
  Cells cells = {{"type", "x", "x * x", "RMS of [x, x]"}};
  for (const auto& [type, text, value] : {std::tuple{Type::kF32, "2e19", 2e19L}, {Type::kF16, "256", 256.0L}}) {
    RmsCall call(Tensor(type, {1, 2}).Fill([value = value](int64_t) { return value; }));
    EXPECT_EQ(call.Rms(), "");
    const bool infinite = std::isinf(RoundTo(type, call.x[0] * call.x[0]));
    cells.push_back({FormatOf(type).name, text, infinite ? "inf" : "finite", call.rms[0] == call.x[0] ? text : "wrong"});
  }
  return Table(cells);
}

std::string Page() {
  std::ifstream file(ISONORM_THEORY_PAGE);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// What stands between fences, by the name in the comment on the line before; the page keeps the rest.
std::map<std::string, std::string> Blocks(std::string& page) {
  const std::string begin = "<!-- computed: ", open = " -->\n```text\n", close = "```\n";
  std::map<std::string, std::string> blocks;
  for (size_t at = 0; (at = page.find(begin, at)) != std::string::npos;) {
    const size_t name = at + begin.size(), text = page.find(open, name), end = page.find(close, text + open.size());
    if (text == std::string::npos || end == std::string::npos) break;
    const size_t first = text + open.size();
    EXPECT_TRUE(blocks.emplace(page.substr(name, text - name), page.substr(first, end - first)).second)
        << "twice the same name";
    page.erase(at, end + close.size() - at);
  }
  return blocks;
}

TEST(TheoryPage, ShowsWhatTheLibraryComputes) {
  const std::map<std::string, std::string> want = {{"small_rows", SmallRows()},   {"sizes", Sizes()},
                                                   {"widths", Widths()},          {"both_norms", BothNorms()},
                                                   {"gradient", GradientForms()}, {"constant_loss", ConstantLoss()},
                                                   {"stream", Stream()},          {"eps", EpsPlaces()},
                                                   {"overflow", Overflow()}};
  std::string page = Page();
  const std::map<std::string, std::string> blocks = Blocks(page);
  EXPECT_EQ(blocks.size(), want.size());
  for (const auto& [name, text] : want) {
    const auto found = blocks.find(name);
    EXPECT_EQ(found == blocks.end() ? "no such block\n" : found->second, text) << name << " should be\n" << text;
  }
}

TEST(TheoryPage, HasNoOtherNumbers) {
  std::string page = Page();
  Blocks(page);
  EXPECT_EQ(page.find("```"), std::string::npos) << "a block that is not computed";
  const auto digit = [&](size_t at) { return std::isdigit(static_cast<unsigned char>(page[at])) != 0; };
  for (size_t dot = 1; dot + 1 < page.size(); ++dot) {
    if (page[dot] != '.' || !digit(dot - 1) || !digit(dot + 1)) continue;
    const size_t word = page.find_last_of(" \n", dot) + 1;
    EXPECT_EQ(page.substr(word, 6), "arXiv:") << page.substr(word, dot + 4 - word) << " is not computed by a test";
  }
}

TEST(TheoryPage, NamesEveryTestOfItAndNoOther) {
  std::set<std::string> all, theory, named;
  const auto& tests = *testing::UnitTest::GetInstance();
  for (int i = 0; i < tests.total_test_suite_count(); ++i) {
    const testing::TestSuite& suite = *tests.GetTestSuite(i);
    for (int j = 0; j < suite.total_test_count(); ++j) {
      const std::string name = std::string(suite.name()) + "." + suite.GetTestInfo(j)->name();
      all.insert(name);
      if (name.starts_with("Theory")) theory.insert(name);
    }
  }
  const std::string page = Page();  // `Suite.Test` is code with one dot between words that begin with capitals
  for (size_t at = 0, end = 0; (at = page.find('`', at)) != std::string::npos; at = end + 1) {
    end = page.find('`', ++at);
    ASSERT_NE(end, std::string::npos) << "an odd number of backticks";
    const std::string code = page.substr(at, end - at);
    const size_t dot = code.find('.');
    const auto upper = [&](size_t i) { return i < code.size() && std::isupper(static_cast<unsigned char>(code[i])) != 0; };
    const bool word = code.find_first_of(" ()[]*/_") == std::string::npos;
    if (dot != std::string::npos && word && upper(0) && upper(dot + 1)) named.insert(code);
  }
  for (const std::string& test : named) EXPECT_TRUE(all.contains(test)) << test << " is no test of test_accuracy";
  for (const std::string& test : theory) EXPECT_TRUE(named.contains(test)) << test << " is not named on the page";
  EXPECT_FALSE(theory.empty());
}

}  // namespace
}  // namespace isonorm_test
