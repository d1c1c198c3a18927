// Rows of tensors in files, read piece by piece, with a progress line.
#include "stats/files.h"

#include <fmt/format.h>
#include <isonorm/isonorm.hpp>

#include <optional>

#include "interrupt.h"
#include "progress.h"
#include "stats/rows.h"

namespace isonorm_cli {
namespace {

constexpr std::int64_t kMaxBytes = 128 << 20;  // for one enormous row, so that 256 MB are enough

// In a row: x, what both norms make of it, and for each channel a sum, a count and a place in the search for the median.
std::int64_t BytesPerColumn(const StatsTensor& t) {
  return isonorm::size_of(t.type) + 2 * isonorm::size_of(CompareType(t.type)) + 3 * std::int64_t{sizeof(double)};
}

class FileSource : public StatsSource {
 public:
  FileSource(const FilePlan& plan, const Context& context) : plan_(plan), progress_(context, "stats", TotalBytes(plan)) {}

  void Begin(const StatsTensor& t) override { progress_.SetLabel(Printable(t.info->name)); }

  std::span<const std::byte> Rows(const StatsTensor& t, std::int64_t first, std::int64_t count,
                                  GrowingBuffer& buffer) override {
    StopIfInterrupted();
    const std::int64_t row = t.cols * isonorm::size_of(t.type);
    const std::span<std::byte> bytes = buffer.First(count * row);
    Stored{&plan_.files[t.file]->file, t.info}.Read(first * row, bytes);
    return bytes;
  }

  void Done(std::int64_t bytes) override { progress_.Add(bytes); }

 private:
  static std::int64_t TotalBytes(const StatsPlan& plan) {
    std::int64_t total = 0;
    for (const StatsTensor& t : plan.tensors) total += t.info->bytes;
    return total;
  }

  const FilePlan& plan_;
  Progress progress_;
};

}  // namespace

std::vector<TensorReport> RunFileStats(const FilePlan& plan, const FileStatsOptions& options, const Context& context) {
  for (const StatsTensor& t : plan.tensors) {
    if (t.rows > 0 && t.cols > kMaxBytes / BytesPerColumn(t)) {
      throw Failure(kBadInput, fmt::format("{}: a row of {} with {} values needs more than the {} MB that stats uses at most; "
                                           "choose others with --tensor",
                                           plan.paths[t.file], Printable(t.info->name), t.cols, kMaxBytes >> 20));
    }
  }
  std::optional<isonorm::thread_pool> pool;
  if (options.threads > 1) pool.emplace(options.threads);
  const isonorm_executor* executor = options.threads == 0 ? isonorm::shared_executor() : pool ? pool->executor() : nullptr;
  FileSource source(plan, context);
  return RunStats(plan, options, source, executor);
}

}  // namespace isonorm_cli
