// `isonorm list`: what this build can do on this machine.
#include <fmt/format.h>
#include <isonorm/isonorm.hpp>
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "verbs.h"

namespace isonorm_cli {
namespace {

using Json = nlohmann::ordered_json;

// The enumerators of isonorm.h in words; index 0 is no value.
const char* Word(const std::vector<const char*>& words, int value) {
  return value > 0 && static_cast<std::size_t>(value) < words.size() ? words[static_cast<std::size_t>(value)] : "unknown";
}

Json ContractJson(const std::string& name) {
  const isonorm_contract c = isonorm::contracts::by_name(name);
  return {{"name", name},
          {"statistic", Word({"", "rms", "layer"}, c.statistic)},
          {"eps_place", Word({"", "inside", "outside"}, c.eps_place)},
          {"scaled_rounding", Word({"", "none", "to_x", "to_weight"}, c.scaled_rounding)},
          {"sum_rounding", Word({"", "stored", "kept"}, c.sum_rounding)},
          {"gate_place", Word({"", "none", "before", "after"}, c.gate_place)},
          {"gate_function", Word({"", "silu", "sigmoid"}, c.gate_function)},
          {"weight_offset", c.weight_offset},
          {"rotation_rounding", Word({"", "none", "to_x"}, c.rotation_rounding)}};
}

Json Collect() {
  Json contracts = Json::array();
  for (const std::string& name : isonorm::list_contracts()) contracts.push_back(ContractJson(name));
  return {{"version", isonorm::version()},
          {"target", isonorm::target()},
          {"targets", isonorm::list_targets()},
          {"contracts", contracts},
          {"kernels", isonorm::list_kernels()}};
}

void Print(const Json& all) {
  fmt::print("isonorm {}\n\nTargets of this machine, best first (* in use; force one with ISONORM_TARGET or --target):\n",
             all["version"].get<std::string>());
  for (const auto& name : all["targets"]) {
    fmt::print("  {} {}\n", name == all["target"] ? '*' : ' ', name.get<std::string>());
  }
  fmt::print("\nContracts:\n  {:<18}{:<11}{:<9}{:<17}{:<14}{:<8}{:<15}{}\n", "name", "statistic", "eps", "scaled_rounding",
             "sum_rounding", "gate", "weight_offset", "rotation_rounding");
  for (const auto& c : all["contracts"]) {
    const auto text = [&](const char* field) { return c[field].get<std::string>(); };
    fmt::print("  {:<18}{:<11}{:<9}{:<17}{:<14}{:<8}{:<15}{}\n", text("name"), text("statistic"), text("eps_place"),
               text("scaled_rounding"), text("sum_rounding"), text("gate_place"), c["weight_offset"].get<double>(),
               text("rotation_rounding"));
  }
  fmt::print("\nKernels ({}):\n", all["kernels"].size());
  for (const auto& name : all["kernels"]) fmt::print("  {}\n", name.get<std::string>());
}

}  // namespace

void AddList(CLI::App& app, Context& context) {
  CLI::App* verb = app.add_subcommand("list", "List the targets of this machine, the contracts and the kernels");
  verb->callback([&context] {
    const Json all = Collect();
    if (context.json) {
      fmt::print("{}\n", all.dump(2));
    } else {
      Print(all);
    }
  });
}

}  // namespace isonorm_cli
