// All that the program says. What it prints comes from files, paths and the environment too, so one place sees to it that
// none of it drives the terminal, and that a result which does not arrive is an error.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace isonorm_cli {

// Gives each of the descriptors 0 to 2 that is closed to /dev/null: a file that is opened later must not take its number and
// get the messages that are meant for it. Writing to such a standard output fails. False if the system refuses.
bool OpenStandardStreams();

// To standard output, collected until there is much of it. Control characters, and others that a terminal obeys and does not
// show, are escaped as JSON escapes them; lines and tabs stay. A write that fails throws Failure(kCannotWrite), or
// Failure(kClosedPipe) where nobody reads any more.
void PrintText(std::string_view text);
template <class... Args>
void Print(fmt::format_string<Args...> format, Args&&... args) {
  PrintText(fmt::format(format, std::forward<Args>(args)...));
}

// Brings what was printed to standard output. Throws as above.
void FlushOutput();
// Discards what has not been written yet. False if part of the output already was.
bool TakeBackOutput();
bool OutputBegan();  // whether it was; for signal handlers too

// At once and as it is. For standard error: where that cannot be written there is nobody left to tell.
void WriteRaw(int descriptor, std::string_view text);

// In one line, with nothing in it that a terminal obeys: for names and messages.
std::string Visible(std::string_view text);

}  // namespace isonorm_cli
