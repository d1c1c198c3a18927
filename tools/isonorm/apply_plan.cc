#include "apply_plan.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "formats/npy.h"
#include "formats/safetensors.h"
#include "verbs.h"

namespace isonorm_cli {
namespace {

struct DtypeWord {
  const char* name;
  isonorm::dtype type;
  ElementType element;
};

constexpr DtypeWord kDtypes[] = {{"f32", isonorm::dtype::f32, ElementType::kF32},
                                 {"bf16", isonorm::dtype::bf16, ElementType::kBf16},
                                 {"f16", isonorm::dtype::f16, ElementType::kF16},
                                 {"f64", isonorm::dtype::f64, ElementType::kF64}};

std::string Stem(const std::string& path) {
  const std::size_t start = path.rfind('/') + 1;  // npos + 1 is 0
  const std::string name = path.substr(start);
  return name.substr(0, name.rfind('.'));
}

const OpenFile& Open(Plan& plan, const std::string& path) {
  plan.files.push_back(std::make_unique<const OpenFile>(path));
  return *plan.files.back();
}

// Puts the tensor's name for {name}, and its name up to the last dot for {prefix}.
std::string Expand(const std::string& pattern, const std::string& name) {
  const std::size_t dot = name.rfind('.');
  const std::string prefix = dot == std::string::npos ? "" : name.substr(0, dot);
  std::string result;
  for (std::size_t i = 0; i < pattern.size();) {
    if (pattern[i] != '{') {
      result += pattern[i++];
    } else if (pattern.compare(i, 6, "{name}") == 0) {
      result += name;
      i += 6;
    } else if (pattern.compare(i, 8, "{prefix}") == 0) {
      result += prefix;
      i += 8;
    } else {
      throw Failure(kUsage, fmt::format("the pattern '{}' holds a brace; only {{name}} and {{prefix}} are replaced", pattern));
    }
  }
  return result;
}

// Where --weight, --bias or --gate finds its tensors.
class Companion {
 public:
  Companion(Plan& plan, const char* option, const std::string& pattern, const std::string& path, const OpenFile& input)
      : option_(option), pattern_(pattern), own_file_(!path.empty()), source_(own_file_ ? Open(plan, path) : input) {
    const std::size_t count = source_.header.tensors.size();
    if (own_file_ && pattern.empty() && count != 1) {
      throw Failure(kBadInput, fmt::format("{}: holds {} tensors; --{} says which one to use", path, count, option));
    }
  }
  Companion(const Companion&) = delete;
  Companion& operator=(const Companion&) = delete;

  // The name in the input's own file that belongs to this tensor; "" if there is none.
  std::string NameInInput(const std::string& name) const { return own_file_ || pattern_.empty() ? "" : Expand(pattern_, name); }

  Stored Find(const std::string& name) const {
    if (!own_file_ && pattern_.empty()) return {};
    const std::string wanted = pattern_.empty() ? source_.header.tensors[0].name : Expand(pattern_, name);
    const auto found = source_.by_name.find(wanted);
    if (found == source_.by_name.end()) {
      throw Failure(kBadInput, fmt::format("{}: holds no tensor {}, which --{} asks for as the {} of {}", source_.file.path(),
                                           Printable(wanted), option_, option_, Printable(name)));
    }
    const TensorInfo& info = *found->second;
    if (info.type == ElementType::kOther) {
      throw Failure(kBadInput, fmt::format("{}: {} is of type {}; a {} is one of F32, BF16, F16, F64", source_.file.path(),
                                           Printable(info.name), info.type_name, option_));
    }
    return {&source_.file, &info};
  }

