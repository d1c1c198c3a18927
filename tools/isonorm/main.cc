// The command line: the verbs are in files of their own, here is what all of them share.
#include <fmt/format.h>
#include <isonorm/isonorm.hpp>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <new>
#include <sstream>
#include <string>
#include <vector>

#include "command_line.h"
#include "interrupt.h"
#include "print.h"
#include "verbs.h"

namespace isonorm_cli {
namespace {

// Memory for the end: without any a destructor that allocates, as those of JSON values do, would end the program in the middle
// of its work. The first allocation that fails gets it back; what is still too large throws.
std::atomic<void*> g_reserve{nullptr};

void OnNoMemory() {
  void* const reserve = g_reserve.exchange(nullptr);
  if (reserve == nullptr) throw std::bad_alloc();
  std::free(reserve);
}

void ReserveMemory() {
  constexpr std::size_t kReserve = 1 << 20;
  g_reserve = std::malloc(kReserve);
  std::set_new_handler(OnNoMemory);
}

constexpr const char* kFooter =
    "Exit codes:\n"
    "  0    done\n"
    "  1    a check failed (verify, bench --check)\n"
    "  2    the command line is wrong\n"
    "  3    an input file is missing, damaged, or of a kind that isonorm does not read\n"
    "  4    the output exists already, or cannot be written in full\n"
    "  5    the library refused the call, or memory ran out\n"
    "  130  interrupted by a signal; no file is left in part\n"
    "  141  nobody reads the result any more, as in `isonorm list | head -1`\n"
    "\n"
    "The environment variable ISONORM_TARGET chooses the target, see `isonorm list`.";

// Says why the program fails; with --json on standard output too, unless half a result stands there already. A message that
// does not arrive changes nothing: the exit code is that of what failed first.
int Report(const Context& context, int code, const std::string& message) {
  if (code == kClosedPipe) return code;  // nobody reads, as head does once it has its lines
  try {
    if (!context.json) FlushOutput();  // what came before it
  } catch (const Failure&) {
  }
  WriteRaw(STDERR_FILENO, fmt::format("isonorm: {}\n", Visible(message)));
  if (!context.json || !TakeBackOutput()) return code;
  const nlohmann::ordered_json result = {{"error", message}, {"exit_code", code}};
  try {
    Print("{}\n", result.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    FlushOutput();
  } catch (const Failure&) {
  }
  return code;
}

// A target that is not there is an error for every verb, also for one that would not have computed.
void CheckTarget() {
  const char* const name = std::getenv("ISONORM_TARGET");
  if (name == nullptr || *name == '\0' || *isonorm_target() != '\0') return;
  throw Failure(kLibrary, fmt::format("ISONORM_TARGET is \"{}\", which is none of the targets of this machine: {}", name,
                                      fmt::join(isonorm::list_targets(), ", ")));
}

void Parse(CLI::App& app, const Context& context, int argc, char** argv) {
  try {
    CheckArguments(app, argc, argv);
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() != 0) {
      const std::vector<std::string> unknown = app.remaining();
      const bool no_verb = app.get_subcommands().empty() && !unknown.empty() && !unknown.front().starts_with('-');
      throw Failure(kUsage, fmt::format("{}; see `isonorm --help`",
                                        no_verb ? fmt::format("'{}' is no verb of isonorm", unknown.front()) : e.what()));
    }
    std::ostringstream text;  // --help, --version
    app.exit(e, text, text);
    if (!context.json) return PrintText(text.str());
    const bool version = dynamic_cast<const CLI::CallForVersion*>(&e) != nullptr;
    const nlohmann::ordered_json result = {{version ? "version" : "help", version ? isonorm_version() : text.str()}};
    Print("{}\n", result.dump(2));
  }
}

int Main(int argc, char** argv) {
  static Context context;  // signal handlers look at it to the very end
  context.json = AsksForJson(argc, argv);
  CLI::App app("RMSNorm and LayerNorm with the same bits on every path", "isonorm");
  app.footer(kFooter);
  app.set_version_flag("--version", isonorm_version());
  app.add_flag("--json", context.json, "Print the result as one JSON value");
  app.add_flag_callback(
      "--no-progress", [] { context.progress = false; }, "Never show a progress line");
  app.require_subcommand(1);
  app.fallthrough();
  app.parse_complete_callback(CheckTarget);
  AddApply(app, context);
  AddStats(app, context);
  AddCheckpoint(app, context);
  AddVerify(app, context);
  AddBench(app, context);
  AddList(app, context);
  MakeStrict(app);
  CatchSignals(context.json);
  try {
    Parse(app, context, argc, argv);
    FlushOutput();  // all of it must have arrived before the exit code says so
    return context.exit_code;
  } catch (const Failure& e) {
    return Report(context, e.code(), e.what());
  } catch (const isonorm::error& e) {
    return Report(context, kLibrary, fmt::format("{} ({})", e.what(), isonorm_status_name(e.status())));
  } catch (const std::bad_alloc&) {
    return Report(context, kLibrary, "there is not enough memory");
  } catch (const std::exception& e) {
    return Report(context, kLibrary, fmt::format("unexpected error: {}", e.what()));
  }
}

}  // namespace

}  // namespace isonorm_cli

int main(int argc, char** argv) {
  using namespace isonorm_cli;
  if (!OpenStandardStreams()) return kCannotWrite;
  ReserveMemory();
  try {
    return Main(argc, argv);
  } catch (...) {  // setting the options up, or saying what went wrong, failed itself: memory ran out
    WriteRaw(STDERR_FILENO, "isonorm: there is not enough memory to start or to say what failed\n");
    if (AsksForJson(argc, argv) && TakeBackOutput()) {
      WriteRaw(STDOUT_FILENO,
               "{\n  \"error\": \"there is not enough memory to start or to say what failed\",\n  \"exit_code\": 5\n}\n");
    }
    return kLibrary;
  }
}
