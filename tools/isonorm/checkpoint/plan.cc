#include "checkpoint/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "checkpoint/names.h"

namespace isonorm_cli {
namespace {

template <class... Args>
[[noreturn]] void Refuse(fmt::format_string<Args...> format, Args&&... args) {
  throw Refusal(fmt::format(format, std::forward<Args>(args)...));
}

[[noreturn]] void Exclude(const std::string& message) { throw Refusal(message, Refusal::Kind::kChoice); }

std::string Shape(const TensorInfo& t) { return fmt::format("[{}]", fmt::join(t.shape, ", ")); }

void CheckFloats(const TensorInfo& t) {
  if (t.type == ElementType::kOther) {
    throw Refusal(fmt::format("{} is of type {}, but has to be one of F32, BF16, F16 and F64", t.name, t.type_name),
                  Refusal::Kind::kType);
  }
}

void CheckDims(const TensorInfo& t, std::size_t least, std::size_t most) {
  CheckFloats(t);
  if (t.shape.size() < least || t.shape.size() > most) {
    Refuse("{} has the shape {}, but {} was expected", t.name, Shape(t),
           most == 1    ? "a vector"
           : least == 2 ? "a matrix"
                        : "a vector or a matrix");
  }
  if (std::find(t.shape.begin(), t.shape.end(), 0) != t.shape.end()) {
    Refuse("{} has the shape {}, but it has to hold values", t.name, Shape(t));
  }
}

// A family of models in this file, every tensor of which is known: what is not might read or write anything.
class KnownModel {
 public:
  KnownModel(const std::string& name, const Names& names) : names_(names) {
    const auto& all = AllModelNames();
    const auto found = std::find_if(all.begin(), all.end(), [&](const ModelNames& m) { return m.name == name; });
    if (found == all.end()) {
      Exclude(fmt::format("the preset is '{}', but has to be one of {}", name, fmt::join(CheckpointPresets(), ", ")));
    }
    model_ = &*found;
    const std::optional<std::string> prefix = PrefixIn(*model_, names);
    if (!prefix) Refuse("there is no tensor {}, so this is no model of the preset {}", model_->embeddings.front(), name);
    prefix_ = *prefix;
    CheckNames();
    CheckLayers();
  }

  const ModelNames& model() const { return *model_; }
  std::string Full(const std::string& name) const { return prefix_ + name; }

 private:
  // Patterns with ".weight" of what each layer has.
  std::vector<std::string> LayerWeights() const {
    std::vector<std::string> all;
    const auto add = [&](const std::vector<std::string>& layers) {
      for (const std::string& layer : layers) all.push_back(Full(layer + ".weight"));
    };
    add(model_->linear);
    add(model_->conv1d);
    for (const Readers& r : model_->readers) {
      add({r.norm});
      add(r.linear);
      add(r.conv1d);
    }
    return all;
  }

  void CheckNames() const {
    std::set<std::size_t> known;
    const auto know = [&](const std::string& pattern) {
      for (const std::size_t i : names_.All(pattern)) known.insert(i);
    };
    for (std::string pattern : LayerWeights()) {
      know(pattern);
      know(pattern.replace(pattern.rfind(".weight"), 7, ".bias"));
    }
    for (const std::string& name : model_->embeddings) know(Full(name));
    for (const std::string& name : model_->others) know(Full(name));
    for (const char* const ending : {".weight", ".bias"}) know(Full(model_->last_norm + ending));
    for (const std::string& name : model_->heads) know(name);
    for (std::size_t i = 0; i < names_.size(); ++i) {
      if (!known.contains(i)) {
        Refuse("{} is no tensor that the preset {} knows, so what it reads and writes is not known", names_[i].name,
               model_->name);
      }
    }
    for (const std::string& name : model_->embeddings) Require(Full(name));
    Require(Full(model_->last_norm + ".weight"));
  }

  void Require(const std::string& name) const {
    if (!names_.Find(name)) Refuse("there is no tensor {}, which every model of the preset {} has", name, model_->name);
  }

