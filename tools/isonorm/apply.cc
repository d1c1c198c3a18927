// `isonorm apply`: normalises the tensors of a file into another file.
#include <fmt/format.h>
#include <isonorm/isonorm.hpp>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "apply_plan.h"
#include "apply_run.h"
#include "verbs.h"

namespace isonorm_cli {
namespace {

using Json = nlohmann::ordered_json;

// Of the normalisation, without the disk: bytes read and bytes written.
double GigabytesPerSecond(const TensorResult& r) {
  return r.normalise_seconds > 0 ? static_cast<double>(r.job->x.info->bytes + r.job->out_bytes) / r.normalise_seconds * 1e-9
                                 : 0.0;
}

std::string DigestText(const TensorResult& r, const ApplyOptions& options) {
  return options.digest ? fmt::format("{:016x}", r.digest.value()) : "-";
}

Json ResultJson(const TensorResult& r, const ApplyOptions& options) {
  Json json = {{"name", r.job->x.info->name},
               {"shape", r.job->x.info->shape},
               {"dtype", DtypeName(r.job->x.type())},
               {"out_dtype", DtypeName(r.job->out_type)},
               {"rms_before", r.before.Rms()},  // NaN becomes null
               {"rms_after", r.after.Rms()},
               {"non_finite_in", r.before.non_finite},
               {"non_finite_out", r.after.non_finite},
               {"seconds", r.seconds},
               {"normalise_seconds", r.normalise_seconds},
               {"gigabytes_per_second", GigabytesPerSecond(r)},
               {"kernel", r.kernel}};
  if (options.digest) json["digest"] = DigestText(r, options);
  return json;
}

void PrintJson(const std::vector<TensorResult>& results, const ApplyOptions& options) {
  Json tensors = Json::array();
  for (const TensorResult& r : results) tensors.push_back(ResultJson(r, options));
  const Json all = {{"input", options.input},      {"output", options.output}, {"contract", options.contract},
                    {"eps", options.eps},          {"groups", options.groups}, {"window", options.window},
                    {"target", isonorm::target()}, {"tensors", tensors}};
  fmt::print("{}\n", all.dump(2, ' ', false, Json::error_handler_t::replace));  // a path need not be UTF-8
}

void PrintTable(const std::vector<TensorResult>& results, const ApplyOptions& options) {
  std::size_t width = 6;
  for (const TensorResult& r : results) width = std::max(width, Printable(r.job->x.info->name).size());
  fmt::print("{:<{}}  {:<16}  {:<11}  {:>11}  {:>11}  {:>14}  {:>6}  {}\n", "tensor", width, "shape", "dtype", "rms before",
             "rms after", "non-finite", "GB/s", "digest");
  double seconds = 0;
  std::int64_t bytes = 0;
  for (const TensorResult& r : results) {
    const std::string in = DtypeName(r.job->x.type()), out = DtypeName(r.job->out_type);
    fmt::print("{:<{}}  {:<16}  {:<11}  {:>11.6g}  {:>11.6g}  {:>14}  {:>6.2f}  {}\n", Printable(r.job->x.info->name), width,
               fmt::format("[{}]", fmt::join(r.job->x.info->shape, ", ")), in == out ? in : in + " -> " + out, r.before.Rms(),
               r.after.Rms(), fmt::format("{} -> {}", r.before.non_finite, r.after.non_finite), GigabytesPerSecond(r),
               DigestText(r, options));
    seconds += r.seconds;
    bytes += r.job->x.info->bytes;
  }
  fmt::print("{} tensor{}, {:.1f} MB in {:.3f} s, contract {}, eps {}, target {}: {}\n", results.size(),
             results.size() == 1 ? "" : "s", static_cast<double>(bytes) * 1e-6, seconds, options.contract, options.eps,
             isonorm::target(), options.output);
}

void Apply(const ApplyOptions& options, const Context& context) {
  if (!options.target.empty()) isonorm::set_target(options.target);
  const Plan plan = MakePlan(options);
  const std::vector<TensorResult> results = RunPlan(plan, options, context);
  if (context.json) {
    PrintJson(results, options);
  } else {
    PrintTable(results, options);
  }
}

constexpr const char* kFooter =
    "Patterns: {name} stands for the name of the tensor that is normalised, {prefix} for that name up to its last dot.\n"
    "Without --tensor everything is normalised that holds floating-point vectors, but for the tensors that the patterns\n"
    "name as weight, bias or gate of another. Example, for a file with x.input, x.weight and x.bias:\n"
    "  isonorm apply in.safetensors -o out.safetensors --contract layer_norm --eps 1e-12 \\\n"
    "      --weight '{prefix}.weight' --bias '{prefix}.bias'\n"
    "The RMS is that of the whole tensor, without its values that are not finite. GB/s counts the bytes of input and output\n"
    "and the time in the library; the last line counts the time with files and checks.";

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
  verb->add_option("--eps", o->eps, "Epsilon; there is no default because models differ")->required();
  verb->add_option("--tensor", o->globs, "Normalise the tensors whose names match GLOB; may be repeated")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  verb->add_option("--weight", o->weight, "Name of the weight, with {name} and {prefix}; without it all ones")
      ->type_name("PATTERN");
  verb->add_option("--weight-file", o->weight_file, "Look for the weight there; without --weight its only tensor");
  verb->add_option("--bias", o->bias, "Name of the bias, likewise; without it none")->type_name("PATTERN");
  verb->add_option("--bias-file", o->bias_file, "Look for the bias there; without --bias its only tensor");
  verb->add_option("--gate", o->gate, "Name of the gate, for the contracts that have one")->type_name("PATTERN");
  verb->add_option("--out-dtype", o->out_dtype, "Type of the output; without it the input's")
      ->check(CLI::IsMember({"f32", "bf16", "f16", "f64"}));
  verb->add_option("--groups", o->groups, "Normalise each row in this many groups")->capture_default_str();
  verb->add_option("--window", o->window, "Statistic over the first values of a group; 0: all")->capture_default_str();
  verb->add_option("--threads", o->threads, "Threads; 0: one for each CPU")->check(CLI::Range(0, 1024))->capture_default_str();
  verb->add_option("--target", o->target, "Instruction set to use, see `isonorm list`");
  verb->add_flag("--keep-others", o->keep_others, "Copy the tensors that are not normalised");
  verb->add_flag("--digest", o->digest, "Print a 64-bit FNV-1a digest of each output");
  verb->add_flag("--force", o->force, "Replace an existing output file, which may be the input");
  verb->callback([o, &context] { Apply(*o, context); });
}

}  // namespace isonorm_cli
