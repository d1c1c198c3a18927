#include "print.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <iterator>

#include "interrupt.h"
#include "verbs.h"

namespace isonorm_cli {
namespace {

constexpr std::size_t kMuch = 64 << 10;  // bytes that are worth a call to the system

struct Output {
  std::string waiting;
  std::atomic<bool> began = false;  // some of it was written
};
Output g_output;

// A character at the start of a text.
struct Character {
  char32_t code = 0;
  std::size_t length = 0;  // 0: no well-formed UTF-8
};

Character First(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return {};
  char32_t code = lead & (0x7f >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return {};
    code = code << 6 | (at(i) & 0x3f);
  }
  constexpr char32_t kLeast[] = {0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  return code < kLeast[length - 2] || surrogate || code > 0x10ffff ? Character{} : Character{code, length};
}

// Controls, and the marks that turn the direction of writing or end a line.
bool Obeyed(char32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x200e || code == 0x200f ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

void AppendEscaped(std::string& out, std::string_view text, std::string_view kept) {
  while (!text.empty()) {
    const Character c = First(text);
    if (c.length == 0) {
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(text[0]));
      text.remove_prefix(1);
      continue;
    }
    if (Obeyed(c.code) && kept.find(text[0]) == std::string_view::npos) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c.code));
    } else {
      out += text.substr(0, c.length);
    }
    text.remove_prefix(c.length);
  }
}

}  // namespace

bool OpenStandardStreams() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(descriptor, F_GETFD) != -1) continue;
    // open() takes the lowest number that is free, which is this one. Nothing can be written to what was opened for reading.
    if (open("/dev/null", descriptor == STDERR_FILENO ? O_WRONLY : O_RDONLY) != descriptor) return false;
  }
  return true;
}

void PrintText(std::string_view text) {
  AppendEscaped(g_output.waiting, text, "\n\t");
  if (g_output.waiting.size() >= kMuch) FlushOutput();
}

void FlushOutput() {
  std::string_view bytes = g_output.waiting;
  while (!bytes.empty()) {
    const ssize_t n = write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (n > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(n));
      g_output.began = true;
      continue;
    }
    const int code = n < 0 ? errno : ENOSPC;
    if (code == EAGAIN) {  // a pipe of a program that does not wait
      pollfd ready = {STDOUT_FILENO, POLLOUT, 0};
      poll(&ready, 1, -1);
    }
    if (code == EAGAIN || code == EINTR) {
      StopIfInterrupted();
      continue;
    }
    g_output.waiting.clear();  // no second try
    g_output.began = true;
    if (code == EPIPE) throw Failure(kClosedPipe, "");
    throw Failure(kCannotWrite, fmt::format("the result could not be written to standard output: {}", std::strerror(code)));
  }
  g_output.waiting.clear();
}

bool TakeBackOutput() {
  g_output.waiting.clear();
  return !OutputBegan();
}

bool OutputBegan() { return g_output.began; }

void WriteRaw(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(descriptor, text.data(), text.size());
    if (n == 0 || (n < 0 && errno != EINTR)) return;
    if (n > 0) text.remove_prefix(static_cast<std::size_t>(n));
  }
}

std::string Visible(std::string_view text) {
  std::string out;
  AppendEscaped(out, text, "");
  return out;
}

}  // namespace isonorm_cli
