// What reaches a terminal: a progress line that fits it, and no control character from a file, a path or the environment.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <isonorm/isonorm.hpp>
#include <stdexcept>
#include <thread>

#include "process.h"

namespace isonorm_test {
namespace {

// The other end of a terminal.
class Terminal {
 public:
  explicit Terminal(unsigned short columns) : fd_(posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK)) {
    const winsize size = {24, columns, 0, 0};
    if (fd_ < 0 || grantpt(fd_) != 0 || unlockpt(fd_) != 0 || ioctl(fd_, TIOCSWINSZ, &size) != 0) {
      throw std::runtime_error("no terminal for the test");
    }
  }
  ~Terminal() { close(fd_); }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  std::string path() const { return ptsname(fd_); }
  std::string Read() const {
    char text[4096];
    const ssize_t n = read(fd_, text, sizeof text);
    return {text, static_cast<std::size_t>(std::max<ssize_t>(n, 0))};
  }

 private:
  int fd_;
};

constexpr const char* kHostile =
    "\x1b[31mred\x07\xc2\x9b"
    "32m\xe2\x80\xae\x7f\r\b";

// No byte that a terminal obeys, but for the end of a line.
void ExpectHarmless(const std::string& text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    EXPECT_TRUE(byte == '\n' || (byte >= 0x20 && byte != 0x7f))
        << "byte " << int{byte} << " in " << testing::PrintToString(text);
    EXPECT_FALSE(byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0) << text;
  }
  EXPECT_EQ(text.find("\xe2\x80\xae"), std::string::npos) << text;
}

