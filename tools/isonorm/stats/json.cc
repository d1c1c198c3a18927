// The result of `stats` as one JSON value: what --json prints, and what the page of --html draws from.
#include <fmt/format.h>
#include <isonorm/isonorm.hpp>

#include <map>
#include <string>
#include <utility>

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
  Json json = {{"name", t.x.info->name},
               {"file", t.file},
               {"layer", t.layer ? Json(*t.layer) : Json(nullptr)},
               {"series", t.series},
               {"shape", t.x.info->shape},
               {"dtype", DtypeName(t.x.type())},
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
  if (r.detailed) {
    Json profile = Json::array();
    for (const double factor : r.profile) profile.push_back(FourDigits(factor));
    json["profile"] = profile;
    json["histogram"] = {
        {"first_half_octave", r.first_bin}, {"before", r.before}, {"rms_norm", r.rms_norm}, {"layer_norm", r.layer_norm}};
  }
  return json;
}

// The tensors that several files have by the same name, on the scale that no width changes.
Json SameNames(const std::vector<TensorReport>& reports) {
  std::map<std::string_view, std::vector<const TensorReport*>> by_name;
  std::vector<std::string_view> order;
  for (const TensorReport& r : reports) {
    auto& same = by_name[r.tensor->x.info->name];
    if (same.empty()) order.push_back(r.tensor->x.info->name);
    same.push_back(&r);
  }
  Json result = Json::array();
  for (const std::string_view name : order) {
    const auto& same = by_name[name];
    if (same.size() < 2) continue;
    Json entries = Json::array();
    for (const TensorReport* r : same) {
      entries.push_back({{"file", r->tensor->file},
                         {"cols", r->tensor->cols},
                         {"rms", r->rms},
                         {"rms_over_first", r->rms / same.front()->rms}});
    }
    result.push_back({{"name", name}, {"entries", entries}});
  }
  return result;
}

}  // namespace

nlohmann::ordered_json StatsJson(const StatsPlan& plan, const std::vector<TensorReport>& reports, const StatsOptions& options) {
  Json files = Json::array();
  const std::vector<FileSummary> summaries = SummariseFiles(plan, reports);
  for (const FileSummary& f : summaries) {
    files.push_back({{"path", f.path},
                     {"tensors", f.tensors},
                     {"values", f.values},
                     {"rms", f.rms},
                     {"rms_over_first", f.rms / summaries.front().rms}});
  }
  Json tensors = Json::array();
  for (const TensorReport& r : reports) tensors.push_back(TensorJson(r));
  return {{"version", isonorm::version()},
          {"eps", options.eps},
          {"outlier_factor", options.outlier},
          {"files", files},
          {"same_names", plan.files.size() > 1 ? SameNames(reports) : Json::array()},
          {"tensors", tensors}};
}

}  // namespace isonorm_cli
