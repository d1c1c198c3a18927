#include "stats/tensor.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

namespace isonorm_cli {
namespace {

constexpr std::int64_t kTaskBytes = 256 << 10;  // less is not worth a thread
constexpr std::int64_t kMaxTasks = 16;

void Raise(AtRow& most, double value, std::int64_t row) {
  if (!(value <= most.value)) most = {value, row};
}
void Lower(AtRow& least, double value, std::int64_t row) {
  if (!(value >= least.value)) least = {value, row};
}

}  // namespace

void RowSums::Scale(double scale) {
  sum *= scale;
  first *= scale;
  mean *= scale;
  squares *= scale * scale;
  deviations *= scale * scale;
}

// Deviations are merged row by row (Chan, Golub and LeVeque, 1979), since sum and squares cancel where the mean is large; and
// means less the first row's, whose digits are then not in the way.
void RowSums::Add(const RowFacts& row, double scale, std::int64_t cols) {
  const auto width = static_cast<double>(cols), before = static_cast<double>(rows), after = before + 1;
  if (rows == 0) first = row.sum * scale / width;
  const double distance = (row.sum * scale / width - first) - mean;
  sum += row.sum * scale;
  squares += row.squares * scale * scale;
  deviations += row.deviations * scale * scale + distance * distance * width * (before / after);
  mean += distance / after;
  ++rows;
}

void TensorScan::Add(std::int64_t first_row, std::span<const std::byte> x, std::span<const std::byte> y,
                     std::span<const std::byte> z) {
  const std::int64_t row_bytes = tensor_.cols * isonorm::size_of(tensor_.type);
  const auto rows = static_cast<std::int64_t>(x.size()) / row_bytes;
  ScanRows(rows, x, y, z);
  Rescale();
  AddChannels(rows, x);
  for (std::int64_t i = 0; i < rows; ++i) AddRow(first_row + i, facts_[static_cast<std::size_t>(i)]);
}

TensorReport TensorScan::Finish(bool detailed) {
  TensorReport& r = report_;
  r.nan = counts_.nan;
  r.infinite = counts_.infinite;
  r.zeros = counts_.zeros;
  r.subnormal = counts_.subnormal;
  r.f16_overflow = counts_.f16_overflow;
  r.f16_subnormal = counts_.f16_subnormal;
  r.f16_to_zero = counts_.f16_to_zero;
  if (r.finite > 0) {
    const auto n = static_cast<double>(r.finite);
    r.rms = std::ldexp(std::sqrt(total_squares_ / n), Exponent());
    r.mean = std::ldexp(sum_ / n, Exponent());
  }
  if (drift_rows_ > 0) r.drift = std::sqrt(drift_squares_ / static_cast<double>(drift_rows_));
  if (r.compared > 0) {
    const double n = static_cast<double>(r.compared) * static_cast<double>(tensor_.cols);
    r.rms_norm_mean = y_ / n;
    r.rms_norm_std = std::sqrt(std::max(yy_ / n - r.rms_norm_mean * r.rms_norm_mean, 0.0));
    r.layer_norm_mean = z_ / n;
    r.layer_norm_std = std::sqrt(std::max(zz_ / n - r.layer_norm_mean * r.layer_norm_mean, 0.0));
    r.x_rms = std::ldexp(std::sqrt(compared_.squares / n), Exponent());
    r.x_mean = std::ldexp(compared_.sum / n, Exponent());
    if (options_.deviation) r.x_std = std::ldexp(std::sqrt(compared_.deviations / n), Exponent());
  }
  if (cosines_ > 0) r.cosine_mean = cosine_sum_ / static_cast<double>(cosines_);
  if (detailed) r.charts = std::make_unique<ChartData>();
  FinishChannels();
  if (detailed) FinishBins();
  return std::move(report_);
}

void TensorScan::ScanRows(std::int64_t rows, std::span<const std::byte> x, std::span<const std::byte> y,
                          std::span<const std::byte> z) {
  facts_.assign(static_cast<std::size_t>(rows), RowFacts{});
  const std::int64_t tasks =
      std::clamp<std::int64_t>(static_cast<std::int64_t>(x.size()) / kTaskBytes, 1, std::min(kMaxTasks, rows));
  std::vector<ValueCounts> counts(static_cast<std::size_t>(tasks));
  const isonorm::dtype type = tensor_.type, out = CompareType(type);
  executor_.For(tasks, [&](std::int64_t task) {
    ValueCounts& count = counts[static_cast<std::size_t>(task)];
    for (std::int64_t i = rows * task / tasks; i < rows * (task + 1) / tasks; ++i) {
      RowFacts& row = facts_[static_cast<std::size_t>(i)];
      ScanRow(type, x.data() + i * tensor_.cols * isonorm::size_of(type), tensor_.cols, row, count);
      if (row.finite < tensor_.cols) continue;
      if (options_.deviation)
        row.deviations = Deviations(type, x.data() + i * tensor_.cols * isonorm::size_of(type), tensor_.cols, row);
      const std::int64_t at = i * tensor_.cols * isonorm::size_of(out);
      CompareRow(out, y.data() + at, z.data() + at, tensor_.cols, row, count);
    }
  });
  for (const ValueCounts& count : counts) counts_.Add(count);
}

void TensorScan::Rescale() {
  int exponent = exponent_;
  for (const RowFacts& row : facts_) {
    if (row.squares > 0) exponent = std::max(exponent, row.exponent);
  }
  if (exponent_ != kUnset && exponent != exponent_) {
    const double scale = std::ldexp(1.0, exponent_ - exponent);
    sum_ *= scale;
    total_squares_ *= scale * scale;
    compared_.Scale(scale);
    for (double& s : squares_) s *= scale * scale;
  }
  exponent_ = exponent;
}

void TensorScan::AddChannels(std::int64_t rows, std::span<const std::byte> x) {
  const bool damaged = std::any_of(facts_.begin(), facts_.end(), [&](const RowFacts& r) { return r.finite < tensor_.cols; });
  if (damaged && missing_.empty()) missing_.resize(squares_.size());
  const isonorm::dtype type = tensor_.type;
  const std::int64_t size = isonorm::size_of(type);
  const double scale = std::ldexp(1.0, -Exponent());
  const std::int64_t tasks = std::clamp<std::int64_t>(static_cast<std::int64_t>(x.size()) / kTaskBytes, 1,
                                                      std::min(kMaxTasks, (tensor_.cols + 63) / 64));
  executor_.For(tasks, [&](std::int64_t task) {
    const auto begin = static_cast<std::size_t>(tensor_.cols * task / tasks);
    const std::size_t count = static_cast<std::size_t>(tensor_.cols * (task + 1) / tasks) - begin;
    const std::span<double> squares = std::span(squares_).subspan(begin, count);
    for (std::int64_t i = 0; i < rows; ++i) {
      const bool whole = facts_[static_cast<std::size_t>(i)].finite == tensor_.cols;
      AddSquares(type, x.data() + (i * tensor_.cols + static_cast<std::int64_t>(begin)) * size, scale, whole, squares,
                 whole ? std::span<std::int64_t>{} : std::span(missing_).subspan(begin, count));
    }
  });
}

void TensorScan::AddRow(std::int64_t index, const RowFacts& row) {
  TensorReport& r = report_;
  if (row.finite == 0) return;
  r.finite += row.finite;
  if (row.max_abs > r.max_abs.value || r.max_abs.row < 0) {
    r.max_abs = {row.max_abs, index};
    r.max_channel = row.max_channel;
  }
  const double scale = std::ldexp(1.0, row.exponent - Exponent());  // above 1 for a row of zeros alone
  sum_ += row.sum * scale;
  total_squares_ += row.squares * scale * scale;
  const double rms = row.Rms(), drift = row.MeanOverRms();
  Lower(r.rms_min, rms, index);
  Raise(r.rms_max, rms, index);
  if (row.squares > 0) {
    drift_squares_ += drift * drift;
    ++drift_rows_;
    Raise(r.drift_max, std::abs(drift), index);
  }
  if (row.finite < tensor_.cols) return;  // such a row harms every kernel, and is no row to compare norms by
  if (row.squares > 0) {
    r.f32_overflow_rows += !(row.plain_squares <= std::numeric_limits<float>::max());
    r.f32_vanish_rows += row.plain_squares < std::numeric_limits<float>::min();
    r.f16_sum_rows += std::ldexp(row.squares, 2 * row.exponent) > 65504;
  }
  if (!(row.yy >= 0 && row.zz >= 0)) return;  // eps 0 and a row of zeros
  ++r.compared;
  compared_.Add(row, scale, tensor_.cols);
  y_ += row.y;
  yy_ += row.yy;
  z_ += row.z;
  zz_ += row.zz;
  if (row.yy > 0 && row.zz > 0) {
    const double cosine = std::clamp(row.yz / std::sqrt(row.yy * row.zz), -1.0, 1.0);
    cosine_sum_ += cosine;
    ++cosines_;
    Lower(r.cosine_min, cosine, index);
  } else if (row.yy > 0) {
    ++r.constant;
  }
}

void TensorScan::FinishChannels() {
  std::vector<double>& rms = squares_;
  for (std::size_t c = 0; c < rms.size(); ++c) {
    const std::int64_t count = tensor_.rows - (missing_.empty() ? 0 : missing_[c]);
    rms[c] = count > 0 ? std::sqrt(rms[c] / static_cast<double>(count)) : 0.0;
  }
  std::vector<double> sorted;
  sorted.reserve(rms.size());
  std::copy_if(rms.begin(), rms.end(), std::back_inserter(sorted), [](double v) { return v > 0; });
  if (sorted.empty()) return;
  const auto middle = sorted.begin() + std::ssize(sorted) / 2;
  std::nth_element(sorted.begin(), middle, sorted.end());
  double median = *middle;
  if (sorted.size() % 2 == 0) median = (median + *std::max_element(sorted.begin(), middle)) / 2;
  report_.median_channel = std::ldexp(median, Exponent());

  std::vector<Channel>& worst = report_.channels;
  const auto worse = [](const Channel& a, const Channel& b) {
    return a.factor != b.factor ? a.factor > b.factor : a.index < b.index;
  };
  for (std::int64_t c = 0; c < tensor_.cols; ++c) {
    const double value = rms[static_cast<std::size_t>(c)];
    const Channel channel = {c, std::ldexp(value, Exponent()), value / median};
    report_.outlier_count += channel.factor >= options_.outlier;
    if (worst.size() == kNamedChannels && !worse(channel, worst.back())) continue;
    worst.insert(std::upper_bound(worst.begin(), worst.end(), channel, worse), channel);
    if (worst.size() > kNamedChannels) worst.pop_back();
  }
  worst.shrink_to_fit();
  if (!report_.charts) return;
  const std::int64_t slices = std::min(tensor_.cols, kProfile);
  for (std::int64_t s = 0; s < slices; ++s) {
    const auto begin = rms.begin() + tensor_.cols * s / slices, end = rms.begin() + tensor_.cols * (s + 1) / slices;
    report_.charts->profile.push_back(*std::max_element(begin, end) / median);
  }
}

void TensorScan::FinishBins() {
  std::size_t begin = counts_.before.size(), end = 0;
  const auto used = [&](std::size_t i) { return counts_.before[i] + counts_.rms_norm[i] + counts_.layer_norm[i] > 0; };
  for (std::size_t i = 0; i < counts_.before.size(); ++i) {
    if (!used(i)) continue;
    begin = std::min(begin, i);
    end = i + 1;
  }
  if (begin >= end) return;
  const auto cut = [&](const Bins& bins) {
    const std::span<const std::int64_t> part = std::span(bins).subspan(begin, end - begin);
    return std::vector<std::int64_t>(part.begin(), part.end());
  };
  ChartData& charts = *report_.charts;
  charts.first_bin = static_cast<std::int64_t>(begin) + kFirstBin;
  charts.before = cut(counts_.before);
  charts.rms_norm = cut(counts_.rms_norm);
  charts.layer_norm = cut(counts_.layer_norm);
}

}  // namespace isonorm_cli
