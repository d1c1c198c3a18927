// Every allocation, every call to the system and every start of a thread fails once in turn, as SQLite tests itself: whatever
// fails, the output is whole or absent, nothing else is left, the exit code is the documented one, and nothing crashes.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <fcntl.h>
#include <memory>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string_view>

#include "faults/control.h"
#include "process.h"

namespace isonorm_test {
namespace {

struct Fault {
  FaultKind kind = FaultKind::kNone;
  FaultMode mode = FaultMode::kFail;
  std::int64_t at = 0;
};

struct Result {
  Outcome outcome;
  std::string hit;  // the function that failed, "" if none did
  int descriptor = -1;
  std::int64_t count = 0;  // of calls of the kind
};

// A program that is loaded once and runs once for each fault.
class Injected {
 public:
  explicit Injected(const std::vector<std::string>& args) {
    WriteAll(folder_ / "control", std::string(sizeof(FaultControl), '\0'));
    const int file = open((folder_ / "control").c_str(), O_RDWR | O_CLOEXEC);
    void* const page = mmap(nullptr, sizeof(FaultControl), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (page == MAP_FAILED || pipe2(start_, O_CLOEXEC) != 0 || pipe2(status_, O_CLOEXEC) != 0) {
      throw std::runtime_error("no control over the program");
    }
    control_ = new (page) FaultControl{};
    RunOptions options;
    options.stdout_path = folder_ / "out";
    options.stderr_path = folder_ / "err";
    options.environment = {"ISONORM_TASK_BYTES=1",  // or nothing here would be worth a thread
                           "LD_BIND_NOW=1",         // once, and not in each of the processes
                           std::string("LD_PRELOAD=") + ISONORM_FAULTS_PATH,
                           std::string(kControlVariable) + "=" + folder_ / "control"};
    options.descriptors = {{start_[0], kStartDescriptor}, {status_[1], kStatusDescriptor}};
    program_ = std::make_unique<Program>(CliCommand(args), options);
    close(start_[0]);
    close(status_[1]);
  }
  ~Injected() {
    program_.reset();
    close(start_[1]);
    close(status_[0]);
    munmap(control_, sizeof(FaultControl));
  }
  Injected(const Injected&) = delete;
  Injected& operator=(const Injected&) = delete;

  Result Run(const Fault& fault) {
    const std::string out = folder_ / "out", err = folder_ / "err";
    WriteAll(out, "");
    WriteAll(err, "");
    new (control_) FaultControl{fault.kind, fault.mode, fault.at, {0}, {}, -1};
    int status = 0;
    if (write(start_[1], "", 1) != 1 || read(status_[0], &status, sizeof status) != sizeof status) {
      throw std::runtime_error("the program does not answer");
    }
    Result result;
    if (WIFEXITED(status)) result.outcome.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) result.outcome.signal = WTERMSIG(status);
    result.outcome.out = ReadAll(out);
    result.outcome.err = ReadAll(err);
    result.hit = control_->hit;
    result.descriptor = control_->descriptor;
    result.count = control_->count;
    return result;
  }

 private:
  Folder folder_;
  FaultControl* control_ = nullptr;
  int start_[2] = {}, status_[2] = {};
  std::unique_ptr<Program> program_;
};

// Numbers aside, which are times too.
std::string Shape(const std::string& text) {
  std::string shape;
  for (const char c : text) {
    if (std::isdigit(static_cast<unsigned char>(c)) == 0 && std::string_view(".-+e ").find(c) == std::string_view::npos)
      shape += c;
  }
  return shape;
}

// A command, what it writes, and what it does when nothing fails.
class Command {
 public:
  // output: a name in the folder, "" if nothing is written; before: what it holds before, "" if there is no such file.
  Command(std::vector<std::string> args, std::string output, std::string before = "")
      : output_(std::move(output)), before_(std::move(before)), json_(args[0] == "--json"), injected_(std::move(args)) {}

  void Learn(const Folder& folder) {
    inputs_ = folder.Names();
    Prepare(folder);
    expected_ = injected_.Run({});
    if (output_.empty()) return;
    written_ = ReadAll(folder / output_);
    std::remove((folder / output_).c_str());
  }

  const Result& expected() const { return expected_; }

  // Runs once; what is wrong with the end of it, "" if nothing is.
  std::string Complaint(const Folder& folder, const Fault& fault, Result* result) {
    Prepare(folder);
    *result = injected_.Run(fault);
    std::string complaint = Judge(folder, fault, *result);
    if (!output_.empty()) std::remove((folder / output_).c_str());
    return complaint;
  }