  void CheckLayers() const {
    std::size_t layers = 0;
    for (const std::string& pattern : LayerWeights()) layers = std::max(layers, names_.All(pattern).size());
    for (const std::string& pattern : LayerWeights()) {
      const std::size_t count = names_.All(pattern).size();
      if (count < std::max<std::size_t>(layers, 1)) {
        Refuse("{} names {} tensors, but {} were expected, one for each layer", pattern, count,
               std::max<std::size_t>(layers, 1));
      }
    }
  }

  const Names& names_;
  const ModelNames* model_;
  std::string prefix_;
};

// At most one change for each tensor.
class Changes {
 public:
  explicit Changes(const Names& names) : names_(names) {}

  void Add(Change change) {
    const auto [place, fresh] = changes_.emplace(change.tensor, change);
    if (!fresh) Refuse("{} is named twice", names_[change.tensor].name);
  }
  bool Has(std::size_t tensor) const { return changes_.contains(tensor); }

  std::vector<Change> InOrder() const {
    std::vector<Change> all;
    for (const auto& [tensor, change] : changes_) all.push_back(change);
    return all;
  }

 private:
  const Names& names_;
  std::map<std::size_t, Change> changes_;
};

std::vector<std::size_t> AllOf(const Names& names, std::string_view option, const std::string& pattern) {
  std::vector<std::size_t> found = names.All(pattern);
  if (found.empty()) Refuse("the pattern '{}' of {} matches no tensor", pattern, option);
  return found;
}

// Adds what writes into the stream, all of one width.
class Writers {
 public:
  Writers(const Names& names, Changes& changes) : names_(names), changes_(changes) {}

  void Add(const std::vector<std::size_t>& places, Change::Kind kind) {
    for (const std::size_t i : places) {
      const TensorInfo& t = names_[i];
      const bool columns = kind == Change::Kind::kCentreColumns;
      CheckDims(t, columns ? 2 : 1, 2);
      const std::int64_t width = columns ? t.shape.front() : t.shape.back();
      if (first_ == nullptr) {
        first_ = &t;
        width_ = width;
      }
      if (width != width_) {
        Refuse("{} of shape {} writes {} values, but {} writes {}: both cannot write into one residual stream", t.name,
               Shape(t), width, first_->name, width_);
      }
      changes_.Add({.kind = kind, .tensor = i});
    }
  }
  std::int64_t width() const { return width_; }

 private:
  const Names& names_;
  Changes& changes_;
  const TensorInfo* first_ = nullptr;
  std::int64_t width_ = 0;
};

// The head reads what the last norm makes of the stream. Tied to the embedding it would be recentred, and read another thing.
void CheckHead(const Names& names, const Changes& changes, const RecenterOptions& options, std::int64_t width,
               CheckpointPlan& plan) {
  if (options.no_head) return;
  const std::optional<std::size_t> head = names.Find(options.head);
  if (head && !options.untie.empty()) Refuse("the head {} is there, so there is nothing to untie", options.head);
  std::optional<std::size_t> read = head;
  if (!head) {
    if (options.untie.empty()) {
      Refuse("there is no head {}, so it may be tied to the embedding, which cannot be recentred and be read as it was",
             options.head);
    }
    read = names.Find(options.untie);
    if (!read || !changes.Has(*read)) {
      Refuse("{} is to be untied, but is not among what writes into the residual stream", options.untie);
    }
    plan.untied = options.head;
    plan.untied_from = *read;
  } else if (changes.Has(*head)) {
    Refuse(
        "the head {} is among what writes into the residual stream: it is tied, and cannot be recentred and be read as it was",
        options.head);
  }
  CheckDims(names[*read], 2, 2);
  if (names[*read].shape.back() != width) {
    Refuse("the head {} of shape {} reads {} values, but the residual stream has {}", options.head, Shape(names[*read]),
           names[*read].shape.back(), width);
  }
}

constexpr std::string_view kWeight = ".weight";

std::string BiasOf(const std::string& weight) { return weight.substr(0, weight.size() - kWeight.size()) + ".bias"; }

// One norm, and all that reads it.
class Folder {
 public:
  Folder(const Names& names, Changes& changes, std::size_t norm, double offset)
      : names_(names), changes_(changes), norm_(norm), offset_(offset) {
    const TensorInfo& t = names[norm];
    if (!t.name.ends_with(kWeight)) Refuse("the norm's weight is called {}, but has to end in .weight", t.name);
    CheckDims(t, 1, 1);
    bias_ = names.Find(BiasOf(t.name));
    if (bias_) {
      CheckDims(names[*bias_], 1, 1);
      if (names[*bias_].shape != t.shape) {
        Refuse("{} has the shape {}, but {} has {}", names[*bias_].name, Shape(names[*bias_]), t.name, Shape(t));
      }
    }
    changes.Add({.kind = Change::Kind::kFill, .tensor = norm, .value = 1 - offset});
    if (bias_) changes.Add({.kind = Change::Kind::kFill, .tensor = *bias_, .value = 0});
  }

