// Ctrl-C ends every verb within a second, whatever it is at.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "process.h"

namespace isonorm_test {
namespace {

using Clock = std::chrono::steady_clock;

// A verb at work, and how long it takes to end after a signal. A second is promised; the rest is patience with a machine that
// has more to do. Without the deadline `bench` took 44 s.
void ExpectSoonOver(const std::vector<std::string>& args, const std::string& json) {
  Program program(CliCommand(args));
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  ASSERT_TRUE(program.Running()) << "it was over before the signal: " << program.Wait().err;
  const Clock::time_point start = Clock::now();
  program.Signal(SIGINT);
  const Outcome run = program.Wait();
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(5));
  EXPECT_EQ(run.exit_code, 130) << run.err;
  EXPECT_EQ(run.err, "isonorm: interrupted\n");
  EXPECT_EQ(run.out, json);
}

constexpr const char* kJson = "{\n  \"error\": \"interrupted\",\n  \"exit_code\": 130\n}\n";

TEST(Interrupt, Bench) {
  // One row, which takes ten minutes.
  ExpectSoonOver({"bench", "--filter", "cached.1x4096.bf16", "--rounds", "10000", "--json"}, kJson);
}

TEST(Interrupt, Verify) { ExpectSoonOver({"verify", "--json"}, kJson); }

TEST(Interrupt, ApplyAndStats) {
  const Folder folder;
  constexpr std::int64_t kRows = 1 << 22, kBytes = kRows * 4096 * 4;  // 64 GiB, none of which is on the disk
  const std::string header = NpyFile(NpyDictionary("<f4", "(" + std::to_string(kRows) + ", 4096)"), "");
  WriteAll(folder / "in.npy", header);
  ASSERT_EQ(truncate((folder / "in.npy").c_str(), static_cast<off_t>(header.size()) + kBytes), 0);
  ExpectSoonOver({"stats", folder / "in.npy", "--html", folder / "report.html"}, "");
  ExpectSoonOver({"apply", folder / "in.npy", "-o", folder / "out.npy", "--contract", "torch", "--eps", "1", "--json"}, kJson);
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"in.npy"});
}

// While it looks for the means of columns, and has nothing to write yet.
TEST(Interrupt, Checkpoint) {
  const Folder folder;
  constexpr std::int64_t kRows = 1 << 22, kBytes = kRows * 4096 * 4;
  const std::string header = SafetensorsFile("{" + Entry("x", "F32", "[4194304,4096]", 0, kBytes) + "}", "");
  WriteAll(folder / "in.safetensors", header);
  ASSERT_EQ(truncate((folder / "in.safetensors").c_str(), static_cast<off_t>(header.size()) + kBytes), 0);
  ExpectSoonOver({"checkpoint", "recenter", folder / "in.safetensors", "-o", folder / "out.safetensors", "--linear", "x",
                  "--no-head", "--json"},
                 kJson);
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"in.safetensors"});
}

// The rest of a second signal's way: at once.
TEST(Interrupt, TwiceIsAtOnce) {
  Program program(CliCommand({"bench", "--filter", "cached.1x4096.bf16", "--rounds", "10000"}));
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  program.Signal(SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  program.Signal(SIGTERM);
  EXPECT_EQ(program.Wait().exit_code, 130);
}

}  // namespace
}  // namespace isonorm_test
