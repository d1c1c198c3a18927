// The result of `stats` on a terminal.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "dtype_names.h"
#include "print.h"
#include "stats/files.h"

namespace isonorm_cli {
namespace {

std::string ShapeText(const TensorReport& r) { return fmt::format("[{}]", fmt::join(r.tensor->info->shape, ", ")); }

std::string FactorText(double factor) { return std::isfinite(factor) ? fmt::format("x{}", NumberText(factor)) : "-"; }

std::string ChannelText(const TensorReport& r) {
  if (r.channels.empty()) return "-";
  return fmt::format("{} (#{} {})", r.outlier_count, r.channels[0].index, FactorText(r.channels[0].factor));
}

std::string CosineText(const AtRow& at) { return std::isnan(at.value) ? "-" : fmt::format("{:.6f}", at.value); }

void PrintFiles(const StatsPlan& plan, const std::vector<TensorReport>& reports) {
  const std::vector<FileSummary> files = SummariseFiles(plan, reports);
  Print("\nFiles by RMS, which a change of width alone does not change:\n");
  for (const FileSummary& f : files) {
    Print("  {:>11}  {:>8}  {} ({} tensor{}, {} values)\n", NumberText(f.rms), FactorText(f.rms / files[0].rms),
          Visible(f.path), f.tensors, f.tensors == 1 ? "" : "s", f.values);
  }
}

}  // namespace

void PrintStats(const StatsPlan& plan, const std::vector<TensorReport>& reports, const StatsOptions& options) {
  std::size_t width = 6, shape = 5;
  for (const TensorReport& r : reports) {
    width = std::max(width, Printable(r.tensor->info->name).size());
    shape = std::max(shape, ShapeText(r).size());
  }
  Print("{:<{}}  {:<{}}  {:<5}  {:>10}  {:>10}  {:>9}  {:>10}  {:>11}  {}\n", "tensor", width, "shape", shape, "dtype", "rms",
        "mean", "drift", "max |x|", "min cosine", "outlier channels");
  std::size_t file = plan.paths.size();
  for (const TensorReport& r : reports) {
    if (plan.paths.size() > 1 && r.tensor->file != file) {
      file = r.tensor->file;
      Print("{}:\n", Visible(plan.paths[file]));
    }
    Print("{:<{}}  {:<{}}  {:<5}  {:>10}  {:>10}  {:>9}  {:>10}  {:>11}  {}\n", Printable(r.tensor->info->name), width,
          ShapeText(r), shape, DtypeName(r.tensor->type), NumberText(r.rms), NumberText(r.mean), NumberText(r.drift),
          NumberText(r.max_abs.value), CosineText(r.cosine_min), ChannelText(r));
    const std::string remarks = Remarks(r);
    if (!remarks.empty()) Print("  ! {}\n", remarks);
  }
  FirstFew left_out;
  for (const StatsTensor& t : plan.left_out) left_out.Add(*t.info, fmt::format("is of type {}", t.info->type_name));
  if (!left_out.empty()) Print("left out: {}\n", left_out.text());
  if (plan.paths.size() > 1) PrintFiles(plan, reports);
  Print(
      "\ndrift: mean / RMS of a row, root mean square over the rows. min cosine: between RMSNorm and LayerNorm of the same "
      "row, eps "
      "{}.\noutlier channels: those with at least {} times the RMS of the median channel (the worst and its factor).\n",
      options.eps, options.outlier);
}

}  // namespace isonorm_cli
