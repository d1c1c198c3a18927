#include "apply/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <span>
#include <string_view>
#include <utility>

#include "formats/npy.h"
#include "formats/safetensors.h"
#include "glob.h"
#include "verbs.h"

namespace isonorm_cli {
namespace {

// Marks what the globs match; a glob that matches nothing, or what cannot be normalised, is an error.
std::vector<bool> SelectByGlob(const OpenFile& input, const std::vector<std::string>& globs) {
  std::vector<bool> selected(input.header.tensors.size());
  for (const std::string& text : globs) {
    Glob glob(text);
    if (const TensorInfo* const exact = input.header.Find(text)) glob.Meet(exact->name);
    bool any = false;
    for (std::size_t i = 0; i < selected.size(); ++i) {
      const TensorInfo& t = input.header.tensors[i];
      if (!glob.Matches(t.name)) continue;
      if (const std::string why = WhyNot(t); !why.empty()) {
        throw Failure(kBadInput, fmt::format("{}: {}, which --tensor '{}' selects, {}; {}", input.file.path(),
                                             Printable(t.name), text, why, kNormalised));
      }
      selected[i] = any = true;
    }
    if (!any) throw Failure(kBadInput, fmt::format("{}: no tensor matches --tensor '{}'", input.file.path(), text));
  }
  return selected;
}

// Everything that can be normalised, but for the tensors that serve the others, such as weights.
std::vector<bool> SelectAll(const OpenFile& input, const std::vector<const Companion*>& companions,
                            std::vector<const TensorInfo*>& left_out) {
  const std::vector<TensorInfo>& tensors = input.header.tensors;
  std::vector<const Companion*> serving(tensors.size());
  for (const TensorInfo& t : tensors) {
    for (const Companion* c : companions) {
      if (const TensorInfo* const found = c->FindInInput(t.name)) serving[static_cast<std::size_t>(found - tensors.data())] = c;
    }
  }
  std::vector<bool> selected(tensors.size());
  FirstFew reasons;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::string why = WhyNot(tensors[i]);
    if (!why.empty()) left_out.push_back(&tensors[i]);
    selected[i] = why.empty() && serving[i] == nullptr;
    if (!selected[i]) reasons.Add(tensors[i], why.empty() ? fmt::format("is what --{} names", serving[i]->option()) : why);
  }
  if (std::find(selected.begin(), selected.end(), true) == selected.end()) {
    throw Failure(kBadInput, fmt::format("{}: holds no tensor that can be normalised{}{}; {}", input.file.path(),
                                         reasons.empty() ? "" : ": ", reasons.text(), kNormalised));
  }
  return selected;
}

FileKind KindByEnding(const std::string& path) {
  if (path.ends_with(".npy")) return FileKind::kNpy;
  if (path.ends_with(".safetensors")) return FileKind::kSafetensors;
  throw Failure(kUsage, fmt::format("{}: the output's name must end in .npy or .safetensors", path));
}

Job MakeJob(const OpenFile& input, const TensorInfo& info, std::optional<isonorm::dtype> out_type) {
  Job job;
  job.normalise = true;
  job.x = {&input.file, &info};
  job.cols = info.shape.back();
  job.rows = 1;
  for (std::size_t i = 0; i + 1 < info.shape.size(); ++i) job.rows *= info.shape[i];
  job.out_type = out_type.value_or(job.x.type());
  job.out_bytes = CheckedBytes(info.name, info.shape, static_cast<int>(isonorm::size_of(job.out_type)) * 8);
  return job;
}

std::unique_ptr<TensorInfo> Beside(const std::string& pattern, const Job& job, isonorm::dtype type,
                                   std::vector<std::int64_t> shape) {
  auto info = std::make_unique<TensorInfo>();
  info->name = Expand(pattern, job.x.info->name);
  SetType(*info, type);
  info->shape = std::move(shape);
  info->bytes = CheckedBytes(info->name, info->shape, static_cast<int>(isonorm::size_of(type)) * 8);
  return info;
}

float ReadStaticScale(const Stored& stored) {
  const TensorInfo& info = *stored.info;
  if (info.type != ElementType::kF32 || info.bytes != sizeof(float) || info.shape.size() > 1) {
    throw Failure(kBadInput,
                  fmt::format("{}: {} is of type {} and shape [{}]; a static scale is F32 of shape [] or [1]",
                              stored.file->path(), Printable(info.name), info.type_name, fmt::join(info.shape, ", ")));
  }
  std::array<float, 1> scale{};
  stored.Read(0, std::as_writable_bytes(std::span(scale)));
  if (!IsScale(static_cast<double>(scale[0]))) {
    throw Failure(kBadInput, fmt::format("{}: {} holds {}; a static scale is from 2^-126 to 2^126", stored.file->path(),
                                         Printable(info.name), scale[0]));
  }
  return scale[0];
}

// What a quantised output asks of the tensor, and the place of its scales.
void AddScale(const Plan& plan, const ApplyOptions& options, const Stored& given, Job& job) {
  const TensorInfo& x = *job.x.info;
  const std::string where = fmt::format("{}: {}", job.x.file->path(), Printable(x.name));
  if (x.type == ElementType::kF64) {
    throw Failure(kBadInput, fmt::format("{} is of type F64; only F32, BF16 and F16 are quantised", where));
  }
  const std::int64_t group = plan.quantization.group_cols;
  const std::int64_t part = options.groups > 0 && job.cols % options.groups == 0 ? job.cols / options.groups : job.cols;
  if (group != 0 && part % group != 0) {
    throw Failure(kBadInput, fmt::format("{} has {} columns{}, which --scale-group {} does not divide", where, part,
                                         part == job.cols ? "" : " in each of its groups", group));
  }
  std::vector<std::int64_t> shape = {1};
  if (plan.computes_scales()) {
    shape = x.shape;  // with a last dimension, so that scales and values are multiplied by broadcasting
    shape.back() = plan.scales_per_row(job);
  } else {
    job.static_scale = given ? ReadStaticScale(given) : static_cast<float>(*options.scale);
  }
  job.scale =
      Beside(options.scale_name.empty() ? "{name}_scale" : options.scale_name, job, plan.scale_type(), std::move(shape));
}

void CheckShape(const Stored& t, const char* noun, const Job& job) {
  if (!t || t.info->shape == job.x.info->shape) return;
  throw Failure(kBadInput, fmt::format("{}: the {} {} has another shape than {}", t.file->path(), noun, Printable(t.info->name),
                                       Printable(job.x.info->name)));
}

void CheckNames(const std::vector<TensorInfo>& tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorInfo& t : tensors) names.push_back(t.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice == names.end()) return;
  throw Failure(kUsage,
                fmt::format("two tensors of the output would be called {}; --scale-name and --residual-out choose other names",
                            Printable(*twice)));
}

