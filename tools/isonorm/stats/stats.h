// `stats`: what its parts share. Plan (which tensors), rows (the numbers of a row), run (the file through the rows), and then
// the same result as a table, as JSON or as a page.
#pragma once

#include <isonorm/isonorm.hpp>
#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apply/plan.h"
#include "verbs.h"

namespace isonorm_cli {

struct StatsOptions {
  std::vector<std::string> inputs;
  std::vector<std::string> globs;  // --tensor; none: every floating-point tensor
  std::string html;                // "": no page
  double eps = 1e-6;
  double outlier = 6;  // times the median channel
  int threads = 0;
  bool force = false;
};

struct StatsTensor {
  Stored x;
  std::size_t file = 0;
  std::int64_t rows = 0, cols = 0;
};

struct Layer {
  std::string series;                       // the name, with * for the number of the layer
  std::optional<std::int64_t> number = {};  // that number
};
Layer LayerOf(const std::string& name);

struct StatsPlan {
  std::vector<std::unique_ptr<const OpenFile>> files;
  std::vector<StatsTensor> tensors;   // file by file, in natural order of their names
  std::vector<StatsTensor> left_out;  // nobody chose by name, and these hold no floating-point values
};

// Throws Failure. Reads headers only.
StatsPlan PlanStats(const StatsOptions& options);

inline constexpr double kNone = std::numeric_limits<double>::quiet_NaN();  // no such number; null in JSON, a dash elsewhere

// A number and the row that has it; -1: no row.
struct AtRow {
  double value = kNone;
  std::int64_t row = -1;
};

struct Channel {
  std::int64_t index = -1;
  double rms = kNone;
  double factor = kNone;  // times the median channel
};

// For the charts.
struct ChartData {
  std::int64_t first_bin = 0;  // value 2^(first_bin / 2) and more, in steps of half a power of two
  std::vector<std::int64_t> before, rms_norm, layer_norm;
  std::vector<double> profile;  // channel factors, the largest of each of at most kProfile slices
};

// There may be very many: a header of 100 MB names a million tensors.
struct TensorReport {
  const StatsTensor* tensor = nullptr;
  // Values. Everything below but the counts is about the finite ones.
  std::int64_t finite = 0, nan = 0, infinite = 0, zeros = 0, subnormal = 0;
  double rms = kNone, mean = kNone;
  AtRow max_abs;
  std::int64_t max_channel = -1;
  // Rows with a finite value: the RMS of one row, and mean / RMS of one row.
  AtRow rms_min, rms_max, drift_max;
  double drift = kNone;  // root mean square of mean / RMS over the rows that are not zero
  // What other formats and kernels make of it.
  std::int64_t f16_overflow = 0, f16_subnormal = 0, f16_to_zero = 0;
  std::int64_t f32_overflow_rows = 0, f32_vanish_rows = 0, f16_sum_rows = 0;
  // Channels.
  double median_channel = kNone;
  std::int64_t outlier_count = 0;
  std::vector<Channel> channels;  // the worst ones first, at most kNamedChannels
  // RMSNorm and LayerNorm of the same rows.
  std::int64_t compared = 0, constant = 0;
  double rms_norm_mean = kNone, rms_norm_std = kNone, layer_norm_mean = kNone, layer_norm_std = kNone, cosine_mean = kNone;
  AtRow cosine_min;
  std::unique_ptr<ChartData> charts;  // null after kDetailedTensors tensors
};

inline constexpr std::size_t kNamedChannels = 8;
inline constexpr std::size_t kDetailedTensors = 500;
inline constexpr std::int64_t kProfile = 192;

// Throws Failure.
std::vector<TensorReport> RunStats(const StatsPlan& plan, const StatsOptions& options, const Context& context);

// What several files are compared by.
struct FileSummary {
  std::string path;
  std::int64_t tensors = 0, values = 0;
  double rms = kNone;  // of all finite values of the selected tensors
};
std::vector<FileSummary> SummariseFiles(const StatsPlan& plan, const std::vector<TensorReport>& reports);

// Takes the text of a result piece by piece: the whole would take many times the memory of the reports.
using Sink = std::function<void(std::string_view)>;

// `dump` makes text of a part.
void WriteStatsJson(const StatsPlan& plan, const std::vector<TensorReport>& reports, const StatsOptions& options,
                    std::string (*dump)(const nlohmann::ordered_json&), const Sink& write);
void PrintStats(const StatsPlan& plan, const std::vector<TensorReport>& reports, const StatsOptions& options);

// The words that table and page have for what is wrong with a tensor, "" if nothing is.
std::string Remarks(const TensorReport& report);
// A number with four digits, and a dash for none.
std::string NumberText(double value);

void WriteStatsPage(const StatsPlan& plan, const std::vector<TensorReport>& reports, const StatsOptions& options,
                    const Sink& write);

}  // namespace isonorm_cli
