#include "checkpoint/names.h"

#include <fmt/format.h>

#include "checkpoint/plan.h"

namespace isonorm_cli {

std::optional<std::vector<std::string>> Capture(std::string_view pattern, std::string_view name) {
  std::vector<std::string> texts;
  // Segment by segment: a star does not reach over a dot.
  while (true) {
    const std::size_t pattern_end = pattern.find('.'), name_end = name.find('.');
    if ((pattern_end == pattern.npos) != (name_end == name.npos)) return std::nullopt;
    std::string_view part = pattern.substr(0, pattern_end), text = name.substr(0, name_end);
    for (std::size_t star; (star = part.find('*')) != part.npos;) {
      if (text.substr(0, star) != part.substr(0, star)) return std::nullopt;
      text.remove_prefix(star);
      part.remove_prefix(star + 1);
      const std::string_view literal = part.substr(0, part.find('*'));
      const bool last = part.size() == literal.size();
      if (last && text.size() < literal.size()) return std::nullopt;
      const std::size_t at = last ? text.size() - literal.size() : text.find(literal);
      if (at == text.npos) return std::nullopt;
      texts.emplace_back(text.substr(0, at));
      text.remove_prefix(at);
    }
    if (text != part) return std::nullopt;
    if (pattern_end == pattern.npos) return texts;
    pattern.remove_prefix(pattern_end + 1);
    name.remove_prefix(name_end + 1);
  }
}

std::string Filled(const std::string& pattern, const std::vector<std::string>& texts) {
  std::string name;
  std::size_t next = 0;
  for (const char c : pattern) {
    if (c != '*') {
      name += c;
    } else if (next < texts.size()) {
      name += texts[next++];
    } else {
      throw Refusal(fmt::format("the pattern '{}' has more stars than that of the norm", pattern));
    }
  }
  return name;
}

Names::Names(const std::vector<TensorInfo>& tensors) : tensors_(tensors) {
  for (std::size_t i = 0; i < tensors.size(); ++i) places_.emplace(tensors[i].name, i);
}

std::optional<std::size_t> Names::Find(std::string_view name) const {
  const auto found = places_.find(name);
  return found == places_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<std::size_t> Names::All(std::string_view pattern) const {
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (Capture(pattern, tensors_[i].name)) found.push_back(i);
  }
  return found;
}

const std::vector<ModelNames>& AllModelNames() {
  static const std::vector<ModelNames> all = {
      {.name = "gpt2",
       .prefixes = {"transformer.", ""},
       .embeddings = {"wte.weight", "wpe.weight"},
       .linear = {},
       .conv1d = {"h.*.attn.c_proj", "h.*.mlp.c_proj"},
       .last_norm = "ln_f",
       .heads = {"lm_head.weight"},
       .readers = {{"h.*.ln_1", {}, {"h.*.attn.c_attn"}}, {"h.*.ln_2", {}, {"h.*.mlp.c_fc"}}},
       .offset = 0,
       .layer_norm = true,
       .others = {"h.*.attn.bias", "h.*.attn.masked_bias"}},
      {.name = "opt",
       .prefixes = {"model.decoder.", "decoder.", ""},
       .embeddings = {"embed_tokens.weight", "embed_positions.weight"},
       .linear = {"layers.*.self_attn.out_proj", "layers.*.fc2"},
       .conv1d = {},
       .last_norm = "final_layer_norm",
       .heads = {"lm_head.weight"},
       .readers = {{"layers.*.self_attn_layer_norm",
                    {"layers.*.self_attn.q_proj", "layers.*.self_attn.k_proj", "layers.*.self_attn.v_proj"},
                    {}},
                   {"layers.*.final_layer_norm", {"layers.*.fc1"}, {}}},
       .offset = 0,
       .layer_norm = true,
       .others = {}},
      {.name = "gpt_neox",
       .prefixes = {"gpt_neox.", ""},
       .embeddings = {"embed_in.weight"},
       .linear = {"layers.*.attention.dense", "layers.*.mlp.dense_4h_to_h"},
       .conv1d = {},
       .last_norm = "final_layer_norm",
       .heads = {"embed_out.weight", "lm_head.weight"},
       .readers = {{"layers.*.input_layernorm", {"layers.*.attention.query_key_value"}, {}},
                   {"layers.*.post_attention_layernorm", {"layers.*.mlp.dense_h_to_4h"}, {}}},
       .offset = 0,
       .layer_norm = true,
       .others = {"layers.*.attention.bias", "layers.*.attention.masked_bias", "layers.*.attention.rotary_emb.inv_freq"}},
      {.name = "llama",
       .prefixes = {"model.", ""},
       .embeddings = {"embed_tokens.weight"},
       .linear = {"layers.*.self_attn.o_proj", "layers.*.mlp.down_proj"},
       .conv1d = {},
       .last_norm = "norm",
       .heads = {"lm_head.weight"},
       .readers = {{"layers.*.input_layernorm",
                    {"layers.*.self_attn.q_proj", "layers.*.self_attn.k_proj", "layers.*.self_attn.v_proj"},
                    {}},
                   {"layers.*.post_attention_layernorm", {"layers.*.mlp.gate_proj", "layers.*.mlp.up_proj"}, {}}},
       .offset = 0,
       .layer_norm = false,
       .others = {"layers.*.self_attn.q_norm.weight", "layers.*.self_attn.k_norm.weight",
                  "layers.*.self_attn.rotary_emb.inv_freq"}},
  };
  static const std::vector<ModelNames> with_gemma = [] {
    std::vector<ModelNames> models = all;
    ModelNames gemma = all.back();  // the same names, and 1 + weight
    gemma.name = "gemma";
    gemma.offset = 1;
    models.push_back(gemma);
    return models;
  }();
  return with_gemma;
}

std::optional<std::string> PrefixIn(const ModelNames& model, const Names& names) {
  for (const std::string& prefix : model.prefixes) {
    if (names.Find(prefix + model.embeddings.front())) return prefix;
  }
  return std::nullopt;
}

}  // namespace isonorm_cli
