// One tensor of `stats`: from pieces of its rows to its report.
#pragma once

#include <isonorm/isonorm.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "stats/stats.h"
#include "stats/rows.h"

namespace isonorm_cli {

class Executor {
 public:
  explicit Executor(const isonorm_executor* executor) : executor_(executor) {}  // null: the calling thread alone
  const isonorm_executor* get() const { return executor_; }

  // use(i) for every i in [0, count), from any thread and in any order.
  template <class Use>
  void For(std::int64_t count, const Use& use) const {
    if (executor_ != nullptr && count > 1) {
      const auto task = [](void* context, std::int64_t i) { (*static_cast<const Use*>(context))(i); };
      executor_->parallel_for(executor_->context, count, task, const_cast<Use*>(&use));
    } else {
      for (std::int64_t i = 0; i < count; ++i) use(i);
    }
  }

 private:
  const isonorm_executor* executor_;
};

// Sums over rows of equal length, on a scale that their owner keeps.
struct RowSums {
  double sum = 0, squares = 0, deviations = 0;
  double first = 0, mean = 0;  // of the first row; of all rows, less that
  std::int64_t rows = 0;

  void Scale(double scale);
  void Add(const RowFacts& row, double scale, std::int64_t cols);
};

// One tensor: takes its rows piece by piece, then makes the report. Pieces depend on the shape alone, sums over rows go in
// the order of the rows, and threads share rows or channels: nothing depends on how many threads there are.
class TensorScan {
 public:
  TensorScan(const StatsTensor& tensor, const StatsOptions& options, const Executor& executor)
      : tensor_(tensor), options_(options), executor_(executor), squares_(static_cast<std::size_t>(tensor.cols)) {
    report_.tensor = &tensor;
  }

  void Add(std::int64_t first_row, std::span<const std::byte> x, std::span<const std::byte> y, std::span<const std::byte> z);

  TensorReport Finish(bool detailed);

 private:
  int Exponent() const { return exponent_ == kUnset ? 0 : exponent_; }

  void ScanRows(std::int64_t rows, std::span<const std::byte> x, std::span<const std::byte> y, std::span<const std::byte> z);

  // Brings the sums so far to the largest exponent of any row.
  void Rescale();

  void AddChannels(std::int64_t rows, std::span<const std::byte> x);

  void AddRow(std::int64_t index, const RowFacts& row);

  // Turns the sums into the RMS of each channel, relative to the median of those that are not all zero.
  void FinishChannels();

  // Keeps the bins between the first and the last that holds anything.
  void FinishBins();

  static constexpr int kUnset = std::numeric_limits<int>::min();

  const StatsTensor& tensor_;
  const StatsOptions& options_;
  const Executor& executor_;
  TensorReport report_;
  ValueCounts counts_;
  std::vector<RowFacts> facts_;
  std::vector<double> squares_;        // of each channel, times 2^(-2 exponent_)
  std::vector<std::int64_t> missing_;  // values of each channel that are not finite; empty while there are none
  int exponent_ = kUnset;
  double sum_ = 0, total_squares_ = 0, drift_squares_ = 0;
  RowSums compared_;  // of the rows that norms are compared by
  double y_ = 0, yy_ = 0, z_ = 0, zz_ = 0, cosine_sum_ = 0;
  std::int64_t drift_rows_ = 0, cosines_ = 0;
};

}  // namespace isonorm_cli
