// `isonorm list`: what this build can do on this machine.
#include <fmt/format.h>
#include <isonorm/isonorm.hpp>
#include <CLI/App.hpp>
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "contract_words.h"
#include "print.h"
#include "verbs.h"

namespace isonorm_cli {
namespace {

using Json = nlohmann::ordered_json;

Json ContractJson(const std::string& name) {
  Json json = {{"name", name}};
  json.update(ContractFields(isonorm::contracts::by_name(name)));
  return json;
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

void PrintAll(const Json& all) {
  Print("isonorm {}\n\nTargets of this machine, best first (* in use; force one with ISONORM_TARGET or --target):\n",
        all["version"].get<std::string>());
  for (const auto& name : all["targets"]) {
    Print("  {} {}\n", name == all["target"] ? '*' : ' ', name.get<std::string>());
  }
  Print("\nContracts:\n  {:<18}{:<11}{:<9}{:<17}{:<14}{:<8}{:<15}{}\n", "name", "statistic", "eps", "scaled_rounding",
        "sum_rounding", "gate", "weight_offset", "rotation_rounding");
  for (const auto& c : all["contracts"]) {
    const auto text = [&](const char* field) { return c[field].get<std::string>(); };
    Print("  {:<18}{:<11}{:<9}{:<17}{:<14}{:<8}{:<15}{}\n", text("name"), text("statistic"), text("eps_place"),
          text("scaled_rounding"), text("sum_rounding"), text("gate_place"), c["weight_offset"].get<double>(),
          text("rotation_rounding"));
  }
  Print("\nKernels ({}):\n", all["kernels"].size());
  for (const auto& name : all["kernels"]) Print("  {}\n", name.get<std::string>());
}

}  // namespace

void AddList(CLI::App& app, Context& context) {
  CLI::App* verb = app.add_subcommand("list", "List the targets of this machine, the contracts and the kernels");
  verb->callback([&context] {
    const Json all = Collect();
    if (context.json) {
      Print("{}\n", all.dump(2));
    } else {
      PrintAll(all);
    }
  });
}

}  // namespace isonorm_cli
