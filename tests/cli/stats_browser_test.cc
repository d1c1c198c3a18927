// The page of `stats --html` in a real browser: it draws, says nothing on the console, fits a phone, and takes names as text.
#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <thread>

#include "process.h"

namespace isonorm_test {
namespace {

// Looks at the page in a frame of a given width, as a parent of the same origin may, and writes what is wrong into #faults.
constexpr const char* kWatcher = R"js(
const faults = [];
const fault = (condition, words) => { if (condition) faults.push(words); };
const frame = document.querySelector("iframe");
frame.contentWindow.alert = () => faults.push("a script from a name ran");
frame.addEventListener("load", () => {
  const page = frame.contentDocument, root = page.documentElement;
  fault(root.dataset.report !== "drawn", "the script did not come to its end");
  const charts = [...page.querySelectorAll(".chart")].filter((box) => !box.closest("[hidden]"));
  fault(charts.length < CHARTS, `${charts.length} charts instead of CHARTS`);
  for (const chart of charts) {
    const svg = chart.querySelector("svg.drawn");
    fault(!svg || !svg.querySelector("path, rect"), `${chart.id} is empty`);
    if (!svg) continue;
    fault(/NaN|undefined|Infinity/.test(svg.outerHTML), `${chart.id} draws NaN`);
    const boxes = [...svg.querySelectorAll("text")].map((t) => [t.textContent, t.getBoundingClientRect()]);
    boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
      const over = Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1 && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 3;
      fault(over, `${chart.id}: "${a}" lies over "${b}"`);
    }));
    boxes.forEach(([a, p]) => fault(p.left < -1 || p.right > WIDTH + 1, `${chart.id}: "${a}" is cut`));
    const at = svg.getBoundingClientRect();
    const Pointer = frame.contentWindow.PointerEvent, Key = frame.contentWindow.KeyboardEvent;
    svg.dispatchEvent(new Pointer("pointermove", { clientX: at.left + at.width / 2, clientY: at.top + 20 }));
    svg.dispatchEvent(new Key("keydown", { key: "ArrowRight" }));
    const tip = page.getElementById("tip");
    fault(tip.hidden || /undefined|NaN/.test(tip.textContent), `${chart.id} does not say what is under the pointer: ${tip.textContent}`);
    svg.dispatchEvent(new Pointer("pointerleave"));
    fault(!tip.hidden, `${chart.id} goes on saying it`);
  }
  for (const button of page.querySelectorAll(".legend button")) button.click();
  for (const button of page.querySelectorAll(".legend button, #next, #previous")) button.click();
  const seen = new Set();
  for (let i = 0; i < 3; ++i) {
    page.getElementById("theme").click();
    seen.add(frame.contentWindow.getComputedStyle(page.body).backgroundColor);
  }
  fault(seen.size !== 2, `${seen.size} backgrounds instead of a light and a dark one`);
  fault(root.scrollWidth > WIDTH, `${root.scrollWidth} pixels wide in a window of WIDTH`);
  fault(/\bNaN\b|undefined/.test(page.querySelector("#findings").textContent + (page.querySelector("#facts")?.textContent ?? "")), "NaN in the words");
  fault([...page.querySelectorAll("button, select")].some((e) => !e.textContent.trim() && !e.ariaLabel), "a control without a name");
  fault(page.querySelectorAll("img, iframe").length > 0, "an element from a name");
  document.getElementById("faults").textContent = ["checked", ...faults].join("\n");
});
)js";

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) text.replace(at, from.size(), to);
  return text;
}

