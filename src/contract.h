// What is computed: the named contracts and the check of a contract's fields.
#pragma once

#include <cstddef>

#include "isonorm/isonorm.h"

namespace isonorm {

struct NamedContract {
  const char* name;
  isonorm_contract contract;
};

size_t NamedContractCount();
const NamedContract& NamedContractAt(size_t index);
isonorm_status ContractByName(const char* name, isonorm_contract* contract);

// ISONORM_OK, or the status and message of the first field that has no such value.
isonorm_status CheckContract(const isonorm_contract* contract);

}  // namespace isonorm
