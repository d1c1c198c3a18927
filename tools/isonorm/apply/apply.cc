// `isonorm apply`: normalises the tensors of a file into another file.
#include <isonorm/isonorm.hpp>
#include <CLI/CLI.hpp>

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "apply/options.h"
#include "apply/plan.h"
#include "apply/report.h"
#include "apply/run.h"
#include "contract_words.h"
#include "command_line.h"
#include "target_option.h"
#include "verbs.h"

namespace isonorm_cli {
namespace {

void Apply(const ApplyOptions& options, const Context& context) {
  if (!options.target.empty()) ChooseTarget(options.target);
  const Plan plan = MakePlan(options);
  const std::vector<TensorResult> results = RunPlan(plan, options, context);
  if (context.json) {
    PrintJson(results, plan, options);
  } else {
    PrintTable(results, plan, options);
  }
}

constexpr const char* kFooter =
    "Patterns: {name} stands for the name of the tensor that is normalised, {prefix} for that name up to its last dot.\n"
    "Without --tensor everything is normalised that holds floating-point vectors, but for the tensors that the patterns\n"
    "name as weight, bias, residual, gate or scale of another. Example, for a file with x.input, x.weight and x.bias:\n"
    "  isonorm apply in.safetensors -o out.safetensors --contract layer_norm --eps 1e-12 \\\n"
    "      --weight '{prefix}.weight' --bias '{prefix}.bias'\n"
    "The same as fp8 with a scale for each row, which is written as x.input_scale:\n"
    "  ... --out-dtype e4m3 --scale-kind dynamic\n"
    "The RMS is that of the whole tensor, without its values that are not finite. GB/s counts the bytes of input and output\n"
    "and the time in the library; the last line counts the time with files and checks.";

constexpr double kLargest = std::numeric_limits<double>::max();
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

std::vector<std::string> Words(std::span<const std::string_view> words) { return {words.begin(), words.end()}; }

// A companion of the tensors that are normalised: its name and, if it has one, a file of its own.
void AddCompanion(CLI::App& verb, const std::string& option, const std::string& what, std::string& pattern, std::string& file) {
  verb.add_option("--" + option, pattern, what)->type_name("PATTERN");
  verb.add_option("--" + option + "-file", file, "Look for it there; without --" + option + " its only tensor")
      ->type_name("FILE");
}

void AddTensors(CLI::App& verb, ApplyOptions& o) {
  AddCompanion(verb, "weight", "Name of the weight, with {name} and {prefix}; without it all ones", o.weight, o.weight_file);
  AddCompanion(verb, "bias", "Name of the bias, likewise; without it none", o.bias, o.bias_file);
  AddCompanion(verb, "residual", "Name of the residual, which is added before the norm", o.residual, o.residual_file);
  verb.add_option("--residual-out", o.residual_out, "Also write the sum, under this name")->type_name("PATTERN");
  verb.add_option("--sum-rounding", o.sum_rounding, "Normalise the sum as stored or as kept; without it the contract's")
      ->check(CLI::IsMember(Words(kSumRoundings)));
  AddCompanion(verb, "gate", "Name of the gate", o.gate, o.gate_file);
  verb.add_option("--gate-place", o.gate_place, "Gate before or after the norm; without it the contract's")
      ->check(CLI::IsMember(Words(kGatePlaces)));
  verb.add_option("--gate-function", o.gate_function, "Function of the gate; without it the contract's")
      ->check(CLI::IsMember(Words(kGateFunctions)));
}

void AddQuantization(CLI::App& verb, ApplyOptions& o) {
  verb.add_option("--out-dtype", o.out_dtype, "Type of the output; without it the input's")
      ->check(CLI::IsMember(OutDtypeNames()));
  verb.add_option("--scale-kind", o.scale_kind, "For i8, e4m3 and e5m2: one given scale, computed ones, or powers of two")
      ->check(CLI::IsMember(Words(kScaleKinds)));
  AddNumber(verb, "--scale", o.scale, {0, kLargest}, "The static scale");
  AddCompanion(verb, "scale-tensor", "Name of the static scale, F32 of shape [] or [1]", o.scale_tensor, o.scale_tensor_file);
  verb.add_option("--scale-group", o.scale_group, "A computed scale for each so many columns; without it for each row")
      ->check(CLI::IsMember({"32", "64", "128"}));
  AddNumber(verb, "--min-scale", o.min_scale, {0, kLargest}, "Computed scales are at least this");
  AddNumber(verb, "--scale-ub", o.scale_ub, {0, kLargest}, "Cut the largest magnitude to this before a scale is computed");
  verb.add_option("--round-to", o.round_to, "Round to this type before quantising, as if that had been stored")
      ->check(CLI::IsMember({"bf16", "f16"}));
  verb.add_option("--scale-name", o.scale_name, "Name of the scales in the output; without it {name}_scale")
      ->type_name("PATTERN");
}

}  // namespace

void AddApply(CLI::App& app, Context& context) {
  CLI::App* verb = app.add_subcommand("apply", "Normalise the tensors of a .npy or .safetensors file");
  verb->footer(kFooter);
  const auto o = std::make_shared<ApplyOptions>();
  verb->add_option("IN", o->input, "File to read, .npy or .safetensors by its content")->required();
  verb->add_option("-o,--output", o->output, "File to write, .npy or .safetensors by its ending")->required();
  verb->add_option("--contract", o->contract, "What to compute, see `isonorm list`")
      ->required()
      ->check(CLI::IsMember(isonorm::list_contracts()));
  AddNumber(*verb, "--eps", o->eps, {0, kLargest}, "Epsilon; there is no default because models differ")->required();
  verb->add_option("--tensor", o->globs, "Normalise the tensors whose names match GLOB; may be repeated")->type_name("GLOB");
  AddTensors(*verb, *o);
  AddCount(*verb, "--groups", o->groups, {1, kMost}, "Normalise each row in this many groups; 1 without it");
  AddCount(*verb, "--window", o->window, {0, kMost}, "Statistic over the first values of a group; 0, the default: all");
  AddQuantization(*verb, *o);
  AddCount(*verb, "--threads", o->threads, {0, 1024}, "Threads; 0, the default: one for each CPU");
  verb->add_option("--target", o->target, "Instruction set to use, see `isonorm list`");
  verb->add_flag("--keep-others", o->keep_others, "Copy the tensors that are not normalised");
  verb->add_flag("--digest", o->digest, "Print a 64-bit FNV-1a digest of each output");
  verb->add_flag("--force", o->force, "Replace an existing output file, which may be the input");
  verb->callback([o, &context] { Apply(*o, context); });
}

}  // namespace isonorm_cli
