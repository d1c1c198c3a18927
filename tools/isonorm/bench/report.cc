#include "bench/report.h"

#include <fmt/format.h>
#include <isonorm/isonorm.hpp>
#include <nlohmann/json.hpp>

#include <iterator>

#include "bench/loops.h"
#include "bench/machine.h"

namespace isonorm_cli::bench {
namespace {

using Json = nlohmann::ordered_json;

std::string ValueText(Unit unit, double value) {
  switch (unit) {
    case Unit::kPercentOfLimit: return fmt::format("{:.1f} %", value);
    case Unit::kTimesReference: return fmt::format("{:.2f}x", value);
    case Unit::kTimesFaster: return fmt::format("{:.2f}x faster", value);
    case Unit::kNanoseconds: return fmt::format("{:+.1f} ns", value);
    case Unit::kTime: return fmt::format("{:.1f} ns", value);
  }
  return "";
}

std::string GoalText(const Result& result) {
  if (!result.goal) return "-";
  const char* sign = result.AtLeast() ? ">=" : "<=";
  const char* unit = "x";
  if (result.unit == Unit::kPercentOfLimit) unit = " %";
  if (result.unit == Unit::kNanoseconds || result.unit == Unit::kTime) unit = " ns";
  return fmt::format("{} {:.4g}{}{}", sign, *result.Goal(), unit, result.Bounded() ? ", bound" : "");
}

// "1.27x": the plain way takes so many times as long. "+28 ns": a short call takes so much more than the plain loop.
std::string PlainText(const Result& result) {
  if (!result.plain) return "-";
  return fmt::format(fmt::runtime(result.plain->short_call ? "{:+.0f} ns" : "{:.2f}x"), result.plain->value());
}

const char* Verdict(const Result& result) {
  if (!result.goal && !result.plain) return "-";
  if (result.Met()) return "ok";
  return result.GoalMet() ? "SLOWER" : "MISSED";
}

const char* UnitName(Unit unit) {
  switch (unit) {
    case Unit::kPercentOfLimit: return "percent of the reference's speed";
    case Unit::kTimesReference: return "times the reference's time";
    case Unit::kTimesFaster: return "times as fast as the reference";
    case Unit::kNanoseconds: return "nanoseconds more than the reference";
    case Unit::kTime: return "nanoseconds";
  }
  return "";
}

constexpr const char* kLine = "{:<44}{:>10}{:>8}  {:<13}{:<17}{:<8}{:<8}{}";

}  // namespace

std::string TimeText(double seconds) {
  if (seconds >= 1) return fmt::format("{:.2f} s", seconds);
  if (seconds >= 1e-3) return fmt::format("{:.2f} ms", seconds * 1e3);
  if (seconds >= 1e-6) return fmt::format("{:.2f} us", seconds * 1e6);
  return fmt::format("{:.0f} ns", seconds * 1e9);
}

std::string TableHead() {
  return fmt::format(kLine, "row", "time", "GB/s", "result", "goal", "plain", "", "against; beside it");
}

std::string TableLine(const Result& result) {
  const std::string speed = result.bytes > 0 ? fmt::format("{:.1f}", result.bytes / result.seconds * 1e-9) : "";
  std::string against = fmt::format("{} {}", result.reference.name, TimeText(result.reference.seconds));
  const char* separator = "; ";
  for (const Measure& m : result.beside) {
    fmt::format_to(std::back_inserter(against), "{}{} {}", separator, m.name, TimeText(m.seconds));
    separator = ", ";
  }
  if (!result.note.empty()) against += "; " + result.note;
  return fmt::format(kLine, result.name, TimeText(result.seconds), speed, ValueText(result.unit, result.value),
                     GoalText(result), PlainText(result), Verdict(result), against);
}

Json ToJson(const std::vector<Result>& results) {
  Json rows = Json::array();
  for (const Result& r : results) {
    Json beside = Json::object();
    for (const Measure& m : r.beside) beside[m.name] = m.seconds;
    Json plain = nullptr;
    if (r.plain) {
      plain = {{"name", r.plain->measure.name},
               {"seconds", r.plain->measure.seconds},
               {r.plain->short_call ? "nanoseconds_more" : "times_the_time", r.plain->value()},
               {"goal", r.plain->goal},
               {"met", r.plain->Met()}};
    }
    rows.push_back({{"row", r.name},
                    {"seconds", r.seconds},
                    {"gigabytes_per_second", r.bytes > 0 ? Json(r.bytes / r.seconds * 1e-9) : Json(nullptr)},
                    {"value", r.value},
                    {"unit", UnitName(r.unit)},
                    {"within", r.within ? Json({r.within->low, r.within->high}) : Json(nullptr)},
                    {"goal", r.goal ? Json(*r.Goal()) : Json(nullptr)},
                    {"goal_met", r.goal ? Json(r.GoalMet()) : Json(nullptr)},
                    {"bound", r.Bounded() ? Json(r.bound->name) : Json(nullptr)},
                    {"plain", plain},
                    {"met", r.goal || r.plain ? Json(r.Met()) : Json(nullptr)},
                    {"reference", {{"name", r.reference.name}, {"seconds", r.reference.seconds}}},
                    {"beside", beside},
                    {"note", r.note},
                    {"kernel", r.kernel}});
  }
  return {{"version", isonorm::version()},      {"cpu", CpuName()}, {"compiler", CompilerName()}, {"target", isonorm::target()},
          {"loops_target", BestLoops().target}, {"rows", rows}};
}

}  // namespace isonorm_cli::bench
