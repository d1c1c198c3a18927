// The command line: the verbs are in files of their own, here is what all of them share.
#include <fmt/format.h>
#include <isonorm/isonorm.hpp>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "interrupt.h"
#include "verbs.h"

namespace isonorm_cli {
namespace {

constexpr const char* kFooter =
    "Exit codes:\n"
    "  0    done\n"
    "  1    a check failed (verify, bench --check)\n"
    "  2    the command line is wrong\n"
    "  3    an input file is missing, damaged, or of a kind that isonorm does not read\n"
    "  4    the output exists already, or cannot be written in full\n"
    "  5    the library refused the call\n"
    "  130  interrupted by a signal; no file is left in part\n"
    "\n"
    "The environment variable ISONORM_TARGET chooses the target, see `isonorm list`.";

int Report(const Context& context, int code, const std::string& message) {
  fmt::print(stderr, "isonorm: {}\n", message);
  if (context.json) {
    const nlohmann::ordered_json result = {{"error", message}, {"exit_code", code}};
    fmt::print("{}\n", result.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  return code;
}

// Everything that stdout was given must have arrived before the exit code says so.
int Finish(const Context& context) {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    return Report(context, kCannotWrite, "the result could not be written to standard output");
  }
  return context.exit_code;
}

int Main(int argc, char** argv) {
  static Context context;  // signal handlers look at it to the very end
  CLI::App app("RMSNorm and LayerNorm with the same bits on every path", "isonorm");
  app.footer(kFooter);
  app.set_version_flag("--version", isonorm_version());
  app.add_flag("--json", context.json, "Print the result as one JSON value");
  app.add_flag("--no-progress{false}", context.progress, "Never show a progress line");
  app.require_subcommand(1);
  app.fallthrough();
  AddApply(app, context);
  AddStats(app, context);
  AddVerify(app, context);
  AddBench(app, context);
  AddList(app, context);
  CatchSignals(context.json);
  try {
    app.parse(argc, argv);
    return Finish(context);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    return Report(context, kUsage, fmt::format("{}; see `isonorm --help`", e.what()));
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
  try {
    return isonorm_cli::Main(argc, argv);
  } catch (...) {  // setting the options up, or saying what went wrong, failed itself
    std::fputs("isonorm: the program could not start or could not print its message\n", stderr);
    return isonorm_cli::kLibrary;
  }
}
