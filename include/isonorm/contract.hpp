// What a call computes, in types of C++: contracts and quantised outputs. isonorm.hpp includes it.
#pragma once

#include <isonorm/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include <isonorm/tensor.hpp>

namespace isonorm {

// ----------------------------------------------------------------------------------------------------------- contracts

enum class statistic : std::int32_t { rms = ISONORM_STATISTIC_RMS, layer = ISONORM_STATISTIC_LAYER };
enum class eps_place : std::int32_t { inside = ISONORM_EPS_INSIDE, outside = ISONORM_EPS_OUTSIDE };
enum class rounding : std::int32_t {
  none = ISONORM_ROUND_NONE,
  to_x = ISONORM_ROUND_TO_X,
  to_weight = ISONORM_ROUND_TO_WEIGHT,
};
enum class sum_rounding : std::int32_t { stored = ISONORM_SUM_STORED, kept = ISONORM_SUM_KEPT };
enum class gate_place : std::int32_t { none = ISONORM_GATE_NONE, before = ISONORM_GATE_BEFORE, after = ISONORM_GATE_AFTER };
enum class gate_function : std::int32_t { silu = ISONORM_GATE_SILU, sigmoid = ISONORM_GATE_SIGMOID };

// As isonorm_contract, whose comments say what the fields mean. A field that is not set has no value, and calls refuse it:
// start from a named contract.
//   isonorm::contract mine = isonorm::contracts::llama;
//   mine.weight_offset = 1;
struct contract {
  isonorm::statistic statistic = {};
  isonorm::eps_place eps_place = {};
  rounding scaled_rounding = {};
  isonorm::sum_rounding sum_rounding = {};
  isonorm::gate_place gate_place = {};
  isonorm::gate_function gate_function = {};
  rounding rotation_rounding = {};
  double weight_offset = 0;

  friend bool operator==(const contract&, const contract&) = default;
};

[[nodiscard]] constexpr isonorm_contract to_c(const contract& from) {
  return {sizeof(isonorm_contract),
          static_cast<std::int32_t>(from.statistic),
          static_cast<std::int32_t>(from.eps_place),
          static_cast<std::int32_t>(from.scaled_rounding),
          static_cast<std::int32_t>(from.sum_rounding),
          static_cast<std::int32_t>(from.gate_place),
          static_cast<std::int32_t>(from.gate_function),
          static_cast<std::int32_t>(from.rotation_rounding),
          0,
          from.weight_offset};
}

[[nodiscard]] constexpr contract from_c(const isonorm_contract& from) {
  return {static_cast<statistic>(from.statistic),        static_cast<eps_place>(from.eps_place),
          static_cast<rounding>(from.scaled_rounding),   static_cast<sum_rounding>(from.sum_rounding),
          static_cast<gate_place>(from.gate_place),      static_cast<gate_function>(from.gate_function),
          static_cast<rounding>(from.rotation_rounding), from.weight_offset};
}

namespace contracts {
inline constexpr contract torch = from_c(ISONORM_CONTRACT_TORCH);
inline constexpr contract llama = from_c(ISONORM_CONTRACT_LLAMA);
inline constexpr contract onnx = from_c(ISONORM_CONTRACT_ONNX);
inline constexpr contract t5 = from_c(ISONORM_CONTRACT_T5);
inline constexpr contract gemma = from_c(ISONORM_CONTRACT_GEMMA);
inline constexpr contract paper = from_c(ISONORM_CONTRACT_PAPER);
inline constexpr contract mamba2 = from_c(ISONORM_CONTRACT_MAMBA2);
inline constexpr contract qwen3_next_gated = from_c(ISONORM_CONTRACT_QWEN3_NEXT_GATED);
inline constexpr contract microgpt = from_c(ISONORM_CONTRACT_MICROGPT);
inline constexpr contract layer_norm = from_c(ISONORM_CONTRACT_LAYER_NORM);

// The contract of that name; throws for an unknown one.
[[nodiscard]] inline contract by_name(const std::string& name) {
  isonorm_contract named{};
  detail::check(isonorm_contract_by_name(detail::c_name(name, ISONORM_ERROR_CONTRACT), &named, sizeof(named)));
  return from_c(named);
}
}  // namespace contracts

// ---------------------------------------------------------------------------------------------------- quantised outputs

// fixed: the scale is given, one for the tensor. dynamic, power_of_two: scales are computed, as f32 or as e8m0.
enum class scale_kind : std::int32_t {
  none = 0,
  fixed = ISONORM_SCALE_STATIC,
  dynamic = ISONORM_SCALE_DYNAMIC,
  power_of_two = ISONORM_SCALE_POWER_OF_TWO,
};

// As isonorm_quantization. {}: y is not quantised.
//   .quantization = {.kind = isonorm::scale_kind::dynamic, .group_cols = 128}
struct quantization {
  scale_kind kind = scale_kind::none;
  std::optional<dtype> rounded_to = {};  // bf16 or f16: y is rounded to it first
  std::int64_t group_cols = 0;           // 32, 64 or 128; 0: one scale for the row
  double min_scale = 0;
  double scale_ub = 0;

  friend bool operator==(const quantization&, const quantization&) = default;
  explicit constexpr operator bool() const { return *this != quantization{}; }
};

[[nodiscard]] constexpr isonorm_quantization to_c(const quantization& from) {
  return {sizeof(isonorm_quantization),
          static_cast<std::int32_t>(from.kind),
          from.rounded_to ? to_c(*from.rounded_to) : isonorm_dtype{},
          from.group_cols,
          from.min_scale,
          from.scale_ub};
}

}  // namespace isonorm
