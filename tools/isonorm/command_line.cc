#include "command_line.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <system_error>
#include <vector>

#include "verbs.h"

namespace isonorm_cli {
namespace {

// from_chars() knows neither locale nor blanks nor prefixes, and says when a value does not fit. Nothing where it does not.
template <class T>
bool Parse(std::string_view text, Allowed<T> allowed, T& value, bool* fits = nullptr) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = end == text.data() + text.size();
  if (fits != nullptr) *fits = !(whole && code == std::errc::result_out_of_range);
  return code == std::errc() && whole && value >= allowed.least && value <= allowed.most;
}

std::string NotEmpty(std::string& text) { return text.empty() ? "the value is empty" : ""; }

bool IsLong(std::string_view argument) { return argument.size() > 2 && argument.starts_with("--"); }

// -1 and - are values.
bool LooksLikeOption(std::string_view argument) {
  if (argument.size() < 2 || argument[0] != '-') return false;
  return argument[1] != '.' && (argument[1] < '0' || argument[1] > '9');
}

bool TakesValue(const CLI::App& app, const std::string& option) {
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    for (const CLI::Option* known : verb->get_options()) {  // get_option_no_throw() ends the program without memory
      if (known->nonpositional() && known->check_name(option) && known->get_items_expected_max() > 0) return true;
    }
    if (TakesValue(*verb, option)) return true;
  }
  return false;
}

}  // namespace

double ParseNumber(const std::string& option, std::string_view text, Allowed<double> allowed) {
  double value = 0;
  bool fits = true;
  if (Parse(text, allowed, value, &fits) && std::isfinite(value)) return value;
  if (!fits) throw CLI::ValidationError(option, fmt::format("'{}' is too large or too small for a double", text));
  constexpr double kMost = std::numeric_limits<double>::max();
  std::string range = allowed.least == -kMost ? "" : fmt::format(" of at least {}", allowed.least);
  if (allowed.most != kMost) range = fmt::format(" from {} to {}", allowed.least, allowed.most);
  throw CLI::ValidationError(option, fmt::format("'{}' is not a finite number{}", text, range));
}

std::int64_t ParseCount(const std::string& option, std::string_view text, Allowed<std::int64_t> allowed) {
  std::int64_t value = 0;
  if (Parse(text, allowed, value)) return value;
  throw CLI::ValidationError(option,
                             fmt::format("'{}' is not a whole number from {} to {}", text, allowed.least, allowed.most));
}

void MakeStrict(CLI::App& app) {
  for (CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) MakeStrict(*verb);
  for (CLI::Option* option : app.get_options()) {
    if (option->get_items_expected_max() == 0) {
      option->disable_flag_override();
    } else {
      option->check(CLI::Validator(NotEmpty, ""));
      if (option->nonpositional()) option->allow_extra_args(false);
    }
  }
}

bool AsksForJson(int argc, const char* const* argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--") return false;
    if (argument == "--json" || argument == "--json=true") return true;
  }
  return false;
}

void CheckArguments(const CLI::App& app, int argc, const char* const* argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--") return;
    if (IsLong(argument) && argument.find('=') == argument.size() - 1) {
      throw Failure(kUsage, fmt::format("{}: the value is empty", argument.substr(0, argument.size() - 1)));
    }
    if (!LooksLikeOption(argument) || i + 1 == argc || !LooksLikeOption(argv[i + 1])) continue;
    if (TakesValue(app, argument)) {
      throw Failure(kUsage, fmt::format("{}: the value is missing before {}", argument, argv[i + 1]));
    }
  }
}

}  // namespace isonorm_cli
