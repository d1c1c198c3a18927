// `isonorm bench`: every speed that the project promises, measured beside its limit in the same run.
#include "bench/bench.h"

#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "bench/call.h"
#include "bench/report.h"
#include "command_line.h"
#include "glob.h"
#include "interrupt.h"
#include "output_file.h"
#include "print.h"
#include "progress.h"
#include "verbs.h"

namespace isonorm_cli {
namespace {

struct Options {
  bench::Settings settings;
  std::vector<std::string> filters;
  std::string json_file, svg_file;
  bool check = false;
};

bool Selected(const std::string& name, const std::vector<std::string>& filters) {
  if (filters.empty()) return true;
  for (const std::string& filter : filters) {
    if (Glob(filter).Matches(name)) return true;  // no row has a bracket in its name
  }
  return false;
}

// Replaces what is there.
void WriteFile(const std::string& path, const std::string& text) {
  if (path.empty()) return;
  OutputFile file(path, /*force=*/true);
  file.Write(0, std::as_bytes(std::span(text)));
  file.Commit();
}

void PrintNames(const Context& context) {
  if (context.json) {
    nlohmann::json names = nlohmann::json::array();
    for (const bench::Row& row : bench::Rows()) names.push_back(row.name);
    Print("{}\n", names.dump(2));
  } else {
    for (const bench::Row& row : bench::Rows()) Print("{}\n", row.name);
  }
}

// A number that is not one would look like a goal that was met, and so would a call that did nothing: a hundred times as fast
// as memory allows. Of microseconds, of which a quick run measures two, other programs take so many that they prove less.
void RequireNumbers(const bench::Result& r, bool quick) {
  for (const double number : {r.seconds, r.reference.seconds, r.value}) {
    const bool difference = r.unit == bench::Unit::kNanoseconds;  // may be below 0 by noise
    if (!std::isfinite(number) || (!difference && !(number > 0))) {
      throw Failure(kCheckFailed, fmt::format("the row '{}' measured {}, which is not a time or ratio", r.name, number));
    }
  }
  if (r.plain && !std::isfinite(r.plain->value())) {
    throw Failure(kCheckFailed,
                  fmt::format("the plain loop of the row '{}' measured {}, which is no ratio", r.name, r.plain->value()));
  }
  if (r.unit == bench::Unit::kPercentOfLimit && r.value > (quick ? 1000 : 200)) {
    throw Failure(kCheckFailed,
                  fmt::format("the row '{}' ran at {:.0f} % of what memory allows, so it cannot have run", r.name, r.value));
  }
}

bool TwoThreads(bench::Kind kind) { return kind == bench::Kind::kTwoThreads || kind == bench::Kind::kSmallTwoThreads; }

std::vector<bench::Result> RunAll(const Options& options, const Context& context) {
  std::vector<bench::Row> rows;
  for (const bench::Row& row : bench::Rows()) {
    if (Selected(row.name, options.filters)) rows.push_back(row);
  }
  if (rows.empty()) {
    throw Failure(kUsage, fmt::format("no row has a name like --filter '{}'; `isonorm bench --list` shows the names",
                                      fmt::join(options.filters, "' or '")));
  }
  if (!context.json) Print("{}\n", bench::TableHead());
  std::vector<bench::Result> results;
  bench::Arena arena;
  Progress progress(context, "bench", static_cast<int64_t>(rows.size()));
  for (const bench::Row& row : rows) {
    StopIfInterrupted();
    {
      const bench::Pin pin(TwoThreads(row.kind) ? -1 : options.settings.cpu);
      results.push_back(bench::RunRow(row, options.settings, arena));
    }
    RequireNumbers(results.back(), options.settings.quick);
    if (!context.json) {
      Print("{}\n", bench::TableLine(results.back()));
      FlushOutput();  // a line at a time, also into a pipe
    }
    progress.Add(1);
  }
  return results;
}

void Run(const Options& options, Context& context) {
  const std::vector<bench::Result> results = RunAll(options, context);
  const std::string json = bench::ToJson(results).dump(2) + "\n";
  WriteFile(options.json_file, json);
  WriteFile(options.svg_file, bench::Chart(results));
  if (context.json) Print("{}", json);
  int missed = 0, judged = 0;
  for (const bench::Result& r : results) {
    judged += (r.goal ? 1 : 0) + (r.plain ? 1 : 0);
    missed += (r.GoalMet() ? 0 : 1) + (r.plain && !r.plain->Met() ? 1 : 0);
  }
  if (!context.json) {
    Print("{} of {} goals met{}\n", judged - missed, judged,
          options.settings.quick ? " (quick: shapes are too small for these to mean anything)" : "");
  }
  if (options.check && missed > 0) context.exit_code = kCheckFailed;
}

}  // namespace

void AddBench(CLI::App& app, Context& context) {
  CLI::App* verb = app.add_subcommand("bench", "Measure speed beside the machine's limits and the best loops");
  auto options = std::make_shared<Options>();
  auto list = std::make_shared<bool>(false);
  verb->add_option("--filter", options->filters, "Only rows whose name matches this pattern with * and ?")->type_name("GLOB");
  AddCount(*verb, "--rounds", options->settings.rounds, {1, 10000},
           "How often every loop takes its turn, 15 without it; medians are reported");
  AddCount(*verb, "--cpu", options->settings.cpu, {0, 1023}, "Pin rows of one thread to this CPU");
  verb->add_option("--json-file", options->json_file, "Also write the results as JSON")->type_name("FILE");
  verb->add_option("--svg", options->svg_file, "Also draw them as a chart")->type_name("FILE");
  verb->add_flag("--quick", options->settings.quick, "Small shapes and few rounds: shows that everything runs, not how fast");
  verb->add_flag("--check", options->check, "Exit with 1 if a goal is missed or the plain way is faster");
  verb->add_flag("--list", *list, "Print the names of the rows");
  verb->callback([options, list, &context] {
    const int cpu = options->settings.cpu;
    if (cpu >= 0 && !bench::MayUseCpu(cpu)) {
      throw Failure(kUsage, fmt::format("--cpu {}: this process may use CPU {}", cpu, bench::AllowedCpus()));
    }
    if (*list) {
      PrintNames(context);
    } else {
      Run(*options, context);
    }
  });
}

}  // namespace isonorm_cli
