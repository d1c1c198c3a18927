// Streams the rows of each tensor through the library and through its scan, in bounded memory.
#include <isonorm/isonorm.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

#include "stats/stats.h"
#include "stats/tensor.h"

namespace isonorm_cli {
namespace {

constexpr std::int64_t kChunkBytes = 8 << 20;  // as in apply: pieces that stay in the last-level cache
constexpr std::int64_t kMaxRows = 1 << 15;     // of a piece: their facts need memory too

class Runner {
 public:
  Runner(const StatsOptions& options, StatsSource& source, const isonorm_executor* executor)
      : options_(options), source_(source), executor_(executor) {
    const std::byte none{};
    std::byte nothing{};
    Norm(isonorm::contracts::torch, isonorm::dtype::f32, 0, 1, &none, &nothing);  // refuses a wrong eps at once
  }

  TensorReport Scan(const StatsTensor& t, bool detailed) {
    if (t.rows == 0 || t.cols == 0) {
      TensorReport empty;
      empty.tensor = &t;
      if (detailed) empty.charts = std::make_unique<ChartData>();
      return empty;
    }
    source_.Begin(t);
    TensorScan scan(t, options_, executor_);
    const std::int64_t x_row = t.cols * isonorm::size_of(t.type), y_row = t.cols * isonorm::size_of(CompareType(t.type));
    const std::int64_t step = std::clamp<std::int64_t>(kChunkBytes / (x_row + 2 * y_row), 1, std::min(kMaxRows, t.rows));
    for (std::int64_t row = 0; row < t.rows; row += step) {
      const std::int64_t rows = std::min(step, t.rows - row);
      const std::span<const std::byte> x = source_.Rows(t, row, rows, x_);
      const std::span<std::byte> y = y_.First(rows * y_row), z = z_.First(rows * y_row);
      Norm(isonorm::contracts::torch, t.type, rows, t.cols, x.data(), y.data());
      Norm(isonorm::contracts::layer_norm, t.type, rows, t.cols, x.data(), z.data());
      scan.Add(row, x, y, z);
      source_.Done(static_cast<std::int64_t>(x.size()));
    }
    return scan.Finish(detailed);
  }

 private:
  void Norm(const isonorm::contract& contract, isonorm::dtype type, std::int64_t rows, std::int64_t cols, const std::byte* x,
            std::byte* y) {
    const isonorm::dims shape = {rows, cols};
    isonorm::forward(contract, options_.eps,
                     {.x = {x, type, shape}, .y = {y, CompareType(type), shape}, .executor = executor_.get()});
  }

  const StatsOptions& options_;
  StatsSource& source_;
  const Executor executor_;
  GrowingBuffer x_, y_, z_;
};

}  // namespace

std::vector<TensorReport> RunStats(const StatsPlan& plan, const StatsOptions& options, StatsSource& source,
                                   const isonorm_executor* executor) {
  Runner runner(options, source, executor);
  std::vector<TensorReport> reports;
  reports.reserve(plan.tensors.size());
  for (const StatsTensor& t : plan.tensors) reports.push_back(runner.Scan(t, reports.size() < kDetailedTensors));
  return reports;
}

}  // namespace isonorm_cli
