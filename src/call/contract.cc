#include "call/contract.h"

#include <cmath>
#include <cstring>

#include "call/error.h"
#include "call/structure.h"

namespace isonorm {
namespace {

constexpr NamedContract kContracts[] = {
    {"torch", ISONORM_CONTRACT_TORCH},       {"llama", ISONORM_CONTRACT_LLAMA},
    {"onnx", ISONORM_CONTRACT_ONNX},         {"t5", ISONORM_CONTRACT_T5},
    {"gemma", ISONORM_CONTRACT_GEMMA},       {"paper", ISONORM_CONTRACT_PAPER},
    {"mamba2", ISONORM_CONTRACT_MAMBA2},     {"qwen3_next_gated", ISONORM_CONTRACT_QWEN3_NEXT_GATED},
    {"microgpt", ISONORM_CONTRACT_MICROGPT}, {"layer_norm", ISONORM_CONTRACT_LAYER_NORM},
};

// Fields count from 1, so that one that was forgotten is not taken for a choice.
bool Known(int32_t value, int32_t last) { return value >= 1 && value <= last; }

[[gnu::cold]] isonorm_status BadField(const isonorm_contract& contract) {
  const struct {
    const char* name;
    int32_t value, last;
    const char* allowed;
  } fields[] = {
      {"statistic", contract.statistic, 2, "ISONORM_STATISTIC_RMS, ISONORM_STATISTIC_LAYER"},
      {"eps_place", contract.eps_place, 2, "ISONORM_EPS_INSIDE, ISONORM_EPS_OUTSIDE"},
      {"scaled_rounding", contract.scaled_rounding, 3, "ISONORM_ROUND_NONE, ISONORM_ROUND_TO_X, ISONORM_ROUND_TO_WEIGHT"},
      {"sum_rounding", contract.sum_rounding, 2, "ISONORM_SUM_STORED, ISONORM_SUM_KEPT"},
      {"gate_place", contract.gate_place, 3, "ISONORM_GATE_NONE, ISONORM_GATE_BEFORE, ISONORM_GATE_AFTER"},
      {"gate_function", contract.gate_function, 2, "ISONORM_GATE_SILU, ISONORM_GATE_SIGMOID"},
      {"rotation_rounding", contract.rotation_rounding, 2, "ISONORM_ROUND_NONE, ISONORM_ROUND_TO_X"},
  };
  for (const auto& field : fields) {
    if (Known(field.value, field.last)) continue;
    return Fail(ISONORM_ERROR_CONTRACT, "contract.%s is %d, but must be set to one of %s.", field.name,
                static_cast<int>(field.value), field.allowed);
  }
  if (contract.reserved != 0) {
    return Fail(ISONORM_ERROR_CONTRACT, "contract.reserved is %d, but must be 0.", static_cast<int>(contract.reserved));
  }
  return Fail(ISONORM_ERROR_CONTRACT, "contract.weight_offset is %g, but must be finite.", contract.weight_offset);
}

}  // namespace

size_t NamedContractCount() { return sizeof(kContracts) / sizeof(kContracts[0]); }
const NamedContract& NamedContractAt(size_t index) { return kContracts[index]; }

isonorm_status ContractByName(const char* name, isonorm_contract* contract, size_t size) {
  if (name == nullptr) return Fail(ISONORM_ERROR_NULL, "name is null, but must be the name of a contract.");
  if (contract == nullptr) return Fail(ISONORM_ERROR_NULL, "contract is null, but must point to the result.");
  for (const NamedContract& named : kContracts) {
    if (std::strcmp(named.name, name) != 0) continue;
    return GiveStructure(named.contract, size, name, "isonorm_contract", contract);
  }
  return Fail(
      ISONORM_ERROR_CONTRACT,
      "name is \"%s\", but must be torch, llama, onnx, t5, gemma, paper, mamba2, qwen3_next_gated, microgpt or layer_norm.",
      name);
}

isonorm_status TakeContract(const isonorm_contract* from, isonorm_contract* contract) {
  const isonorm_status status = TakeStructure(from, "contract", "isonorm_contract", contract);
  if (status != ISONORM_OK) return status;
  if (!Known(contract->statistic, 2) || !Known(contract->eps_place, 2) || !Known(contract->scaled_rounding, 3) ||
      !Known(contract->sum_rounding, 2) || !Known(contract->gate_place, 3) || !Known(contract->gate_function, 2) ||
      !std::isfinite(contract->weight_offset) || !Known(contract->rotation_rounding, 2) || contract->reserved != 0) {
    return BadField(*contract);
  }
  return ISONORM_OK;
}

void SetRoundings(const isonorm_contract& contract, Type x, Type sum, Call* call) {
  const Type w = call->weight_type;
  if (contract.scaled_rounding == ISONORM_ROUND_TO_X && Is16Bit(x)) call->scaled_type = x;
  if (contract.scaled_rounding == ISONORM_ROUND_TO_WEIGHT && Is16Bit(w)) call->scaled_type = w;
  // torch's type promotion: a weight of another type has lifted the product to f32 before the gate.
  if (call->gate == Gate::kAfter && contract.scaled_rounding == ISONORM_ROUND_TO_X && (w == Type::kNone || w == x) &&
      Is16Bit(x)) {
    call->gated_type = x;
  }
  if (contract.sum_rounding == ISONORM_SUM_STORED && Is16Bit(sum)) call->sum_type = sum;
}

}  // namespace isonorm