class TerminalTest : public testing::Test {
 protected:
  // What a long `stats` writes to a terminal until it has shown some progress, or for some time.
  std::string Progress(unsigned short columns, std::vector<std::string> environment, std::chrono::milliseconds time) {
    const std::string in = folder_ / kHostile + ".npy";
    const std::string header = NpyFile(NpyDictionary("<f4", "(1000000, 4096)"), "");
    WriteAll(in, header);
    EXPECT_EQ(truncate(in.c_str(), static_cast<off_t>(header.size()) + 4096 * 4000000LL), 0);  // sparse
    const Terminal terminal(columns);
    RunOptions options;
    options.stderr_path = terminal.path();
    options.environment = std::move(environment);
    Program program(CliCommand({"stats", in, "--threads", "1"}), options);
    const auto end = std::chrono::steady_clock::now() + time;
    std::string text;
    while (program.Running() && std::chrono::steady_clock::now() < end && std::count(text.begin(), text.end(), '\r') < 3) {
      text += terminal.Read();
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    program.Signal(SIGINT);
    EXPECT_EQ(program.Wait().exit_code, 130);
    return text;
  }

  const Folder folder_;
};

TEST_F(TerminalTest, ProgressFitsTheWindow) {
  for (const unsigned short columns : {100, 30, 8}) {
    const std::string text = Progress(columns, {"TERM=xterm", "NO_COLOR=1"}, std::chrono::seconds(20));
    ASSERT_NE(text.find('%'), std::string::npos) << columns << testing::PrintToString(text);
    EXPECT_EQ(text.find("[#") != std::string::npos || text.find("[.") != std::string::npos, columns == 100) << text;
    std::string rest = text;
    for (std::size_t at; (at = rest.find('\r')) != std::string::npos; rest.erase(0, at + 1)) {
      EXPECT_LT(at, std::size_t{columns}) << testing::PrintToString(text);
      ExpectHarmless(rest.substr(0, at));
    }
  }
}

TEST_F(TerminalTest, NoProgressWhereALineCannotBeOverwritten) {
  for (const char* const term : {"TERM=dumb", "TERM="}) {
    EXPECT_EQ(Progress(100, {term}, std::chrono::milliseconds(1500)), "") << term;
  }
}

TEST_F(TerminalTest, HostilePaths) {
  const std::string good = folder_ / (kHostile + std::string("\n.npy")), bad = folder_ / kHostile;
  WriteAll(good, NpyFile(NpyDictionary("<f4", "(2, 4)"), Bytes(Values(8, 1))));
  WriteAll(bad, "no such format");
  const std::string out = folder_ / (std::string("out") + kHostile + ".npy");
  const std::vector<std::string> lines[] = {
      {"apply", good, "-o", out, "--contract", "torch", "--eps", "1", "--force"},
      {"apply", good, "-o", bad, "--contract", "torch", "--eps", "1"},
      {"apply", bad, "-o", out, "--contract", "torch", "--eps", "1"},
      {"apply", good, "-o", out, "--contract", kHostile, "--eps", kHostile},
      {"apply", good, "-o", out, "--contract", "torch", "--eps", "1", "--tensor", kHostile},
      {"apply", good, "-o", out, "--contract", "torch", "--eps", "1", "--weight", kHostile},
      {"apply", good, "-o", out, "--contract", "torch", "--eps", "1", "--target", kHostile},
      {"stats", good, good},
      {"stats", good, "--html", folder_ / (std::string(kHostile) + ".html")},
      {"stats", bad},
      {"verify", "--quick", "--case", kHostile},
      {"verify", "--quick", "--case", "p000", "--target", kHostile},
      {"verify", "--golden", bad},
      {"bench", "--filter", kHostile},
      {"list", kHostile},
      {std::string("--") + kHostile},
      {kHostile}};
  for (const auto& line : lines) {
    for (const bool json : {false, true}) {
      std::vector<std::string> words = line;
      if (json) words.insert(words.begin(), "--json");
      const Outcome run = RunCli(words);
      ExpectHarmless(run.out);
      ExpectHarmless(run.err);
      EXPECT_LE(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
      if (!json) continue;
      const auto result = nlohmann::json::parse(run.out, nullptr, false);
      ASSERT_TRUE(result.is_object()) << run.out;
      if (line[0] != "apply" || run.exit_code != 0) continue;
      EXPECT_EQ(result["output"], out);  // escaped, not replaced
    }
  }
}

// As the documentation says of every name: escaped, in one line.
TEST_F(TerminalTest, HostileTensorNames) {
  const std::string in = folder_ / "in.safetensors", out = folder_ / "out.safetensors";
  WriteAll(in, SafetensorsFile("{" + Entry("\\u001b[31mred\\n", "F32", "[2,4]", 0, 32) + "}", Bytes(Values(8, 1))));
  for (const std::vector<std::string>& line :
       {std::vector<std::string>{"stats", in}, {"apply", in, "-o", out, "--contract", "torch", "--eps", "1"}}) {
    const Outcome run = RunCli(line);
    EXPECT_EQ(run.exit_code, 0) << run.err;
    ExpectHarmless(run.out);
    EXPECT_NE(run.out.find("\\u001b[31mred\\u000a "), std::string::npos) << run.out;
  }
}

TEST_F(TerminalTest, ATargetThatIsNotThere) {
  for (const std::string name : {"garbage", "avx2", kHostile}) {
    for (const std::vector<std::string>& line :
         {std::vector<std::string>{"verify", "--quick", "--case", "p000"}, {"list"}, {"bench", "--list"}}) {
      const Outcome run = RunCli(line, {.environment = {"ISONORM_TARGET=" + name}});
      EXPECT_EQ(run.exit_code, 5) << name << run.err;
      EXPECT_EQ(run.out, "");
      EXPECT_NE(run.err.find("ISONORM_TARGET is \""), std::string::npos) << run.err;
      EXPECT_NE(run.err.find(isonorm::list_targets().front()), std::string::npos) << run.err;
      ExpectHarmless(run.err);
    }
  }
  EXPECT_EQ(RunCli({"list"}, {.environment = {"ISONORM_TARGET="}}).exit_code, 0);
}

}  // namespace
}  // namespace isonorm_test
