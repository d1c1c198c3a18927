#include "call/structure.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace isonorm {
namespace {

isonorm_status CheckSize(const UnlikeSize& unlike, const char* size_name) {
  if (unlike.size >= unlike.first && unlike.size <= kLargestSize && unlike.size % unlike.alignment == 0) return ISONORM_OK;
  return Fail(ISONORM_ERROR_STRUCT_SIZE, "%s is %zu, but must be a multiple of %zu from %zu to %zu; use sizeof(%s).", size_name,
              unlike.size, unlike.alignment, unlike.first, kLargestSize, unlike.structure);
}

// The first byte of [begin, end) that is not 0, or end.
size_t FirstSet(const void* of, size_t begin, size_t end) {
  const auto* const bytes = static_cast<const unsigned char*>(of);
  return static_cast<size_t>(std::find_if(bytes + begin, bytes + end, [](unsigned char byte) { return byte != 0; }) - bytes);
}

}  // namespace

isonorm_status TakeUnlike(const UnlikeSize& unlike, const void* from, void* to) {
  char size_name[64];
  std::snprintf(size_name, sizeof(size_name), "%s.struct_size", unlike.argument);
  const isonorm_status status = CheckSize(unlike, size_name);
  if (status != ISONORM_OK) return status;
  const size_t set = FirstSet(from, std::min(unlike.known, unlike.size), unlike.size);
  if (set < unlike.size) {
    return Fail(
        ISONORM_ERROR_STRUCT_SIZE,
        "%s.struct_size is %zu and byte %zu is not 0, but this version of the library knows only the first %zu bytes of "
        "%s; what lies behind them must be 0.",
        unlike.argument, unlike.size, set, unlike.known, unlike.structure);
  }
  std::memset(to, 0, unlike.known);
  std::memcpy(to, from, std::min(unlike.size, unlike.known));
  return ISONORM_OK;
}

isonorm_status GiveUnlike(const UnlikeSize& unlike, const void* from, void* to) {
  const isonorm_status status = CheckSize(unlike, "size");
  if (status != ISONORM_OK) return status;
  if (FirstSet(from, std::min(unlike.size, unlike.known), unlike.known) < unlike.known) {
    return Fail(ISONORM_ERROR_STRUCT_SIZE,
                "size is %zu, but %s needs fields of %s behind it; compile the program with a newer header.", unlike.size,
                unlike.argument, unlike.structure);
  }
  std::memset(to, 0, unlike.size);
  std::memcpy(to, from, std::min(unlike.size, unlike.known));
  return ISONORM_OK;
}

}  // namespace isonorm
