// Names of tensors by patterns, and the models whose names are known.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/format.h"

namespace isonorm_cli {

// What each * of the pattern stands for, which is text without a dot; nothing if the name does not match.
std::optional<std::vector<std::string>> Capture(std::string_view pattern, std::string_view name);

// The pattern with these texts in place of its stars, in their order. Throws Refusal if there are more stars.
std::string Filled(const std::string& pattern, const std::vector<std::string>& texts);

// Tensors by name.
class Names {
 public:
  explicit Names(const std::vector<TensorInfo>& tensors);
  const TensorInfo& operator[](std::size_t at) const { return tensors_[at]; }
  std::optional<std::size_t> Find(std::string_view name) const;
  std::vector<std::size_t> All(std::string_view pattern) const;
  std::size_t size() const { return tensors_.size(); }

 private:
  const std::vector<TensorInfo>& tensors_;
  std::map<std::string_view, std::size_t> places_;
};

// A norm whose result goes into these linear layers and nowhere else; patterns of names without ".weight" and ".bias".
struct Readers {
  std::string norm;
  std::vector<std::string> linear, conv1d;
};

// A family of models of Hugging Face. All names but the head's follow the prefix.
struct ModelNames {
  std::string_view name;
  std::vector<std::string> prefixes;
  std::vector<std::string> embeddings;      // the first one may be tied to the head
  std::vector<std::string> linear, conv1d;  // what writes into the residual stream, without ".weight" and ".bias"
  std::string last_norm;
  std::vector<std::string> heads;  // what it may be called
  std::vector<Readers> readers;
  double offset;
  bool layer_norm;                  // else RMSNorm
  std::vector<std::string> others;  // names that matter to neither
};

const std::vector<ModelNames>& AllModelNames();

// The prefix of that family in this file; nothing if its embedding is not there.
std::optional<std::string> PrefixIn(const ModelNames& model, const Names& names);

}  // namespace isonorm_cli
