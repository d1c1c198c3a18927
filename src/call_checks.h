// What the makers of calls share beside the builder's steps.
#pragma once

#include "error.h"
#include "isonorm/isonorm.h"
#include "tensor.h"

// The first fault ends the making of a call.
#define ISONORM_TRY(expression)                                     \
  do {                                                              \
    const isonorm_status status_ = (expression);                    \
    if (__builtin_expect(status_ != ISONORM_OK, 0)) return status_; \
  } while (0)

namespace isonorm {

template <class Args>
isonorm_status CheckArgs(const Args* args, const char* structure) {
  if (args == nullptr) return Fail(ISONORM_ERROR_NULL, "args is null, but must point to an %s.", structure);
  if (args->struct_size < sizeof(Args)) {
    return Fail(ISONORM_ERROR_STRUCT_SIZE, "args.struct_size is %zu, but must be at least %zu; use sizeof(%s).",
                args->struct_size, sizeof(Args), structure);
  }
  return ISONORM_OK;
}

inline isonorm_status SameType(const char* name, Type type, const char* as, Type expected) {
  if (type == expected) return ISONORM_OK;
  return Fail(ISONORM_ERROR_DTYPE, "%s is %s, but must be %s, the type of %s.", name, NameOf(type), NameOf(expected), as);
}

}  // namespace isonorm