  std::string Judge(const Folder& folder, const Fault& fault, const Result& result) const {
    const Outcome& run = result.outcome;
    if (run.signal != 0) return "ended by signal " + std::to_string(run.signal) + ": " + run.err;
    for (const std::string& name : folder.Names()) {
      const bool known = name == output_ || std::find(inputs_.begin(), inputs_.end(), name) != inputs_.end();
      if (!known) return "left " + name;
    }
    if (!output_.empty()) {
      const bool there = access((folder / output_).c_str(), F_OK) == 0;
      const std::string bytes = there ? ReadAll(folder / output_) : "";
      const bool untouched = run.exit_code != 0 && there == !before_.empty() && bytes == before_;
      if (!untouched && bytes != written_) return "an output of " + std::to_string(bytes.size()) + " bytes";
    }
    if (run.exit_code == 0) {
      if (Shape(run.out) != Shape(expected_.outcome.out)) return "printed something else: " + run.out;
      return run.err.empty() ? "" : "complained: " + run.err;
    }
    if (fault.mode != FaultMode::kFail || run.exit_code != CodeOf(result)) {
      return "exit code " + std::to_string(run.exit_code) + ": " + run.err;
    }
    if (!run.err.starts_with("isonorm: ") || std::count(run.err.begin(), run.err.end(), '\n') != 1) return "said " + run.err;
    const std::string end = "\"exit_code\": " + std::to_string(run.exit_code) + "\n}\n";
    const bool error = run.out.starts_with("{\n  \"error\": ") && run.out.ends_with(end);
    return json_ && result.hit != "write" && !error ? "printed " + run.out : "";
  }

 private:
  // Of a call that failed, where the program has to give up.
  static int CodeOf(const Result& result) {
    if (result.hit == "open" || result.hit == "read" || result.hit == "fstat") return 3;
    if (result.hit == "memory") return 5;
    return result.hit == "pthread_create" || result.hit.empty() ? 0 : 4;  // a pool of fewer threads does
  }

  void Prepare(const Folder& folder) const {
    if (output_.empty()) return;
    std::remove((folder / output_).c_str());
    if (!before_.empty()) WriteAll(folder / output_, before_);
  }

  std::string output_, before_;
  bool json_;
  Injected injected_;
  std::vector<std::string> inputs_;
  Result expected_;
  std::string written_;
};

class Faults : public testing::Test {
 protected:
  Faults() {
    WriteAll(folder_ / "in.safetensors",
             SafetensorsFile("{" + Entry("a.x", "F32", "[2,4]", 0, 32) + "," + Entry("a.weight", "F32", "[4]", 32, 48) + "}",
                             Bytes(Values(12, 1))));
    WriteAll(folder_ / "in.npy", NpyFile(NpyDictionary("<f4", "(3, 4)"), Bytes(Values(12, 2))));
    std::istringstream golden(ReadAll(ISONORM_GOLDEN_PATH));
    std::string lines;
    for (std::string line; std::getline(golden, line) && std::count(lines.begin(), lines.end(), '\n') < 2;) {
      if (!line.empty() && line[0] != '#') lines += line + "\n";
    }
    WriteAll(folder_ / "golden.tsv", lines);
  }

  std::vector<std::string> Apply(const std::string& threads) const {
    return {"apply",      folder_ / "in.safetensors",
            "-o",         folder_ / "out.safetensors",
            "--contract", "torch",
            "--eps",      "1e-6",
            "--weight",   "{prefix}.weight",
            "--digest",   "--keep-others",
            "--threads",  threads};
  }
  std::unique_ptr<Command> Learned(std::vector<std::string> args, const std::string& output, const std::string& before = "") {
    auto command = std::make_unique<Command>(std::move(args), output, before);
    command->Learn(folder_);
    EXPECT_EQ(command->expected().outcome.exit_code, 0) << command->expected().outcome.err;
    EXPECT_EQ(command->expected().hit, "");
    return command;
  }

  std::vector<std::unique_ptr<Command>> Commands(const std::string& threads) {
    std::vector<std::unique_ptr<Command>> commands;
    commands.push_back(Learned(Apply(threads), "out.safetensors"));
    commands.push_back(Learned({"--json", "apply", folder_ / "in.npy", "-o", folder_ / "out.npy", "--contract", "layer_norm",
                                "--eps", "1e-6", "--force", "--threads", threads},
                               "out.npy", "what was there before"));
    commands.push_back(Learned({"stats", folder_ / "in.npy", "--html", folder_ / "r.html", "--threads", threads}, "r.html"));
    commands.push_back(Learned({"--json", "stats", folder_ / "in.safetensors", "--threads", threads}, ""));
    commands.push_back(Learned({"verify", "--quick", "--golden", folder_ / "golden.tsv", "--target", "reference", "--case",
                                "p000", "--threads", threads},
                               ""));
    commands.push_back(Learned({"--json", "checkpoint", "fold", folder_ / "in.safetensors", "-o",
                                folder_ / "folded.safetensors", "--norm", "*.weight", "--linear", "*.x"},
                               "folded.safetensors"));
    commands.push_back(Learned({"list"}, ""));
    commands.push_back(Learned({"--json", "list"}, ""));
    return commands;
  }

