// What the makers of calls share beside the builder's steps.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "call/error.h"
#include "isonorm/isonorm.h"
#include "call/tensor.h"

// The first fault ends the making of a call.
#define ISONORM_TRY(expression)                                     \
  do {                                                              \
    const isonorm_status status_ = (expression);                    \
    if (__builtin_expect(status_ != ISONORM_OK, 0)) return status_; \
  } while (0)

namespace isonorm {

// Copies what the caller's version of the structure has; the rest is 0. first_size: that of its first version.
template <class Args>
isonorm_status TakeArgs(const Args* from, size_t first_size, const char* structure, Args* args) {
  if (from == nullptr) return Fail(ISONORM_ERROR_NULL, "args is null, but must point to an %s.", structure);
  if (from->struct_size < first_size) {
    return Fail(ISONORM_ERROR_STRUCT_SIZE, "args.struct_size is %zu, but must be at least %zu; use sizeof(%s).",
                from->struct_size, first_size, structure);
  }
  std::memcpy(args, from, std::min(from->struct_size, sizeof(Args)));
  return ISONORM_OK;
}

inline isonorm_status SameType(const char* name, Type type, const char* as, Type expected) {
  if (type == expected) return ISONORM_OK;
  return Fail(ISONORM_ERROR_DTYPE, "%s is %s, but must be %s, the type of %s.", name, NameOf(type), NameOf(expected), as);
}

}  // namespace isonorm
