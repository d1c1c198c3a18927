// The verb `stats`: tensors of files, and a table of what was found in them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "apply/tensors.h"
#include "stats/stats.h"
#include "verbs.h"

namespace isonorm_cli {

struct FileStatsOptions : StatsOptions {
  std::vector<std::string> inputs;
  std::vector<std::string> globs;  // --tensor; none: every floating-point tensor
  std::string html;                // "": no page
  int threads = 0;
  bool force = false;
};

// The plan's tensors are those of the files, in natural order of their names.
struct FilePlan : StatsPlan {
  std::vector<std::unique_ptr<const OpenFile>> files;
};

// Throws Failure. Reads headers only.
FilePlan PlanStats(const FileStatsOptions& options);

// Throws Failure.
std::vector<TensorReport> RunFileStats(const FilePlan& plan, const FileStatsOptions& options, const Context& context);

void PrintStats(const StatsPlan& plan, const std::vector<TensorReport>& reports, const StatsOptions& options);

}  // namespace isonorm_cli
