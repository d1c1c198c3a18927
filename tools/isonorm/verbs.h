// What main.cc and the verbs share. Each verb lives in a file of its own and adds itself to the command line.
#pragma once

#include <stdexcept>
#include <string>

namespace CLI {
class App;  // not its header, which takes longer to compile than most files here
}

namespace isonorm_cli {

// Documented in `isonorm --help` and docs/cli.md; a value never changes its meaning.
enum ExitCode : int {
  kOk = 0,
  kCheckFailed = 1,    // verify found a difference, or bench --check a missed goal
  kUsage = 2,          // the command line is wrong
  kBadInput = 3,       // an input file is missing, damaged, or of a kind that isonorm does not read
  kCannotWrite = 4,    // the output exists already, or cannot be written in full
  kLibrary = 5,        // the library refused the call, or memory ran out
  kInterrupted = 130,  // Ctrl-C or another signal; no file is left in part
  kClosedPipe = 141    // nobody reads standard output any more, which ends other programs by SIGPIPE
};

// Thrown by a verb to end the program: main prints the message to stderr and exits with the code.
class Failure : public std::runtime_error {
 public:
  Failure(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// The options before or after every verb, and what the program will return. A verb prints its result to stdout, as one JSON
// value where `json` is set, and everything else to stderr.
struct Context {
  bool json = false;     // --json
  bool progress = true;  // --no-progress clears it
  int exit_code = kOk;
};

// Each adds its subcommand, whose callback does the work; `context` outlives the callback.
void AddApply(CLI::App& app, Context& context);
void AddVerify(CLI::App& app, Context& context);
void AddList(CLI::App& app, Context& context);
void AddBench(CLI::App& app, Context& context);
void AddStats(CLI::App& app, Context& context);
void AddCheckpoint(CLI::App& app, Context& context);

}  // namespace isonorm_cli