  // From the first call on until a run meets no fault. How many runs met one.
  std::int64_t All(Command& command, FaultKind kind, FaultMode mode, std::int64_t first = 1) {
    Result result;
    int complaints = 0;
    for (std::int64_t at = first;; ++at) {
      const std::string complaint = command.Complaint(folder_, {kind, mode, at}, &result);
      EXPECT_EQ(complaint, "") << "call " << at << ", " << result.hit << " of " << result.descriptor;
      complaints += complaint.empty() ? 0 : 1;
      if (result.hit.empty() || complaints == 3) return at - first;
    }
  }

  const Folder folder_;
};

TEST_F(Faults, Memory) { EXPECT_GT(All(*Learned(Apply("1"), "out.safetensors"), FaultKind::kMemory, FaultMode::kFail), 100); }

// What all verbs do before their own work is tested above.
TEST_F(Faults, MemoryOfOtherVerbs) {
  const std::int64_t shared = Injected({"--version"}).Run({FaultKind::kMemory, FaultMode::kFail, 0}).count * 9 / 10;
  std::vector<std::unique_ptr<Command>> commands = Commands("1");
  commands.erase(commands.begin());
  for (const auto& command : commands) EXPECT_GT(All(*command, FaultKind::kMemory, FaultMode::kFail, shared), 100);
}

// What fits into no reserve.
TEST_F(Faults, LargePieces) {
  for (const auto& command : Commands("1")) EXPECT_GE(All(*command, FaultKind::kLarge, FaultMode::kFail), 1);
}

// As a limit of the shell or of a container sets it: from where the program starts at all, to where a row of 4 MB is no matter.
TEST_F(Faults, LittleMemory) {
  WriteAll(folder_ / "in.npy", NpyFile(NpyDictionary("<f4", "(1, 1048576)"), std::string(4 << 20, '\0')));
  const std::vector<std::string> apply = {
      "apply", folder_ / "in.npy", "-o", folder_ / "out.npy", "--contract", "torch", "--eps", "1e-6", "--threads", "1"};
  std::int64_t done = 0, refused = 0;
  for (std::int64_t kib = 4 << 10; kib <= 80 << 10 && done < 3; kib += 512) {
    const std::string script = "ulimit -v " + std::to_string(kib) + "; \"$0\" --version && exec \"$0\" \"$@\"";
    std::vector<std::string> line = {"sh", "-c", script};
    for (const std::string& word : CliCommand(apply)) line.push_back(word);
    const Outcome run = Program(line).Wait();
    const bool there = std::remove((folder_ / "out.npy").c_str()) == 0;
    if (run.exit_code == 127 || run.out.empty()) continue;  // not even --version
    EXPECT_TRUE(run.exit_code == 0 || run.exit_code == 5) << kib << " KiB: " << run.exit_code << ", " << run.signal << run.err;
    EXPECT_EQ(there, run.exit_code == 0) << kib;
    EXPECT_EQ(folder_.Names().size(), 3u) << kib;
    ++(run.exit_code == 0 ? done : refused);
  }
  EXPECT_EQ(done, 3);
  EXPECT_GE(refused, 1);
}

TEST_F(Faults, System) {
  for (const auto& command : Commands("1")) {
    for (const FaultMode mode : {FaultMode::kFail, FaultMode::kInterrupt, FaultMode::kShort}) {
      EXPECT_GE(All(*command, FaultKind::kSystem, mode), 1);
    }
  }
}

TEST_F(Faults, Threads) {
  std::int64_t starts = 0;
  for (const auto& command : Commands("3")) starts += All(*command, FaultKind::kThread, FaultMode::kFail);
  EXPECT_GE(starts, 2);  // a pool starts them for its first job
}

// The judge: a program that ignores a failed write, or leaves something, or crashes, does not pass.
TEST_F(Faults, AreNoticed) {
  const auto command = Learned(Apply("1"), "out.safetensors");
  Result result;
  std::int64_t lies = 0;
  for (std::int64_t at = 1;; ++at) {
    const Fault fault = {FaultKind::kSystem, FaultMode::kLie, at};
    const std::string complaint = command->Complaint(folder_, fault, &result);
    if (result.hit.empty()) break;
    EXPECT_NE(complaint, "") << at;
    ++lies;
  }
  EXPECT_GE(lies, 3);  // header, values, standard output
  const auto quiet = Learned({"list"}, "");
  EXPECT_EQ(quiet->Complaint(folder_, {}, &result), "");
  Result crash = result;
  crash.outcome.signal = 6;
  EXPECT_NE(quiet->Judge(folder_, {}, crash), "");
  Result code = result;
  code.outcome.exit_code = 5;
  EXPECT_NE(quiet->Judge(folder_, {FaultKind::kSystem, FaultMode::kFail, 1}, code), "");
  WriteAll(folder_ / ".out.npy.abcdef", "");
  EXPECT_EQ(quiet->Judge(folder_, {}, result), "left .out.npy.abcdef");
}

}  // namespace
}  // namespace isonorm_test