// What is wrong with the page, "" if nothing is.
std::string Faults(const std::string& page, int width, int charts) {
  const Folder folder;
  const std::string watcher = Replaced(Replaced(kWatcher, "WIDTH", std::to_string(width)), "CHARTS", std::to_string(charts));
  const std::string frame = "<iframe style=\"border:0;height:900px;width:" + std::to_string(width) + "px\"></iframe>";
  // The page gets into its frame once the watcher is there.
  const std::string load = "frame.srcdoc = document.getElementById(\"page\").textContent;";
  WriteAll(folder / "watch.html", "<!doctype html><meta charset=utf-8><pre id=faults></pre><pre id=page hidden>\n" +
                                      Replaced(Replaced(page, "&", "&amp;"), "<", "&lt;") + "</pre>" + frame + "<script>" +
                                      watcher + load + "</script>");
  Program browser({"chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   "--disable-extensions", "--disable-background-networking", "--disable-component-update",
                   "--enable-logging=stderr", "--window-size=1280,1000", "--user-data-dir=" + folder / "profile", "--dump-dom",
                   "file://" + folder / "watch.html"});
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(18);
  while (browser.Running()) {
    if (std::chrono::steady_clock::now() > end) return "chromium did not end within 18 seconds";
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const Outcome run = browser.Wait();
  if (run.exit_code == 127) return "chromium is not installed, so the page was not looked at: apt-get install chromium";
  std::string faults;
  if (run.exit_code != 0) faults += "chromium ended with " + std::to_string(run.exit_code) + ":\n" + run.err;
  for (std::size_t at = 0; (at = run.err.find(":CONSOLE", at)) != std::string::npos; ++at) {
    faults += "on the console" + run.err.substr(at, run.err.find('\n', at) - at) + "\n";
  }
  const std::string mark = "<pre id=\"faults\">checked";
  const std::size_t at = run.out.find(mark);
  if (at == std::string::npos) return faults + "the page was not checked\n";
  return faults + run.out.substr(at + mark.size(), run.out.find("</pre>", at) - at - mark.size());
}

std::string Page(const Folder& folder, std::vector<std::string> args) {
  args.insert(args.begin(), "stats");
  args.insert(args.end(), {"--html", folder / "report.html"});
  const Outcome run = RunCli(args);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  return ReadAll(folder / "report.html");
}

constexpr int kCharts = 5, kDesktop = 1200, kPhone = 390;

class StatsBrowser : public testing::Test {
 protected:
  std::string MiniLm() { return Page(folder_, {ISONORM_MINILM_PATH, "--tensor", "*.input", "--eps", "1e-12"}); }
  const Folder folder_;
};

TEST_F(StatsBrowser, RealActivationsOnADesktop) { EXPECT_EQ(Faults(MiniLm(), kDesktop, kCharts), ""); }

TEST_F(StatsBrowser, RealActivationsOnAPhone) { EXPECT_EQ(Faults(MiniLm(), kPhone, kCharts), ""); }

// Every tensor of the file, several times over: many series, long lists, several files.
TEST_F(StatsBrowser, SeveralFilesOnAPhone) {
  EXPECT_EQ(Faults(Page(folder_, {ISONORM_MINILM_PATH, ISONORM_MINILM_PATH, ISONORM_MINILM_PATH}), kPhone, kCharts), "");
}

TEST_F(StatsBrowser, OddTensorsAndHostileNames) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x = {0, 0, 0, nan, nan, nan, 1e19f, 1e-30f, 65520, 5};
  WriteAll(folder_ / "in", SafetensorsFile("{" + Entry("<img src=x onerror=alert(1)>", "F32", "[0,4]", 0, 0) + "," +
                                               Entry("</script><script>alert(2)</script>", "F32", "[1,3]", 0, 12) + "," +
                                               Entry("nan", "F32", "[3]", 12, 24) + "," +
                                               Entry("one\\\"' onclick='alert(3)", "F32", "[1,1]", 24, 28) + "," +
                                               Entry("b", "F32", "[3,1]", 28, 40) + "}",
                                           Bytes(x)));
  EXPECT_EQ(Faults(Page(folder_, {folder_ / "in"}), kPhone, 3), "");  // no row to compare norms by, no two channels
}

TEST_F(StatsBrowser, NothingToDraw) {
  WriteAll(folder_ / "in", SafetensorsFile("{" + Entry("empty", "F32", "[0,4]", 0, 0) + "}", ""));
  EXPECT_EQ(Faults(Page(folder_, {folder_ / "in"}), kPhone, 0), "");
}

// The page without the rule that only its own script may run.
std::string AnyScript(std::string page) {
  const std::size_t at = page.find("'sha256-");
  return at == std::string::npos ? "" : page.replace(at, page.find(';', at) - at, "'unsafe-inline'");
}

// A script that is not the page's own, even by one letter.
TEST_F(StatsBrowser, OtherScriptsDoNotRun) {
  const std::string other = Replaced(MiniLm(), "\nfindings();\n", "\nfindings( );\n");
  EXPECT_NE(Faults(other, kPhone, kCharts).find("the script did not come to its end"), std::string::npos);
  EXPECT_EQ(Faults(AnyScript(other), kPhone, kCharts), "");
}

// The watcher itself: each of these pages is broken in one way, which must be found.
TEST_F(StatsBrowser, BrokenPagesAreFound) {
  const std::string page = MiniLm();
  const struct {
    const char *from, *to, *found;
  } breaks[] = {
      {"\nfindings();\n", "\nfindinks();\n", "findinks is not defined"},
      {"box.replaceChildren(draw(width))", "draw(width)", "is empty"},
      {"</main>", "<img alt=\"\" width=\"900\" height=\"9\"></main>", "pixels wide in a window of 390"},
  };
  for (const auto& b : breaks) {
    const std::string broken = AnyScript(Replaced(page, b.from, b.to));
    ASSERT_NE(broken, AnyScript(page)) << b.from;
    const std::string faults = Faults(broken, kPhone, kCharts);
    EXPECT_NE(faults.find(b.found), std::string::npos) << b.from << ": " << faults;
  }
}

}  // namespace
}  // namespace isonorm_test