 private:
  const char* option_;
  const std::string& pattern_;
  bool own_file_;
  const OpenFile& source_;
};

bool CanNormalise(const TensorInfo& t) { return t.type != ElementType::kOther && !t.shape.empty() && t.shape.back() > 0; }

// Marks what the globs match; a glob that matches nothing, or what cannot be normalised, is an error.
std::vector<bool> SelectByGlob(const OpenFile& input, const std::vector<std::string>& globs) {
  std::vector<bool> selected(input.header.tensors.size());
  for (const std::string& glob : globs) {
    bool any = false;
    for (std::size_t i = 0; i < selected.size(); ++i) {
      const TensorInfo& t = input.header.tensors[i];
      if (fnmatch(glob.c_str(), t.name.c_str(), 0) != 0) continue;
      if (!CanNormalise(t)) {
        throw Failure(kBadInput,
                      fmt::format("{}: {}, which --tensor '{}' selects, is of type {} and shape [{}]; isonorm "
                                  "normalises vectors of F32, BF16, F16 and F64",
                                  input.file.path(), Printable(t.name), glob, t.type_name, fmt::join(t.shape, ", ")));
      }
      selected[i] = any = true;
    }
    if (!any) throw Failure(kBadInput, fmt::format("{}: no tensor matches --tensor '{}'", input.file.path(), glob));
  }
  return selected;
}

// Everything that can be normalised, but for the tensors that serve the others as weight, bias or gate.
std::vector<bool> SelectAll(const OpenFile& input, const std::vector<const Companion*>& companions) {
  std::unordered_set<std::string> serving;
  for (const TensorInfo& t : input.header.tensors) {
    for (const Companion* c : companions) serving.insert(c->NameInInput(t.name));
  }
  std::vector<bool> selected;
  for (const TensorInfo& t : input.header.tensors) selected.push_back(CanNormalise(t) && !serving.contains(t.name));
  if (std::find(selected.begin(), selected.end(), true) == selected.end()) {
    throw Failure(kBadInput, fmt::format("{}: holds no tensor that can be normalised", input.file.path()));
  }
  return selected;
}

FileKind KindByEnding(const std::string& path) {
  if (path.ends_with(".npy")) return FileKind::kNpy;
  if (path.ends_with(".safetensors")) return FileKind::kSafetensors;
  throw Failure(kUsage, fmt::format("{}: the output's name must end in .npy or .safetensors", path));
}

ElementType ElementOf(isonorm::dtype type) {
  for (const DtypeWord& word : kDtypes) {
    if (word.type == type) return word.element;
  }
  return ElementType::kOther;
}

Job MakeJob(const OpenFile& input, const TensorInfo& info, const std::string& out_dtype) {
  Job job;
  job.normalise = true;
  job.x = {&input.file, &info};
  job.cols = info.shape.back();
  job.rows = 1;
  for (std::size_t i = 0; i + 1 < info.shape.size(); ++i) job.rows *= info.shape[i];
  job.out_type = job.x.type();
  for (const DtypeWord& word : kDtypes) {
    if (out_dtype == word.name) job.out_type = word.type;
  }
  job.out_bytes = CheckedBytes(info.name, info.shape, static_cast<int>(isonorm::size_of(job.out_type)) * 8);
  return job;
}

std::string MakeHeader(const Plan& plan, const std::map<std::string, std::string>& metadata, const std::string& path) {
  const FileKind kind = KindByEnding(path);
  if (kind == FileKind::kNpy && plan.jobs.size() != 1) {
    throw Failure(kUsage, fmt::format("{}: a .npy file holds one tensor and {} are to be written; choose one with --tensor, or "
                                      "write .safetensors",
                                      path, plan.jobs.size()));
  }
  std::vector<TensorInfo> tensors;
  tensors.reserve(plan.jobs.size());
  for (const Job& job : plan.jobs) {
    tensors.push_back(*job.x.info);
    if (job.normalise) tensors.back().type = ElementOf(job.out_type);
    tensors.back().bytes = job.out_bytes;
  }
  if (kind == FileKind::kSafetensors) return SafetensorsHeader(tensors, metadata);
  try {
    return NpyHeader(tensors[0].type, tensors[0].shape);
  } catch (const FormatError& e) {
    throw Failure(kUsage, fmt::format("{}: {}", path, e.what()));
  }
}

}  // namespace

const char* DtypeName(isonorm::dtype type) {
  for (const DtypeWord& word : kDtypes) {
    if (word.type == type) return word.name;
  }
  return "unknown";
}

OpenFile::OpenFile(const std::string& path) : file(path), header(LoadHeader(file)) {
  if (header.kind == FileKind::kNpy) header.tensors[0].name = Stem(path);
  for (const TensorInfo& t : header.tensors) by_name.emplace(t.name, &t);
}

isonorm::dtype Stored::type() const {
  for (const DtypeWord& word : kDtypes) {
    if (word.element == info->type) return word.type;
  }
  throw Failure(kLibrary, fmt::format("{} is no floating-point tensor", Printable(info->name)));
}

Plan MakePlan(const ApplyOptions& options) {
  KindByEnding(options.output);  // refuses other endings before anything is read
  Plan plan;
  const OpenFile& input = Open(plan, options.input);
  const Companion weight(plan, "weight", options.weight, options.weight_file, input);
  const Companion bias(plan, "bias", options.bias, options.bias_file, input);
  const Companion gate(plan, "gate", options.gate, "", input);
  const std::vector<bool> selected =
      options.globs.empty() ? SelectAll(input, {&weight, &bias, &gate}) : SelectByGlob(input, options.globs);
  for (std::size_t i = 0; i < selected.size(); ++i) {
    const TensorInfo& t = input.header.tensors[i];
    if (selected[i]) {
      plan.jobs.push_back(MakeJob(input, t, options.out_dtype));
      plan.jobs.back().weight = weight.Find(t.name);
      plan.jobs.back().bias = bias.Find(t.name);
      plan.jobs.back().gate = gate.Find(t.name);
    } else if (options.keep_others) {
      plan.jobs.push_back({.x = {&input.file, &t}, .out_bytes = t.bytes});
    }
  }
  plan.out_header = MakeHeader(plan, input.header.metadata, options.output);
  return plan;
}

}  // namespace isonorm_cli
