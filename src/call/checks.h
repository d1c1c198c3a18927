// What the makers of calls share beside the builder's steps.
#pragma once

#include <cstdint>

#include "call/call.h"
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

// On the CPU a call has returned only when all of it is done.
inline isonorm_status SetStream(void* stream, Call* call) {
  call->stream = stream;
  if (stream == nullptr || call->device.device_type != ISONORM_DEVICE_CPU) return ISONORM_OK;
  return Fail(ISONORM_ERROR_ARGUMENT, "stream is given, but must be null where the tensors are in memory of the CPU.");
}

inline isonorm_status CheckFlags(uint32_t flags, uint32_t reserved) {
  if ((flags & ~uint32_t{ISONORM_ACCUMULATE}) == 0 && reserved == 0) return ISONORM_OK;
  return Fail(ISONORM_ERROR_ARGUMENT, "flags is %u and reserved is %u, but they must be 0 or ISONORM_ACCUMULATE, and 0.",
              static_cast<unsigned>(flags), static_cast<unsigned>(reserved));
}

inline isonorm_status SameType(const char* name, Type type, const char* as, Type expected) {
  if (type == expected) return ISONORM_OK;
  return Fail(ISONORM_ERROR_DTYPE, "%s is %s, but must be %s, the type of %s.", name, NameOf(type), NameOf(expected), as);
}

}  // namespace isonorm
