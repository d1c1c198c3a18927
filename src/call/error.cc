#include "call/error.h"

#include <cstdarg>
#include <cstdio>

namespace isonorm {
namespace {

thread_local char last_error[512] = "";

}  // namespace

// In brackets: not the macro of error.h.
isonorm_status(Fail)(isonorm_status status, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(last_error, sizeof(last_error), format, arguments);
  va_end(arguments);
  return status;
}

const char* LastError() { return last_error; }

}  // namespace isonorm
