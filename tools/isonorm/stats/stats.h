// What `stats` finds in tensors, wherever they lie: the rows of each through the library (run), their numbers (rows, tensor),
// and the result as JSON (json) or as a page (page). The command reads tensors from files; the Python package has them in
// memory.
#pragma once

#include <isonorm/isonorm.hpp>
#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/format.h"

namespace isonorm_cli {

struct StatsOptions {
  double eps = 1e-6;
  double outlier = 6;      // times the median channel
  bool deviation = false;  // the standard deviation of x too, which takes one more pass over every row
};

// There may be very many, so that little is kept for each.
struct StatsTensor {
  const TensorInfo* info = nullptr;
  isonorm::dtype type = isonorm::dtype::f32;
  std::uint32_t file = 0;
  std::int64_t rows = 0, cols = 0;
};
// The rows are what the last dimension holds; a scalar is one row of one value.
StatsTensor MakeStatsTensor(const TensorInfo& info, isonorm::dtype type, std::uint32_t file);

struct Layer {
  std::string series;                       // the name, with * for the number of the layer
  std::optional<std::int64_t> number = {};  // that number
};
Layer LayerOf(const std::string& name);

struct StatsPlan {
  std::vector<std::string> paths;     // of the files
  std::vector<StatsTensor> tensors;   // file by file
  std::vector<StatsTensor> left_out;  // nobody chose by name, and these hold no floating-point values
};

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
  double x_mean = kNone, x_rms = kNone, x_std = kNone;  // of the same rows; the last if it was asked for
  std::unique_ptr<ChartData> charts;                    // null after kDetailedTensors tensors
};

inline constexpr std::size_t kNamedChannels = 8;
inline constexpr std::size_t kDetailedTensors = 500;
inline constexpr std::int64_t kProfile = 192;

// Memory that grows by being replaced: old and new are never there at once.
class GrowingBuffer {
 public:
  std::span<std::byte> First(std::int64_t size) {
    if (std::ssize(bytes_) < size) {
      bytes_ = {};
      bytes_.resize(static_cast<std::size_t>(size));
    }
    return std::span(bytes_).first(static_cast<std::size_t>(size));
  }

 private:
  std::vector<std::byte> bytes_;
};

// Where the tensors of a plan lie.
class StatsSource {
 public:
  virtual ~StatsSource() = default;
  // Before the first row of a tensor.
  virtual void Begin(const StatsTensor& tensor) = 0;
  // The bytes of rows [first, first + count), in their place or in `buffer`. Valid until the next call.
  virtual std::span<const std::byte> Rows(const StatsTensor& tensor, std::int64_t first, std::int64_t count,
                                          GrowingBuffer& buffer) = 0;
  // So many bytes are done.
  virtual void Done(std::int64_t bytes) = 0;
};

// What the source throws ends the work. Throws isonorm::error for a wrong eps. executor: null for the calling thread alone.
std::vector<TensorReport> RunStats(const StatsPlan& plan, const StatsOptions& options, StatsSource& source,
                                   const isonorm_executor* executor);

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

// The words that table and page have for what is wrong with a tensor, "" if nothing is.
std::string Remarks(const TensorReport& report);
// A number with four digits, and a dash for none.
std::string NumberText(double value);

void WriteStatsPage(const StatsPlan& plan, const std::vector<TensorReport>& reports, const StatsOptions& options,
                    const Sink& write);

}  // namespace isonorm_cli
