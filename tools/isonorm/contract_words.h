// The fields of a contract in words, as options take them and `list` and --json show them.
#pragma once

#include <isonorm/isonorm.hpp>
#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <span>
#include <string_view>

namespace isonorm_cli {

// In the order of the enumerators of contract.hpp, which count from 1.
inline constexpr std::string_view kSumRoundings[] = {"stored", "kept"};
inline constexpr std::string_view kGatePlaces[] = {"none", "before", "after"};
inline constexpr std::string_view kGateFunctions[] = {"silu", "sigmoid"};
inline constexpr std::string_view kScaleKinds[] = {"static", "dynamic", "power_of_two"};

// The enumerator of a word; 0, which is none, for any other.
template <class Enum>
Enum ValueOf(std::string_view word, std::span<const std::string_view> words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == word) return static_cast<Enum>(i + 1);
  }
  return Enum{};
}

nlohmann::ordered_json ContractFields(const isonorm::contract& contract);

}  // namespace isonorm_cli
