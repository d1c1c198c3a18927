// Values that are none: every option of every verb, as its help lists them, is given each of them. A new option is tested
// without a line here.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <iterator>
#include <sstream>

#include "process.h"
#include "tensors.h"

namespace isonorm_test {
namespace {

struct Option {
  std::string name;  // "--eps", or "IN"
  std::string type;  // "" of a flag
  bool positional() const { return name[0] != '-'; }
  bool number() const { return type == "N" || type == "NUMBER" || type.starts_with("INT") || type.starts_with("FLOAT"); }
};

// A verb may have verbs of its own.
std::vector<std::string> Words(const std::string& verb) {
  std::istringstream words(verb);
  return {std::istream_iterator<std::string>(words), {}};
}

// Lines such as "  -o,--output TEXT REQUIRED   File to write", under the headings Positionals and Options.
std::vector<Option> OptionsOf(const std::string& verb) {
  std::vector<std::string> asking = Words(verb);
  asking.push_back("--help");
  std::istringstream help(RunCli(asking).out);
  std::vector<Option> options;
  bool within = false;
  for (std::string line; std::getline(help, line);) {
    if (!line.starts_with("  ")) within = line == "Positionals:" || line == "Options:";
    if (!within || !line.starts_with("  ") || line[2] == ' ') continue;
    const std::string left = line.substr(2, line.find("  ", 2) - 2);
    Option option;
    std::istringstream(left) >> option.name >> option.type;
    option.name = option.name.substr(option.name.find(',') + 1);  // the long name
    options.push_back(option);
  }
  return options;
}

// A command line that is right.
struct Base {
  std::string verb;
  std::vector<std::vector<std::string>> parts;  // an option and its value, or a positional
};

std::vector<Base> Bases(const Folder& folder) {
  return {
      {"apply", {{folder / "in.npy"}, {"--output", folder / "out.npy"}, {"--contract", "torch"}, {"--eps", "1e-6"}}},
      {"stats", {{folder / "in.npy"}}},
      {"verify", {{"--quick"}, {"--case", "p000"}}},
      {"list", {}},
      {"bench", {{"--list"}}},
      {"checkpoint recenter",
       {{folder / "in.safetensors"}, {"--output", folder / "out.safetensors"}, {"--rows", "x"}, {"--head", "head"}}},
      {"checkpoint fold",
       {{folder / "in.safetensors"}, {"--output", folder / "out.safetensors"}, {"--norm", "n.weight"}, {"--linear", "head"}}}};
}

class Options : public testing::Test {
 protected:
  Options() {
    WriteAll(folder_ / "in.npy", NpyFile(NpyDictionary("<f4", "(2, 20)"), Bytes(Values(40, 1))));
    WriteTensors(folder_ / "in.safetensors", {{"x", F32({3, 4}, 1)}, {"head", F32({2, 4}, 2)}, {"n.weight", F32({4}, 3)}});
  }

  // The base without its own value for that option, and with these arguments instead.
  static std::vector<std::string> Line(const Base& base, const Option& option, const std::vector<std::string>& arguments) {
    std::vector<std::string> line = Words(base.verb);
    for (const auto& part : base.parts) {
      if (part[0] == option.name || (option.positional() && part.size() == 1)) continue;
      line.insert(line.end(), part.begin(), part.end());
    }
    line.insert(line.end(), arguments.begin(), arguments.end());
    return line;
  }

  // Exit code 2, the option's name, and nothing done.
  void ExpectRefused(const std::vector<std::string>& line, const Option& option) {
    const Outcome run = RunCli(line);
    std::string words;
    for (const std::string& word : line) words += " '" + word + "'";
    EXPECT_EQ(run.exit_code, 2) << words << "\n" << run.err;
    EXPECT_NE(run.err.find(option.name + ": "), std::string::npos) << words << "\n" << run.err;
    EXPECT_EQ(run.out, "") << words;
    EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << words << "\n" << run.err;
    EXPECT_EQ(folder_.Names(), (std::vector<std::string>{"in.npy", "in.safetensors"})) << words;
  }

