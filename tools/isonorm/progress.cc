#include "progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "print.h"

namespace isonorm_cli {
namespace {

constexpr std::chrono::milliseconds kFirst{1000};
constexpr std::chrono::milliseconds kEvery{100};
constexpr int kBarWidth = 30;
constexpr int kRoomForBar = 60;  // columns from which on the bar leaves something to the words

// A terminal that can go back to the start of its line. No escape codes are used, so NO_COLOR has nothing to switch off.
bool CanRedraw() {
  const char* const term = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && term != nullptr && *term != '\0' && std::string_view(term) != "dumb";
}

// Asked each time: a window changes.
int Columns() {
  winsize size = {};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// What fits into so many columns, and how many of them it takes. All but ASCII counts twice, as wide characters need.
std::pair<std::string, int> Fit(const std::string& line, int columns) {
  int used = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const auto byte = static_cast<unsigned char>(line[i]);
    if ((byte & 0xc0) == 0x80) continue;  // within a character
    const int width = byte < 0x80 ? 1 : 2;
    if (used + width > columns) return {line.substr(0, i), used};
    used += width;
  }
  return {line, used};
}

}  // namespace

Progress::Progress(const Context& context, std::string label, std::int64_t total)
    : enabled_(context.progress && CanRedraw()),
      label_(std::move(label)),
      total_(total),
      start_(std::chrono::steady_clock::now()),
      next_(start_ + kFirst) {}

Progress::~Progress() {
  if (drawn_ == 0) return;
  WriteRaw(STDERR_FILENO, "\r");
  for (int i = 0; i < drawn_; ++i) WriteRaw(STDERR_FILENO, " ");  // a destructor allocates nothing
  WriteRaw(STDERR_FILENO, "\r");
}

void Progress::Add(std::int64_t units) {
  done_ += units;
  if (!enabled_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) return;
  next_ = now + kEvery;
  Draw(now);
}

void Progress::Draw(std::chrono::steady_clock::time_point now) {
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const int columns = Columns() - 1;  // in the last one some terminals begin a new line
  std::string line;
  if (total_ > 0) {
    const double part = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
    const int full = static_cast<int>(part * kBarWidth);
    if (columns >= kRoomForBar) line = fmt::format("[{:#<{}}{:.<{}}] ", "", full, "", kBarWidth - full);
    line +=
        fmt::format("{:3.0f} %  {:.0f} s left  {}", part * 100, part > 0 ? seconds * (1 - part) / part : 0.0, Visible(label_));
  } else {
    line = fmt::format("{:.0f} s  {}", seconds, Visible(label_));
  }
  const auto [text, used] = Fit(line, columns);
  const int rest = std::clamp(drawn_ - used, 0, columns - used);  // of the line before
  WriteRaw(STDERR_FILENO, fmt::format("\r{}{:{}}", text, "", rest));
  drawn_ = used;
}

}  // namespace isonorm_cli
