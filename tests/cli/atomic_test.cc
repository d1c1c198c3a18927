// The output appears whole or not at all: existing files, Ctrl-C, full disks, a file that appears meanwhile.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "process.h"

namespace isonorm_test {
namespace {

using Names = std::vector<std::string>;

std::vector<std::string> Apply(const std::string& in, const std::string& out, bool force = false) {
  std::vector<std::string> args = {"apply", in, "-o", out, "--contract", "torch", "--eps", "1e-6", "--threads", "1"};
  if (force) args.push_back("--force");
  return args;
}

// A file of zeros that takes no room on the disk and a while to normalise.
void WriteSparse(const std::string& path, std::int64_t rows) {
  const std::string header = NpyFile(NpyDictionary("<f4", "(" + std::to_string(rows) + ", 4096)"), "");
  WriteAll(path, header);
  ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(header.size()) + rows * 4096 * 4), 0);
}

class Atomic : public testing::Test {
 protected:
  Atomic() { WriteAll(folder_ / "in.npy", NpyFile(NpyDictionary("<f4", "(2, 4)"), Bytes(Values(8, 1)))); }

  // Starts work on a large file and returns once its output is there: a file without a name, "/folder/#123 (deleted)" to the
  // kernel, or where the file system has none, a hidden one.
  std::unique_ptr<Program> StartLarge(std::int64_t rows = 1 << 17, const RunOptions& options = {}, bool force = false) {
    WriteSparse(folder_ / "large.npy", rows);
    auto program = std::make_unique<Program>(CliCommand(Apply(folder_ / "large.npy", folder_ / "out.npy", force)), options);
    const std::string output = options.environment.empty() ? "/#" : "/.out.npy.isonorm-";
    while (program->Running() && !program->Opened(output)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return program;
  }

  const RunOptions without_tmpfile_ = {
      .environment = {"LD_PRELOAD=" ISONORM_NO_TMPFILE_PATH, "ASAN_OPTIONS=verify_asan_link_order=0"}};

  const Folder folder_;
};

TEST_F(Atomic, NeverOverAnExistingFileWithoutForce) {
  WriteAll(folder_ / "out.npy", "precious");
  const Outcome refused = RunCli(Apply(folder_ / "in.npy", folder_ / "out.npy"));
  EXPECT_EQ(refused.exit_code, 4);
  EXPECT_NE(refused.err.find("exists already; --force replaces it"), std::string::npos) << refused.err;
  EXPECT_EQ(ReadAll(folder_ / "out.npy"), "precious");

  ASSERT_EQ(chmod((folder_ / "out.npy").c_str(), 0640), 0);
  const Outcome forced = RunCli(Apply(folder_ / "in.npy", folder_ / "out.npy", true));
  EXPECT_EQ(forced.exit_code, 0) << forced.err;
  EXPECT_TRUE(ReadAll(folder_ / "out.npy").starts_with("\x93NUMPY"));
  struct stat info = {};
  ASSERT_EQ(stat((folder_ / "out.npy").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);  // as the file had that it replaces
  EXPECT_EQ(folder_.Names(), (Names{"in.npy", "out.npy"}));
}

TEST_F(Atomic, TheInputMayBeReplaced) {
  ASSERT_EQ(RunCli(Apply(folder_ / "in.npy", folder_ / "out.npy")).exit_code, 0);
  EXPECT_EQ(RunCli(Apply(folder_ / "in.npy", folder_ / "in.npy")).exit_code, 4);
  EXPECT_EQ(RunCli(Apply(folder_ / "in.npy", folder_ / "in.npy", true)).exit_code, 0);
  EXPECT_EQ(ReadAll(folder_ / "in.npy"), ReadAll(folder_ / "out.npy"));
}

TEST_F(Atomic, OnlyRegularFilesAreReplaced) {
  ASSERT_EQ(mkdir((folder_ / "d.npy").c_str(), 0700), 0);
  ASSERT_EQ(symlink("in.npy", (folder_ / "l.npy").c_str()), 0);
  for (const char* const name : {"d.npy", "l.npy"}) {
    const Outcome run = RunCli(Apply(folder_ / "in.npy", folder_ / name, true));
    EXPECT_EQ(run.exit_code, 4) << name;
    EXPECT_NE(run.err.find("is not a regular file"), std::string::npos) << run.err;
  }
  EXPECT_EQ(folder_.Names(), (Names{"d.npy", "in.npy", "l.npy"}));
}

TEST_F(Atomic, AFolderThatIsNotThere) {
  const Outcome run = RunCli(Apply(folder_ / "in.npy", folder_ / "no/out.npy"));
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_NE(run.err.find("cannot be created: No such file or directory"), std::string::npos) << run.err;
}

TEST_F(Atomic, AFolderThatTakesNoFiles) {  // not even from root
  const Outcome run = RunCli(Apply(folder_ / "in.npy", "/proc/out.npy"));
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_NE(run.err.find("/proc/out.npy: cannot be created"), std::string::npos) << run.err;
}

TEST_F(Atomic, RespectsTheUmask) {
  const mode_t old = umask(027);
  EXPECT_EQ(RunCli(Apply(folder_ / "in.npy", folder_ / "out.npy")).exit_code, 0);
  umask(old);
  struct stat info = {};
  ASSERT_EQ(stat((folder_ / "out.npy").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
}

TEST_F(Atomic, SignalsLeaveNothingBehind) {
  RunOptions slow = without_tmpfile_;
  slow.environment.emplace_back("ISONORM_SLOW_FILES=1");
  for (const RunOptions& options : {RunOptions{}, without_tmpfile_, slow}) {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGALRM, SIGXCPU}) {
      const auto program = StartLarge(1 << 17, options);
      program->Signal(signal);
      const Outcome run = program->Wait();
      EXPECT_EQ(run.exit_code, 130) << signal << run.err;
      EXPECT_EQ(folder_.Names(), (Names{"in.npy", "large.npy"})) << signal;
    }
    const auto program = StartLarge(1 << 17, options);
    program->Signal(SIGABRT);  // and what dumps core takes its course
    program->Wait();
    EXPECT_EQ(folder_.Names(), (Names{"in.npy", "large.npy"}));
  }
}

TEST_F(Atomic, KilledItLeavesNothingBehindEither) {
  WriteAll(folder_ / "out.npy", "precious");
  const auto program = StartLarge(1 << 17, {}, true);
  program->Signal(SIGKILL);
  EXPECT_EQ(program->Wait().signal, SIGKILL);
  EXPECT_EQ(folder_.Names(), (Names{"in.npy", "large.npy", "out.npy"}));
  EXPECT_EQ(ReadAll(folder_ / "out.npy"), "precious");
}

// Where files have a name from the beginning, the next run removes what a killed one left, and nothing else.
TEST_F(Atomic, TheNextRunRemovesWhatAKilledOneLeft) {
  WriteAll(folder_ / ".mine.isonorm-notes", "precious");
  const auto killed = StartLarge(1 << 17, without_tmpfile_);
  killed->Signal(SIGKILL);
  killed->Wait();
  ASSERT_EQ(folder_.Names().size(), 4u) << "nothing was left: is there a name at all?";
  const auto working = StartLarge(1 << 17, without_tmpfile_);
  ASSERT_EQ(folder_.Names().size(), 4u);
  EXPECT_EQ(RunCli(Apply(folder_ / "in.npy", folder_ / "other.npy")).exit_code, 0);
  EXPECT_EQ(folder_.Names().size(), 5u) << "the file of a run that is at work was removed";
  working->Signal(SIGTERM);
  EXPECT_EQ(working->Wait().exit_code, 130);
  EXPECT_EQ(folder_.Names(), (Names{".mine.isonorm-notes", "in.npy", "large.npy", "other.npy"}));
}

TEST_F(Atomic, WorksWithoutFilesThatHaveNoName) {
  ASSERT_EQ(RunCli(Apply(folder_ / "in.npy", folder_ / "out.npy")).exit_code, 0);
  EXPECT_EQ(RunCli(Apply(folder_ / "in.npy", folder_ / "named.npy"), without_tmpfile_).exit_code, 0);
  EXPECT_EQ(RunCli(Apply(folder_ / "in.npy", folder_ / "named.npy"), without_tmpfile_).exit_code, 4);
  EXPECT_EQ(RunCli(Apply(folder_ / "in.npy", folder_ / "named.npy", true), without_tmpfile_).exit_code, 0);
  EXPECT_EQ(ReadAll(folder_ / "named.npy"), ReadAll(folder_ / "out.npy"));
  EXPECT_EQ(folder_.Names(), (Names{"in.npy", "named.npy", "out.npy"}));
}

TEST_F(Atomic, ASignalThatIsIgnoredStaysSo) {  // as nohup has it
  const Outcome run =
      Program({"sh", "-c", "trap '' HUP; \"$0\" apply \"$1\" -o \"$2\" --contract torch --eps 1 & kill -HUP $!; wait $!",
               ISONORM_CLI_PATH, folder_ / "in.npy", folder_ / "out.npy"})
          .Wait();
  EXPECT_EQ(run.exit_code, 0) << run.err;
}

TEST_F(Atomic, AFileThatAppearsMeanwhileStays) {
  const auto program = StartLarge(1 << 13);  // 128 MiB
  WriteAll(folder_ / "out.npy", "precious");
  const Outcome run = program->Wait();
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_NE(run.err.find("appeared meanwhile"), std::string::npos) << run.err;
  EXPECT_EQ(ReadAll(folder_ / "out.npy"), "precious");
  EXPECT_EQ(folder_.Names(), (Names{"in.npy", "large.npy", "out.npy"}));
}

TEST_F(Atomic, AFileThatMayNotGrow) {
  WriteSparse(folder_ / "large.npy", 1 << 12);  // 64 MiB
  const Outcome run = RunCli(Apply(folder_ / "large.npy", folder_ / "out.npy"), {.file_size_limit = 20 << 20});
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_NE(run.err.find("cannot be written in full: File too large"), std::string::npos) << run.err;
  EXPECT_EQ(folder_.Names(), (Names{"in.npy", "large.npy"}));
}

// A disk of 1 MB, which takes the right to mount one. Where the system refuses that, the test above stands alone.
TEST_F(Atomic, AFullDisk) {
  if (Program({"unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "disk", folder_.path()}).Wait().exit_code != 0) {
    GTEST_SKIP() << "no right to mount a small disk";
  }
  WriteSparse(folder_ / "large.npy", 1 << 12);
  ASSERT_EQ(mkdir((folder_ / "disk").c_str(), 0700), 0);
  const std::string script =
      "mount -t tmpfs -o size=1m disk \"$1\" && { \"$0\" apply \"$2\" -o \"$1/out.npy\" --contract torch --eps 1; "
      "code=$?; ls -A \"$1\"; exit $code; }";
  const Outcome run =
      Program({"unshare", "-rm", "sh", "-c", script, ISONORM_CLI_PATH, folder_ / "disk", folder_ / "large.npy"}).Wait();
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_NE(run.err.find("cannot be written in full: No space left on device"), std::string::npos) << run.err;
  EXPECT_EQ(run.out, "");  // the disk is empty again
}

}  // namespace
}  // namespace isonorm_test
