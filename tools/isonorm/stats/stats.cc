// `isonorm stats`: a look into activations.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <system_error>

#include "command_line.h"
#include "output_file.h"
#include "print.h"
#include "stats/files.h"

namespace isonorm_cli {
namespace {

// Into the file in pieces that are worth a call to the system.
void WritePage(const StatsPlan& plan, const std::vector<TensorReport>& reports, const StatsOptions& options, OutputFile& page) {
  constexpr std::size_t kPiece = 1 << 18;
  std::string buffer;
  std::int64_t offset = 0;
  const auto flush = [&] {
    page.Write(offset, std::as_bytes(std::span(buffer)));
    offset += std::ssize(buffer);
    buffer.clear();
  };
  WriteStatsPage(plan, reports, options, [&](std::string_view text) {
    buffer += text;
    if (buffer.size() >= kPiece) flush();
  });
  flush();
}

void Stats(const FileStatsOptions& options, const Context& context) {
  const FilePlan plan = PlanStats(options);
  for (const auto& input : plan.files) {
    std::error_code none;
    if (std::filesystem::equivalent(options.html, input->file.path(), none)) {
      throw Failure(kCannotWrite, fmt::format("{}: is an input, which the report would replace", options.html));
    }
  }
  std::optional<OutputFile> page;  // an existing one is refused before the work
  if (!options.html.empty()) page.emplace(options.html, options.force);
  const std::vector<TensorReport> reports = RunFileStats(plan, options, context);
  if (page) {
    WritePage(plan, reports, options, *page);
    page->Commit();
  }
  if (context.json) {
    using Json = nlohmann::ordered_json;
    // A path need not be UTF-8.
    const auto dump = [](const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); };
    WriteStatsJson(plan, reports, options, dump, PrintText);
    PrintText("\n");
    return;
  }
  PrintStats(plan, reports, options);
  if (page) Print("report: {}\n", Visible(options.html));
}

constexpr const char* kFooter =
    "Rows are what the last dimension holds. Sums are in f64 and do not depend on the number of threads; values that are not\n"
    "finite are counted and left out. RMSNorm and LayerNorm are computed by the library, without weights. Example:\n"
    "  isonorm stats activations.safetensors --tensor '*.input' --eps 1e-12 --html report.html";

}  // namespace

void AddStats(CLI::App& app, Context& context) {
  CLI::App* verb = app.add_subcommand("stats", "Look into the tensors of .npy and .safetensors files");
  verb->footer(kFooter);
  const auto o = std::make_shared<FileStatsOptions>();
  verb->add_option("FILE", o->inputs, "Files to read, .npy or .safetensors by their content")->required();
  verb->add_option("--tensor", o->globs, "Look at the tensors whose names match GLOB; may be repeated")->type_name("GLOB");
  verb->add_option("--html", o->html, "Also write a report as one HTML page that needs nothing else");
  AddNumber(*verb, "--eps", o->eps, {0, std::numeric_limits<double>::max()},
            "Epsilon of the comparison of RMSNorm and LayerNorm, 1e-6 without it; nothing else needs it");
  AddNumber(*verb, "--outlier", o->outlier, {1, 1e30},
            "A channel is an outlier from this many times the RMS of the median channel; 6 without it");
  AddCount(*verb, "--threads", o->threads, {0, 1024}, "Threads; 0, the default: one for each CPU");
  verb->add_flag("--force", o->force, "Replace an existing report");
  verb->callback([o, &context] { Stats(*o, context); });
}

}  // namespace isonorm_cli
