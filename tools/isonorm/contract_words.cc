#include "contract_words.h"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <string>

namespace isonorm_cli {
namespace {

constexpr std::string_view kStatistics[] = {"rms", "layer"};
constexpr std::string_view kEpsPlaces[] = {"inside", "outside"};
constexpr std::string_view kScaledRoundings[] = {"none", "to_x", "to_weight"};

template <class Enum>
std::string Word(Enum value, std::span<const std::string_view> words) {
  const auto index = static_cast<std::size_t>(value) - 1;  // 0 becomes too large
  return std::string(index < words.size() ? words[index] : "unknown");
}

}  // namespace

nlohmann::ordered_json ContractFields(const isonorm::contract& c) {
  return {{"statistic", Word(c.statistic, kStatistics)},
          {"eps_place", Word(c.eps_place, kEpsPlaces)},
          {"scaled_rounding", Word(c.scaled_rounding, kScaledRoundings)},
          {"sum_rounding", Word(c.sum_rounding, kSumRoundings)},
          {"gate_place", Word(c.gate_place, kGatePlaces)},
          {"gate_function", Word(c.gate_function, kGateFunctions)},
          {"weight_offset", c.weight_offset},
          {"rotation_rounding", Word(c.rotation_rounding, std::span(kScaledRoundings).first(2))}};
}

}  // namespace isonorm_cli
