#include "apply/options.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <utility>

#include "contract_words.h"
#include "verbs.h"

namespace isonorm_cli {
namespace {

// Options that were given, by name.
using Given = std::vector<std::pair<const char*, bool>>;

// One sentence about the first option that was given although it has no meaning here.
void RefuseAny(const Given& options, const std::string& why) {
  for (const auto& [name, given] : options) {
    if (given) throw Failure(kUsage, fmt::format("--{} {}", name, why));
  }
}

void CheckStatic(const ApplyOptions& o) {
  const bool tensor = !o.scale_tensor.empty() || !o.scale_tensor_file.empty();
  if (o.scale.has_value() == tensor) {
    throw Failure(kUsage, tensor ? "--scale and --scale-tensor are both given; a static scale comes from one of them"
                                 : "--scale-kind static needs the scale: --scale NUMBER or --scale-tensor PATTERN");
  }
  if (o.scale && !IsScale(*o.scale)) {
    throw Failure(kUsage, fmt::format("--scale is {}, but must be from 2^-126 to 2^126", *o.scale));
  }
  RefuseAny({{"scale-group", o.scale_group != 0}, {"min-scale", o.min_scale.has_value()}, {"scale-ub", o.scale_ub.has_value()}},
            "has no meaning with --scale-kind static: there is one scale, and it is given");
}

void CheckComputed(const ApplyOptions& o) {
  RefuseAny({{"scale", o.scale.has_value()},
             {"scale-tensor", !o.scale_tensor.empty()},
             {"scale-tensor-file", !o.scale_tensor_file.empty()}},
            fmt::format("is for --scale-kind static; {} scales are computed", o.scale_kind));
  int exponent = 0;
  const bool power = o.scale_kind == "power_of_two";
  if (o.min_scale && (!IsScale(*o.min_scale) || (power && std::frexp(*o.min_scale, &exponent) != 0.5))) {
    throw Failure(kUsage, fmt::format("--min-scale is {}, but must be {}from 2^-126 to 2^126", *o.min_scale,
                                      power ? "a power of two " : ""));
  }
  if (o.scale_ub && !(*o.scale_ub > 0 && *o.scale_ub <= static_cast<double>(std::numeric_limits<float>::max()))) {
    throw Failure(kUsage, fmt::format("--scale-ub is {}, but must be positive and finite in f32", *o.scale_ub));
  }
}

}  // namespace

std::vector<std::string> OutDtypeNames() {
  std::vector<std::string> names;
  for (const DtypeWord& word : kDtypes) {
    if (word.type != isonorm::dtype::e8m0) names.insert(names.end(), {word.name, word.torch});
  }
  return names;
}

std::optional<isonorm::dtype> DtypeByName(const std::string& name) {
  for (const DtypeWord& word : kDtypes) {
    if (name == word.name || name == word.torch) return word.type;
  }
  return std::nullopt;
}

bool IsQuantized(isonorm::dtype type) {
  return type == isonorm::dtype::i8 || type == isonorm::dtype::e4m3 || type == isonorm::dtype::e5m2;
}

bool IsScale(double value) { return value >= 0x1p-126 && value <= 0x1p126; }

isonorm::contract MakeContract(const ApplyOptions& o) {
  isonorm::contract contract = isonorm::contracts::by_name(o.contract);
  const bool residual = !o.residual.empty() || !o.residual_file.empty(), gate = !o.gate.empty() || !o.gate_file.empty();
  if (!residual) {
    RefuseAny({{"residual-out", !o.residual_out.empty()}, {"sum-rounding", !o.sum_rounding.empty()}}, "needs --residual");
  }
  if (!o.sum_rounding.empty()) contract.sum_rounding = ValueOf<isonorm::sum_rounding>(o.sum_rounding, kSumRoundings);
  if (!o.gate_place.empty()) contract.gate_place = ValueOf<isonorm::gate_place>(o.gate_place, kGatePlaces);
  if (!o.gate_function.empty()) contract.gate_function = ValueOf<isonorm::gate_function>(o.gate_function, kGateFunctions);
  if (gate && contract.gate_place == isonorm::gate_place::none) {
    throw Failure(kUsage, fmt::format("--gate is given, but {}; --gate-place before or after says where it belongs",
                                      o.gate_place.empty() ? "the contract " + o.contract + " has no gate"
                                                           : std::string("--gate-place is none")));
  }
  if (!gate) {
    RefuseAny({{"gate-place", contract.gate_place != isonorm::gate_place::none && !o.gate_place.empty()},
               {"gate-function", !o.gate_function.empty()}},
              "needs --gate");
    if (contract.gate_place != isonorm::gate_place::none) {
      throw Failure(kUsage,
                    fmt::format("the contract {} has a gate: --gate says which tensor it is, --gate-place none leaves it out",
                                o.contract));
    }
  }
  if (residual && contract.gate_place == isonorm::gate_place::before) {
    throw Failure(kUsage, "--residual is given together with a gate before the norm, but only one of them may be");
  }
  return contract;
}

isonorm::quantization MakeQuantization(const ApplyOptions& o) {
  const std::optional<isonorm::dtype> type = DtypeByName(o.out_dtype);
  if (!type || !IsQuantized(*type)) {
    RefuseAny({{"scale-kind", !o.scale_kind.empty()},
               {"scale", o.scale.has_value()},
               {"scale-tensor", !o.scale_tensor.empty()},
               {"scale-tensor-file", !o.scale_tensor_file.empty()},
               {"scale-group", o.scale_group != 0},
               {"min-scale", o.min_scale.has_value()},
               {"scale-ub", o.scale_ub.has_value()},
               {"round-to", !o.round_to.empty()},
               {"scale-name", !o.scale_name.empty()}},
              "is for quantised outputs: --out-dtype i8, e4m3 or e5m2");
    return {};
  }
  if (o.scale_kind.empty()) {
    throw Failure(kUsage, fmt::format("--out-dtype {} needs --scale-kind static, dynamic or power_of_two", o.out_dtype));
  }
  const auto kind = ValueOf<isonorm::scale_kind>(o.scale_kind, kScaleKinds);
  if (kind == isonorm::scale_kind::fixed) {
    CheckStatic(o);
  } else {
    CheckComputed(o);
  }
  return {.kind = kind,
          .rounded_to = DtypeByName(o.round_to),
          .group_cols = o.scale_group,
          .min_scale = o.min_scale.value_or(0),
          .scale_ub = o.scale_ub.value_or(0)};
}

}  // namespace isonorm_cli
