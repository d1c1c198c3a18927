#include "progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace isonorm_cli {
namespace {
constexpr std::chrono::milliseconds kFirst{1000};
constexpr std::chrono::milliseconds kEvery{100};
constexpr int kBarWidth = 30;
}  // namespace

Progress::Progress(const Context& context, std::string label, std::int64_t total)
    : enabled_(context.progress && isatty(STDERR_FILENO) == 1),
      label_(std::move(label)),
      total_(total),
      start_(std::chrono::steady_clock::now()),
      next_(start_ + kFirst) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
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
  std::string line;
  if (total_ > 0) {
    const double part = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
    const int full = static_cast<int>(part * kBarWidth);
    line = fmt::format("\r\x1b[K[{:#<{}}{:.<{}}] {:3.0f} %  {:.0f} s left  {}", "", full, "", kBarWidth - full, part * 100,
                       part > 0 ? seconds * (1 - part) / part : 0.0, label_);
  } else {
    line = fmt::format("\r\x1b[K{:.0f} s  {}", seconds, label_);
  }
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace isonorm_cli
