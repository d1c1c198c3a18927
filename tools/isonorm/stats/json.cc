// The result of `stats` as one JSON value: what --json prints, and what the page of --html draws from.
#include <fmt/format.h>
#include <isonorm/isonorm.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>

#include "dtype_names.h"
#include "stats/stats.h"

namespace isonorm_cli {
namespace {

using Json = nlohmann::ordered_json;

// For what only a chart needs. NaN and infinity become null when JSON is written, here and below.
double FourDigits(double value) { return std::stod(fmt::format("{:.4g}", value)); }

Json Index(std::int64_t value) { return value >= 0 ? Json(value) : Json(nullptr); }

Json At(const AtRow& at) { return {{"value", at.value}, {"row", Index(at.row)}}; }

Json ChannelsJson(const TensorReport& r) {
  Json worst = Json::array();
  for (const Channel& c : r.channels) {
    worst.push_back({{"channel", c.index}, {"rms", c.rms}, {"factor", c.factor}});
  }
  return {{"median_rms", r.median_channel}, {"outliers", r.outlier_count}, {"worst", worst}};
}

Json NormsJson(const TensorReport& r) {
  return {{"rows", r.compared},
          {"constant_rows", r.constant},
          {"rms_norm", {{"mean", r.rms_norm_mean}, {"std", r.rms_norm_std}}},
          {"layer_norm", {{"mean", r.layer_norm_mean}, {"std", r.layer_norm_std}}},
          {"cosine_mean", r.cosine_mean},
          {"cosine_min", At(r.cosine_min)}};
}

Json TensorJson(const TensorReport& r) {
  const StatsTensor& t = *r.tensor;
  const Layer layer = LayerOf(t.info->name);
  Json json = {{"name", t.info->name},
               {"file", t.file},
               {"layer", layer.number ? Json(*layer.number) : Json(nullptr)},
               {"series", layer.series},
               {"shape", t.info->shape},
               {"dtype", DtypeName(t.type)},
               {"rows", t.rows},
               {"cols", t.cols},
               {"rms", r.rms},
               {"mean", r.mean},
               {"mean_over_rms", r.mean / r.rms},
               {"drift", r.drift},
               {"drift_max", At(r.drift_max)},
               {"row_rms_min", At(r.rms_min)},
               {"row_rms_max", At(r.rms_max)},
               {"max_abs", {{"value", r.max_abs.value}, {"row", Index(r.max_abs.row)}, {"channel", Index(r.max_channel)}}},
               {"nan", r.nan},
               {"infinite", r.infinite},
               {"zeros", r.zeros},
               {"subnormal", r.subnormal},
               {"f16", {{"overflow", r.f16_overflow}, {"subnormal", r.f16_subnormal}, {"to_zero", r.f16_to_zero}}},
               {"plain_sum",
                {{"f32_overflow_rows", r.f32_overflow_rows},
                 {"f32_vanish_rows", r.f32_vanish_rows},
                 {"f16_overflow_rows", r.f16_sum_rows}}},
               {"channels", ChannelsJson(r)},
               {"norms", NormsJson(r)},
               {"remarks", Remarks(r)}};
  if (const ChartData* const c = r.charts.get()) {
    Json profile = Json::array();
    for (const double factor : c->profile) profile.push_back(FourDigits(factor));
    json["profile"] = profile;
    json["histogram"] = {
        {"first_half_octave", c->first_bin}, {"before", c->before}, {"rms_norm", c->rms_norm}, {"layer_norm", c->layer_norm}};
  }
  return json;
}

// The tensors that several files have by the same name: the index of each, one name after the other.
std::vector<std::vector<std::uint32_t>> SameNames(const std::vector<TensorReport>& reports) {
  const auto name = [&](std::uint32_t i) -> const std::string& { return reports[i].tensor->info->name; };
  std::vector<std::uint32_t> order(reports.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    const int compared = name(a).compare(name(b));
    return compared != 0 ? compared < 0 : a < b;
  });
  std::vector<std::vector<std::uint32_t>> same;
  for (auto begin = order.begin(); begin != order.end();) {
    const auto end = std::find_if(begin, order.end(), [&](std::uint32_t i) { return name(i) != name(*begin); });
    if (end - begin > 1) same.emplace_back(begin, end);
    begin = end;
  }
  std::sort(same.begin(), same.end());  // in the order of the reports
  return same;
}

// On the scale that no width changes.
Json SameNameJson(const std::vector<TensorReport>& reports, const std::vector<std::uint32_t>& same) {
  Json entries = Json::array();
  for (const std::uint32_t i : same) {
    const TensorReport& r = reports[i];
    entries.push_back({{"file", r.tensor->file},
                       {"cols", r.tensor->cols},
                       {"rms", r.rms},
                       {"rms_over_first", r.rms / reports[same.front()].rms}});
  }
  return {{"name", reports[same.front()].tensor->info->name}, {"entries", entries}};
}

}  // namespace

void WriteStatsJson(const StatsPlan& plan, const std::vector<TensorReport>& reports, const StatsOptions& options,
                    std::string (*dump)(const Json&), const Sink& write) {
  const auto array = [&](const char* key, const auto& items, const auto& to_json) {
    write(fmt::format(",\n  \"{}\": [", key));
    const char* separator = "\n    ";
    for (const auto& item : items) {
      write(std::exchange(separator, ",\n    "));
      write(dump(to_json(item)));
    }
    write("]");
  };
  write(fmt::format("{{\n  \"version\": {},\n  \"eps\": {},\n  \"outlier_factor\": {}", dump(isonorm::version()),
                    dump(options.eps), dump(options.outlier)));
  const std::vector<FileSummary> files = SummariseFiles(plan, reports);
  array("files", files, [&](const FileSummary& f) -> Json {
    return {{"path", f.path},
            {"tensors", f.tensors},
            {"values", f.values},
            {"rms", f.rms},
            {"rms_over_first", f.rms / files.front().rms}};
  });
  array("same_names", files.size() > 1 ? SameNames(reports) : std::vector<std::vector<std::uint32_t>>{},
        [&](const std::vector<std::uint32_t>& same) { return SameNameJson(reports, same); });
  array("tensors", reports, TensorJson);
  array("left_out", plan.left_out, [](const StatsTensor& t) -> Json {
    return {{"name", t.info->name}, {"file", t.file}, {"shape", t.info->shape}, {"type", t.info->type_name}};
  });
  write("\n}");
}

}  // namespace isonorm_cli