  const Folder folder_;
};

TEST_F(Options, AreAllSeen) {
  std::size_t numbers = 0, words = 0, flags = 0;
  for (const Base& base : Bases(folder_)) {
    for (const Option& option : OptionsOf(base.verb)) ++(option.type.empty() ? flags : option.number() ? numbers : words);
  }
  EXPECT_GE(numbers, 14u);
  EXPECT_GE(words, 42u);
  EXPECT_GE(flags, 18u);  // with a --help for each verb
  for (const Base& base : Bases(folder_)) {
    const Outcome run = RunCli(Line(base, {"--no-such-option", ""}, {}));
    EXPECT_EQ(run.exit_code, 0) << base.verb << run.err;
    for (const char* const name : {"out.npy", "out.safetensors"}) std::remove((folder_ / name).c_str());
  }
}

TEST_F(Options, EmptyOrForgottenValues) {
  for (const Base& base : Bases(folder_)) {
    for (const Option& option : OptionsOf(base.verb)) {
      if (option.positional()) {
        ExpectRefused(Line(base, option, {""}), option);
      } else if (option.type.empty()) {
        for (const char* const value : {"", "maybe", "false"}) {
          if (option.name == "--help") continue;  // gives the help in any case
          const Outcome run = RunCli(Line(base, option, {option.name + "=" + value}));
          EXPECT_EQ(run.exit_code, 2) << base.verb << option.name << value;
          EXPECT_NE(run.err.find(option.name.substr(2)), std::string::npos) << run.err;
        }
      } else {
        ExpectRefused(Line(base, option, {option.name, ""}), option);
        ExpectRefused(Line(base, option, {option.name + "="}), option);
        ExpectRefused(Line(base, option, {option.name, "--no-progress"}), option);
        ExpectRefused(Line(base, option, {option.name}), option);
      }
    }
  }
}

TEST_F(Options, NumbersThatAreNone) {
  const std::vector<std::string> never = {" ",   "nan",   "inf", "-inf",      "-nan", "1e999", "-1e999",
                                          "1x",  "1e-6 ", " 1",  "0x1p3",     "1,5",  "--1",   "1 2",
                                          "0b1", "one",   "-1",  "\x1b[31m1", "1\n",  "1e-999"};
  for (const Base& base : Bases(folder_)) {
    for (const Option& option : OptionsOf(base.verb)) {
      if (!option.number()) continue;
      std::vector<std::string> values = never;
      if (option.type != "NUMBER") {
        values.insert(values.end(), {"1.5", "1e3", "0x10", "9223372036854775808", "99999999999999999999"});
      }
      for (const std::string& value : values) ExpectRefused(Line(base, option, {option.name + "=" + value}), option);
      ExpectRefused(Line(base, option, {option.name, "nan"}), option);
    }
  }
}

// The number in the message is the one that was given.
TEST_F(Options, LongNumbersAreNotCut) {
  const Outcome run = RunCli(Line(Bases(folder_)[0], {"--groups", "N"}, {"--groups", "99999999999999999999"}));
  EXPECT_NE(run.err.find("--groups: '99999999999999999999' is not a whole number from 1 to 9223372036854775807"),
            std::string::npos)
      << run.err;
}

TEST_F(Options, NumbersThatNoDoubleHolds) {
  for (const std::string value : {"1e-400", "1e400"}) {
    const Outcome run = RunCli(Line(Bases(folder_)[0], {"--eps", "NUMBER"}, {"--eps", value}));
    EXPECT_EQ(run.exit_code, 2);
    EXPECT_NE(run.err.find("--eps: '" + value + "' is too large or too small"), std::string::npos) << run.err;
  }
}

// A leading zero makes no octal number, and a bracket no list.
TEST_F(Options, ValuesAreWhatTheySay) {
  const Outcome run = RunCli(Line(Bases(folder_)[0], {"--groups", "N"}, {"--groups", "010", "--json"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(nlohmann::json::parse(run.out)["groups"], 10);
  const Outcome names = RunCli({"verify", "--quick", "--target=reference", "--golden", "[a,b]"});
  EXPECT_EQ(names.exit_code, 3);
  EXPECT_NE(names.err.find("[a,b]"), std::string::npos) << names.err;
}

}  // namespace
}  // namespace isonorm_test
