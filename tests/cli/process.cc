#include "process.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <stdexcept>

namespace isonorm_test {

Program::Program(const std::vector<std::string>& argv, const RunOptions& options) {
  std::vector<char*> pointers;
  pointers.reserve(argv.size() + 1);
  for (const std::string& arg : argv) pointers.push_back(const_cast<char*>(arg.c_str()));
  pointers.push_back(nullptr);
  const std::string out = options.stdout_path.empty() ? streams_ / "out" : options.stdout_path;
  const std::string err = options.stderr_path.empty() ? streams_ / "err" : options.stderr_path;
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("fork failed");
  if (pid_ > 0) return;
  // The streams first: the size limit below is for the program's own files.
  dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
  dup2(open(out.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600), STDOUT_FILENO);
  dup2(open(err.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY, 0600), STDERR_FILENO);
  if (int ends[2]; options.broken_stdout && pipe(ends) == 0) {
    close(ends[0]);
    dup2(ends[1], STDOUT_FILENO);
  }
  for (const auto& [ours, theirs] : options.descriptors) dup2(ours, theirs);
  for (const int descriptor : options.closed) close(descriptor);
  if (options.file_size_limit >= 0) {
    const auto size = static_cast<rlim_t>(options.file_size_limit);
    const rlimit limit = {size, size};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  // A shell without job control has its background jobs ignore these, and so would the program.
  for (const int signal : {SIGHUP, SIGINT, SIGQUIT}) std::signal(signal, SIG_DFL);
  unsetenv("ISONORM_TARGET");
  for (const std::string& variable : options.environment) putenv(const_cast<char*>(variable.c_str()));
  execvp(pointers[0], pointers.data());
  _exit(127);
}

Program::~Program() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void Program::Signal(int signal) const { kill(pid_, signal); }

bool Program::Opened(const std::string& part) const {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid_) + "/fd", error)) {
    const std::string target = std::filesystem::read_symlink(entry.path(), error).string();
    if (!error && target.find(part) != std::string::npos) return true;
  }
  return false;
}

bool Program::Running() {
  siginfo_t info = {};
  return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

Outcome Program::Wait() {
  int status = 0;
  rusage usage = {};
  if (wait4(pid_, &status, 0, &usage) != pid_) throw std::runtime_error("wait4 failed");
  pid_ = -1;
  Outcome outcome;
  if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  outcome.max_resident = std::int64_t{usage.ru_maxrss} * 1024;
  const std::vector<std::string> names = streams_.Names();
  for (const std::string& name : names) (name == "out" ? outcome.out : outcome.err) = ReadAll(streams_ / name);
  return outcome;
}

std::vector<std::string> CliCommand(const std::vector<std::string>& args) {
  std::vector<std::string> argv = {ISONORM_CLI_PATH};
  argv.insert(argv.end(), args.begin(), args.end());
  return argv;
}

Outcome RunCli(const std::vector<std::string>& args, const RunOptions& options) {
  return Program(CliCommand(args), options).Wait();
}

}  // namespace isonorm_test
