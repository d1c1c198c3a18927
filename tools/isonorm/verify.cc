// isonorm verify: the golden digests on every target of this machine.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <isonorm/thread_pool.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "command_line.h"
#include "glob.h"
#include "golden/golden.h"
#include "golden/run.h"
#include "interrupt.h"
#include "print.h"
#include "progress.h"
#include "target_option.h"
#include "verbs.h"

namespace isonorm_cli {
namespace {

struct Options {
  std::vector<std::string> files;    // empty: the shipped one
  std::vector<std::string> targets;  // empty: all of this machine
  std::string pattern = "*";         // of case names
  int threads = 0;                   // 0: one for each CPU, but two at least
  bool quick = false;                // two setups
};

struct TargetResult {
  std::string target;
  Tally tally;
};

std::vector<std::string> AllTargets() {
  std::vector<std::string> targets;
  for (size_t i = 0; i < isonorm_target_count(); ++i) targets.emplace_back(isonorm_target_name(i));
  return targets;
}

void PrintResult(const TargetResult& result) {
  const Tally& tally = result.tally;
  Print("{:<12} {:>6} cases {:>8} calls {:>8} digests {:>6} mismatches\n", result.target, tally.cases, tally.calls,
        tally.outputs, tally.mismatches);
  for (const Mismatch& m : tally.first) {
    Print("  case {}: {}: expected {}, got {}\n    {}\n    {}\n", m.id, m.output, m.expected, m.got, m.setup, m.line);
  }
  if (tally.mismatches > tally.first.size()) Print("  and {} more\n", tally.mismatches - tally.first.size());
}

nlohmann::ordered_json ToJson(const TargetResult& result) {
  nlohmann::ordered_json first = nlohmann::ordered_json::array();
  for (const Mismatch& m : result.tally.first) {
    first.push_back(
        {{"case", m.id}, {"output", m.output}, {"expected", m.expected}, {"got", m.got}, {"setup", m.setup}, {"line", m.line}});
  }
  return {{"target", result.target},         {"cases", result.tally.cases},           {"calls", result.tally.calls},
          {"digests", result.tally.outputs}, {"mismatches", result.tally.mismatches}, {"first", std::move(first)},
          {"passed", result.tally.passed()}};
}

// The cases that were asked for. Nothing to check is not a pass.
std::vector<GoldenCase> LoadCases(const Options& options) {
  std::vector<GoldenFile> files;
  for (const std::string& path : options.files) files.push_back(ReadGolden(path));
  if (files.empty()) files.push_back(ParseGolden("the shipped golden file", ShippedGolden()));
  Glob wanted(options.pattern);
  for (const GoldenFile& file : files) {
    if (!file.error.empty()) throw Failure(kBadInput, file.error);
    if (file.cases.empty()) throw Failure(kCheckFailed, fmt::format("{} has no case, so nothing was checked", file.name));
    for (const GoldenCase& golden : file.cases) wanted.Meet(golden.id);
  }
  std::vector<GoldenCase> cases;
  for (GoldenFile& file : files) {
    for (GoldenCase& golden : file.cases) {
      if (wanted.Matches(golden.id)) cases.push_back(std::move(golden));
    }
  }
  if (cases.empty()) {
    throw Failure(kCheckFailed,
                  fmt::format("no case in the golden file is named like '{}', so nothing was checked", options.pattern));
  }
  return cases;
}

// The pool has two threads even on one CPU: it is the division of the work that must not show, not the speed.
std::unique_ptr<isonorm::thread_pool> MakePool(int threads) {
  if (threads == 1) return nullptr;
  auto pool = std::make_unique<isonorm::thread_pool>(threads);
  if (threads == 0 && pool->concurrency() < 2) pool = std::make_unique<isonorm::thread_pool>(2);
  return pool;
}

void Verify(const Options& options, Context& context) {
  setenv("ISONORM_TASK_BYTES", "1", 0);  // golden cases are small: without this none would be cut for the pool
  const std::vector<GoldenCase> cases = LoadCases(options);
  const std::vector<std::string> targets = options.targets.empty() ? AllTargets() : options.targets;
  for (const std::string& target : targets) {  // one that is absent is a failed check, one that is misspelt is not even that
    if (!RightSpelling(target).empty()) ChooseTarget(target);
  }
  const std::unique_ptr<isonorm::thread_pool> pool = MakePool(options.threads);
  const isonorm_executor* executor = pool ? pool->executor() : nullptr;
  const std::vector<Setup> setups = options.quick ? QuickSetups(executor) : AllSetups(executor);
  bool passed = true;
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  for (const std::string& target : targets) {
    TargetResult result{target, {}};
    {
      Progress progress(context, target, static_cast<int64_t>(cases.size()));
      result.tally = CheckTarget(cases, target, setups, [&progress] {
        progress.Add(1);
        StopIfInterrupted();
      });
    }
    passed = passed && result.tally.passed();
    if (context.json) {
      results.push_back(ToJson(result));
    } else {
      PrintResult(result);
      FlushOutput();
    }
  }
  if (context.json) {
    const nlohmann::ordered_json result = {{"passed", passed}, {"setups", setups.size()}, {"targets", std::move(results)}};
    // A name from a golden file may be no UTF-8.
    Print("{}\n", result.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  } else {
    Print("{}\n", passed ? "verified: every digest is as specified" : "FAILED");
  }
  context.exit_code = passed ? kOk : kCheckFailed;
}

}  // namespace

void AddVerify(CLI::App& app, Context& context) {
  const auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("verify", "Check every target of this machine against golden digests");
  verb->add_option("--golden", options->files, "Golden file to check instead of the one that ships; may be repeated")
      ->type_name("FILE");
  verb->add_option("--target", options->targets, "Target to check instead of all; may be repeated")->type_name("NAME");
  verb->add_option("--case", options->pattern, "Check only the cases with such a name, such as 'p1*'")->type_name("GLOB");
  AddCount(*verb, "--threads", options->threads, {0, 1024},
           "Threads beside the calling one alone; 0, the default: one for each CPU, but two at least");
  verb->add_flag("--quick", options->quick, "Two setups: aligned, and misaligned with rows apart on several threads");
  verb->callback([options, &context] { Verify(*options, context); });
}

}  // namespace isonorm_cli
