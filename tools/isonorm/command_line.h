// What all verbs ask of their options. CLI11 alone takes "" for 0 and for nothing at all, 010 for 8, 0x10 for 16, nan for a
// number, what is too large for the largest, and the next option for the value that was forgotten.
#pragma once

#include <CLI/App.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace isonorm_cli {

// The values that an option may have, its ends among them.
template <class T>
struct Allowed {
  T least, most;
};

// A decimal number, all of the text and finite; CLI::ValidationError says what is wrong with another.
double ParseNumber(const std::string& option, std::string_view text, Allowed<double> allowed);
std::int64_t ParseCount(const std::string& option, std::string_view text, Allowed<std::int64_t> allowed);

// An option with such a value. `target` is anything that the result of ParseNumber() can be assigned to.
template <class Target>
CLI::Option* AddNumber(CLI::App& verb, const std::string& option, Target& target, Allowed<double> allowed,
                       const std::string& what) {
  const auto parse = [option, &target, allowed](const std::string& text) { target = ParseNumber(option, text, allowed); };
  return verb.add_option_function<std::string>(option, parse, what)->type_name("NUMBER");
}
template <class Target>
CLI::Option* AddCount(CLI::App& verb, const std::string& option, Target& target, Allowed<std::int64_t> allowed,
                      const std::string& what) {
  const auto parse = [option, &target, allowed](const std::string& text) {
    target = static_cast<Target>(ParseCount(option, text, allowed));
  };
  return verb.add_option_function<std::string>(option, parse, what)->type_name("N");
}

// Once all verbs are there: no option of any of them takes an empty value or a list in brackets, and no flag a value.
void MakeStrict(CLI::App& app);

// Whether --json stands on the command line: what is wrong with the rest must be said in JSON too.
bool AsksForJson(int argc, const char* const* argv);

// Before CLI11 sees the command line: throws Failure(kUsage) where an option would take the next option for its value, or where
// nothing follows the equals sign. A value that begins with a dash must be given as --option=value.
void CheckArguments(const CLI::App& app, int argc, const char* const* argv);

}  // namespace isonorm_cli
