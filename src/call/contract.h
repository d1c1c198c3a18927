// What is computed: the named contracts and the check of a contract's fields.
#pragma once

#include <cstddef>

#include "call/call.h"
#include "isonorm/isonorm.h"

namespace isonorm {

struct NamedContract {
  const char* name;
  isonorm_contract contract;
};

size_t NamedContractCount();
const NamedContract& NamedContractAt(size_t index);
isonorm_status ContractByName(const char* name, isonorm_contract* contract, size_t size);

// Copies what the caller's version of the contract has; the rest is 0. ISONORM_OK, or the status and message of the first field
// that has no such value.
isonorm_status TakeContract(const isonorm_contract* from, isonorm_contract* contract);

// What the contract rounds to, given the types of x, of the sum x + residual (kNone: there is none) and of the call's weight
// and gate. Rounding f32 to f32 is none.
void SetRoundings(const isonorm_contract& contract, Type x, Type sum, Call* call);

}  // namespace isonorm