  void Into(const std::string& name, bool inputs_first) {
    const std::optional<std::size_t> weight = names_.Find(name);
    const TensorInfo& norm = names_[norm_];
    if (!weight) Refuse("there is no tensor {} into which {} could be folded", name, norm.name);
    const TensorInfo& t = names_[*weight];
    CheckDims(t, 2, 2);
    const std::int64_t inputs = inputs_first ? t.shape[0] : t.shape[1], outputs = inputs_first ? t.shape[1] : t.shape[0];
    if (inputs != norm.shape[0]) {
      Refuse("{} of shape {} reads {} values, but {} has {}", t.name, Shape(t), inputs, norm.name, norm.shape[0]);
    }
    changes_.Add(
        {.kind = Change::Kind::kScale, .tensor = *weight, .norm = norm_, .inputs_first = inputs_first, .value = offset_});
    if (!bias_) return;
    if (!t.name.ends_with(kWeight)) Refuse("the linear layer's weight is called {}, but has to end in .weight", t.name);
    const std::string bias_name = BiasOf(t.name);
    const std::optional<std::size_t> bias = names_.Find(bias_name);
    if (!bias) Refuse("{} has no bias {} that could take that of the norm {}", t.name, bias_name, norm.name);
    const TensorInfo& c = names_[*bias];
    CheckDims(c, 1, 1);
    if (c.shape[0] != outputs) {
      Refuse("{} has {} values, but {} of shape {} gives {}", c.name, c.shape[0], t.name, Shape(t), outputs);
    }
    changes_.Add(
        {.kind = Change::Kind::kAddBias, .tensor = *bias, .norm = *bias_, .weight = *weight, .inputs_first = inputs_first});
  }

