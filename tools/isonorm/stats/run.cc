// Streams the rows of each tensor through the library and through stats_tensor, in bounded memory.
#include <fmt/format.h>
#include <isonorm/isonorm.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

#include "interrupt.h"
#include "progress.h"
#include "stats/stats.h"
#include "stats/tensor.h"

namespace isonorm_cli {
namespace {

// As in apply: pieces that stay in the last-level cache, and a bound for one enormous row, so that 256 MB are enough.
constexpr std::int64_t kChunkBytes = 8 << 20;
constexpr std::int64_t kMaxBytes = 128 << 20;
constexpr std::int64_t kMaxRows = 1 << 15;  // of a piece: their facts need memory too

std::int64_t ElementBytes(const StatsTensor& t) { return isonorm::size_of(t.x.type()); }

// In a row: x, what both norms make of it, and for each channel a sum, a count and a place in the search for the median.
std::int64_t BytesPerColumn(const StatsTensor& t) {
  return ElementBytes(t) + 2 * isonorm::size_of(CompareType(t.x.type())) + 3 * std::int64_t{sizeof(double)};
}

// Memory that grows by being replaced: old and new are never there at once.
template <class T>
std::span<T> Grown(std::vector<T>& buffer, std::int64_t size) {
  if (std::ssize(buffer) < size) {
    buffer = {};
    buffer.resize(static_cast<std::size_t>(size));
  }
  return std::span(buffer).first(static_cast<std::size_t>(size));
}

class Runner {
 public:
  Runner(const StatsPlan& plan, const StatsOptions& options, const Context& context)
      : plan_(plan), options_(options), executor_(options.threads), progress_(context, "stats", TotalBytes(plan)) {}

  std::vector<TensorReport> Run() {
    std::byte none{};
    Norm(isonorm::contracts::torch, isonorm::dtype::f32, 0, 1, &none, &none);  // refuses a wrong eps at once
    for (const StatsTensor& t : plan_.tensors) Check(t);
    std::vector<TensorReport> reports;
    reports.reserve(plan_.tensors.size());
    for (const StatsTensor& t : plan_.tensors) {
      progress_.SetLabel(Printable(t.x.info->name));
      reports.push_back(Scan(t, reports.size() < kDetailedTensors));
    }
    return reports;
  }

 private:
  static std::int64_t TotalBytes(const StatsPlan& plan) {
    std::int64_t total = 0;
    for (const StatsTensor& t : plan.tensors) total += t.x.info->bytes;
    return total;
  }

  static void Check(const StatsTensor& t) {
    if (t.rows > 0 && t.cols > kMaxBytes / BytesPerColumn(t)) {
      throw Failure(kBadInput, fmt::format("{}: a row of {} with {} values needs more than the {} MB that stats uses at most; "
                                           "choose others with --tensor",
                                           t.x.file->path(), Printable(t.x.info->name), t.cols, kMaxBytes >> 20));
    }
  }

  void Norm(const isonorm::contract& contract, isonorm::dtype type, std::int64_t rows, std::int64_t cols, const std::byte* x,
            std::byte* y) {
    const isonorm::dims shape = {rows, cols};
    isonorm::forward(contract, options_.eps,
                     {.x = {x, type, shape}, .y = {y, CompareType(type), shape}, .executor = executor_.get()});
  }

  TensorReport Scan(const StatsTensor& t, bool detailed) {
    if (t.rows == 0 || t.cols == 0) {
      TensorReport empty;
      empty.tensor = &t;
      if (detailed) empty.charts = std::make_unique<ChartData>();
      return empty;
    }
    TensorScan scan(t, options_, executor_);
    const isonorm::dtype type = t.x.type();
    const std::int64_t x_row = t.cols * ElementBytes(t), y_row = t.cols * isonorm::size_of(CompareType(type));
    const std::int64_t step = std::clamp<std::int64_t>(kChunkBytes / (x_row + 2 * y_row), 1, std::min(kMaxRows, t.rows));
    for (std::int64_t row = 0; row < t.rows; row += step) {
      StopIfInterrupted();
      const std::int64_t rows = std::min(step, t.rows - row);
      const std::span<std::byte> x = Grown(x_, rows * x_row), y = Grown(y_, rows * y_row), z = Grown(z_, rows * y_row);
      try {
        t.x.file->Read(t.x.info->offset + row * x_row, x);
      } catch (const FormatError& e) {
        throw Failure(kBadInput, fmt::format("{}: {}", t.x.file->path(), e.what()));
      }
      Norm(isonorm::contracts::torch, type, rows, t.cols, x.data(), y.data());
      Norm(isonorm::contracts::layer_norm, type, rows, t.cols, x.data(), z.data());
      scan.Add(row, x, y, z);
      progress_.Add(static_cast<std::int64_t>(x.size()));
    }
    return scan.Finish(detailed);
  }

  const StatsPlan& plan_;
  const StatsOptions& options_;
  const Executor executor_;
  Progress progress_;
  std::vector<std::byte> x_, y_, z_;
};

}  // namespace

std::vector<TensorReport> RunStats(const StatsPlan& plan, const StatsOptions& options, const Context& context) {
  return Runner(plan, options, context).Run();
}

}  // namespace isonorm_cli