// Gives every tensor its place in the output.
void MakeHeader(Plan& plan, const std::map<std::string, std::string>& metadata, const ApplyOptions& options) {
  const std::string& path = options.output;
  std::vector<TensorInfo> tensors;
  tensors.reserve(plan.jobs.size());
  for (const Job& job : plan.jobs) {
    tensors.push_back(*job.x.info);
    if (job.normalise) SetType(tensors.back(), job.out_type);
    tensors.back().bytes = job.out_bytes;
    for (const auto* beside : {&job.scale, &job.residual_out}) {
      if (*beside) tensors.push_back(**beside);
    }
  }
  const FileKind kind = KindByEnding(path);
  if (kind == FileKind::kNpy && plan.quantization) {
    throw Failure(
        kUsage, fmt::format("{}: a .npy file holds one tensor, and {} values have scales beside them; write .safetensors", path,
                            options.out_dtype));
  }
  if (kind == FileKind::kNpy && tensors.size() != 1) {
    throw Failure(kUsage, fmt::format("{}: a .npy file holds one tensor and {} are to be written; choose one with --tensor, or "
                                      "write .safetensors",
                                      path, tensors.size()));
  }
  CheckNames(tensors);
  try {
    plan.out_header =
        kind == FileKind::kSafetensors ? SafetensorsHeader(tensors, metadata) : NpyHeader(tensors[0].type, tensors[0].shape);
  } catch (const FormatError& e) {
    throw Failure(kUsage, fmt::format("{}: {}", path, e.what()));
  }
  if (kind == FileKind::kNpy) tensors[0].offset = static_cast<std::int64_t>(plan.out_header.size());
  auto next = tensors.begin();
  for (Job& job : plan.jobs) {
    job.out_offset = next++->offset;
    for (auto* beside : {&job.scale, &job.residual_out}) {
      if (*beside) (*beside)->offset = next++->offset;
    }
  }
}

}  // namespace

Plan MakePlan(const ApplyOptions& options) {
  KindByEnding(options.output);  // refuses other endings before anything is read
  Plan plan = {.contract = MakeContract(options),
               .quantization = MakeQuantization(options),
               .files = {},
               .jobs = {},
               .left_out = {},
               .out_header = {}};
  plan.files.push_back(std::make_unique<const OpenFile>(options.input));
  const OpenFile& input = *plan.files.back();
  const Companion weight("weight", "weight", options.weight, options.weight_file, input, plan.files);
  const Companion bias("bias", "bias", options.bias, options.bias_file, input, plan.files);
  const Companion residual("residual", "residual", options.residual, options.residual_file, input, plan.files);
  const Companion gate("gate", "gate", options.gate, options.gate_file, input, plan.files);
  const Companion scale("scale-tensor", "scale", options.scale_tensor, options.scale_tensor_file, input, plan.files);
  const std::vector<bool> selected = options.globs.empty()
                                         ? SelectAll(input, {&weight, &bias, &residual, &gate, &scale}, plan.left_out)
                                         : SelectByGlob(input, options.globs);
  for (std::size_t i = 0; i < selected.size(); ++i) {
    const TensorInfo& t = input.header.tensors[i];
    if (selected[i]) {
      Job job = MakeJob(input, t, DtypeByName(options.out_dtype));
      job.weight = weight.Find(t.name);
      job.bias = bias.Find(t.name);
      job.residual = residual.Find(t.name);
      job.gate = gate.Find(t.name);
      CheckShape(job.residual, "residual", job);
      CheckShape(job.gate, "gate", job);
      if (plan.quantization) AddScale(plan, options, scale.Find(t.name), job);
      if (!options.residual_out.empty()) {
        job.residual_out = Beside(options.residual_out, job, job.residual.type(), t.shape);
      }
      plan.jobs.push_back(std::move(job));
    } else if (options.keep_others) {
      plan.jobs.push_back({.x = {&input.file, &t}, .out_bytes = t.bytes});
    }
  }
  MakeHeader(plan, input.header.metadata, options);
  return plan;
}

}  // namespace isonorm_cli