 private:
  const Names& names_;
  Changes& changes_;
  std::size_t norm_;
  double offset_;
  std::optional<std::size_t> bias_;
};

// Where this norm is one of a model that is known, all that reads it must be among what was named.
void CheckReaders(const Names& names, const std::string& norm, const std::vector<std::string>& named) {
  for (const ModelNames& model : AllModelNames()) {
    const std::optional<std::string> prefix = PrefixIn(model, names);
    if (!prefix) continue;
    for (const Readers& readers : model.readers) {
      const auto texts = Capture(*prefix + readers.norm + ".weight", norm);
      if (!texts) continue;
      for (const std::vector<std::string>* const list : {&readers.linear, &readers.conv1d}) {
        for (const std::string& reader : *list) {
          const std::string name = Filled(*prefix + reader + ".weight", *texts);
          if (names.Find(name) && std::find(named.begin(), named.end(), name) == named.end()) {
            Refuse("{} is read by {} too, which is not named", norm, name);
          }
        }
      }
    }
  }
}

void FoldAll(const Names& names, Changes& changes, const FoldOptions& options) {
  for (const std::size_t norm : AllOf(names, "norm", options.norm)) {
    const std::vector<std::string> texts = *Capture(options.norm, names[norm].name);
    Folder folder(names, changes, norm, options.offset.value_or(0));
    std::vector<std::string> named;
    for (const auto& [list, inputs_first] : {std::pair(&options.linear, false), std::pair(&options.conv1d, true)}) {
      for (const std::string& pattern : *list) {
        named.push_back(Filled(pattern, texts));
        folder.Into(named.back(), inputs_first);
      }
    }
    CheckReaders(names, names[norm].name, named);
  }
}

}  // namespace

std::vector<std::string_view> CheckpointPresets() {
  std::vector<std::string_view> words;
  for (const ModelNames& model : AllModelNames()) words.push_back(model.name);
  return words;
}

CheckpointPlan PlanRecenter(const std::vector<TensorInfo>& tensors, const RecenterOptions& given) {
  const Names names(tensors);
  Changes changes(names);
  Writers writers(names, changes);
  CheckpointPlan plan;
  RecenterOptions options = given;
  using Kind = Change::Kind;
  if (options.no_head && (!options.head.empty() || !options.untie.empty())) Exclude("a head and none exclude each other");
  if (!options.preset.empty()) {
    if (!options.rows.empty() || !options.linear.empty()) Exclude("a preset and patterns exclude each other");
    const KnownModel known(options.preset, names);
    const ModelNames& model = known.model();
    if (!model.layer_norm) Refuse("models of the preset {} have RMSNorm, so there is no mean to be taken away", model.name);
    const auto add = [&](const std::string& name, Kind kind) { writers.Add(names.All(known.Full(name)), kind); };
    for (const std::string& name : model.embeddings) add(name, Kind::kCentreRows);
    for (const std::string& layer : model.linear) add(layer + ".weight", Kind::kCentreColumns);
    for (const std::string& layer : model.conv1d) add(layer + ".weight", Kind::kCentreRows);
    for (const std::vector<std::string>* const list : {&model.linear, &model.conv1d}) {
      for (const std::string& layer : *list) add(layer + ".bias", Kind::kCentreRows);  // where there are any
    }
    for (const std::string& name : model.heads) {
      if (options.head.empty() && names.Find(name)) options.head = name;
    }
    if (options.head.empty()) options.head = model.heads.front();
  } else {
    if (options.rows.empty() && options.linear.empty())
      Exclude("rows and linear name nothing that writes into the residual stream");
    for (const std::string& pattern : options.rows) writers.Add(AllOf(names, "rows", pattern), Kind::kCentreRows);
    for (const std::string& pattern : options.linear) writers.Add(AllOf(names, "linear", pattern), Kind::kCentreColumns);
    if (options.head.empty() && !options.no_head) {
      Exclude("the head is not named: what reads the last norm must not be tied to what writes into the residual stream");
    }
  }
  for (const Change& change : changes.InOrder()) {  // a pattern for weights does not name what is added with them
    const std::string& name = names[change.tensor].name;
    if (!name.ends_with(kWeight)) continue;
    const std::optional<std::size_t> bias = names.Find(BiasOf(name));
    if (bias && !changes.Has(*bias)) Refuse("{} is added with {}, but is not among rows", names[*bias].name, name);
  }
  CheckHead(names, changes, options, writers.width(), plan);
  plan.changes = changes.InOrder();
  return plan;
}

CheckpointPlan PlanFold(const std::vector<TensorInfo>& tensors, const FoldOptions& options) {
  const Names names(tensors);
  Changes changes(names);
  if (!options.preset.empty()) {
    if (!options.norm.empty() || !options.linear.empty() || !options.conv1d.empty()) {
      Exclude("a preset and patterns exclude each other");
    }
    if (options.offset) Exclude("a preset and a contract exclude each other: the preset knows what is added to the weight");
    const KnownModel known(options.preset, names);
    for (const Readers& r : known.model().readers) {
      FoldOptions one = {.norm = known.Full(r.norm + ".weight"), .offset = known.model().offset};
      for (const std::string& layer : r.linear) one.linear.push_back(known.Full(layer + ".weight"));
      for (const std::string& layer : r.conv1d) one.conv1d.push_back(known.Full(layer + ".weight"));
      FoldAll(names, changes, one);
    }
  } else {
    if (options.norm.empty()) Exclude("no norm is named");
    if (options.linear.empty() && options.conv1d.empty()) Exclude("no linear layer is named into which the norm is folded");
    FoldAll(names, changes, options);
  }
  return {.changes = changes.InOrder()};
}

}  // namespace isonorm_cli
