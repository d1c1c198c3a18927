// How structures of the C ABI pass between a caller and a library of other versions: each begins with its size in bytes, new
// fields come at its end, and nothing of one is read before all of it that is known lies in a copy.
#pragma once

#include <cstddef>

#include "call/error.h"
#include "isonorm/isonorm.h"

namespace isonorm {

// The size that a structure had in 0.2.0, the first version whose ABI is promised. A structure that has grown since has a
// specialisation, which says where its newer fields begin.
template <class S>
constexpr size_t kFirstSize = sizeof(S);
constexpr size_t kLargestSize = 4096;  // more than a structure will ever have: such a size was not set

// One whose size is not the one that this version knows.
struct UnlikeSize {
  const char* argument;  // its name in the call
  const char* structure;
  size_t size;  // the caller's
  size_t first, known, alignment;
};
// Copies from the caller: what its version does not have is 0, and what this one does not know must be.
[[gnu::cold]] isonorm_status TakeUnlike(const UnlikeSize& unlike, const void* from, void* to);
// Copies to the caller: the other way round.
[[gnu::cold]] isonorm_status GiveUnlike(const UnlikeSize& unlike, const void* from, void* to);

template <class S>
isonorm_status TakeStructure(const S* from, const char* argument, const char* structure, S* to) {
  if (from == nullptr) return Fail(ISONORM_ERROR_NULL, "%s is null, but must point to an %s.", argument, structure);
  const size_t size = from->struct_size;
  if (__builtin_expect(size == sizeof(S), 1)) {
    *to = *from;
    return ISONORM_OK;
  }
  const isonorm_status status = TakeUnlike({argument, structure, size, kFirstSize<S>, sizeof(S), alignof(S)}, from, to);
  to->struct_size = sizeof(S);
  return status;
}

// size: how many bytes the caller has room for, and how many are written.
template <class S>
isonorm_status GiveStructure(const S& from, size_t size, const char* argument, const char* structure, S* to) {
  if (size == sizeof(S)) {
    *to = from;
    return ISONORM_OK;
  }
  const isonorm_status status = GiveUnlike({argument, structure, size, kFirstSize<S>, sizeof(S), alignof(S)}, &from, to);
  if (status == ISONORM_OK) to->struct_size = size;
  return status;
}

}  // namespace isonorm
