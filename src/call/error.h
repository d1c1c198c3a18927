// The message behind a status. A failing function writes one sentence into storage of the calling thread and returns the
// status, so that nothing is allocated and no thread sees another's message.
#pragma once

#include "isonorm/isonorm.h"

namespace isonorm {

// printf's format; the sentence is cut at the end of the storage.
[[gnu::cold, gnu::format(printf, 2, 3)]] isonorm_status Fail(isonorm_status status, const char* format, ...);

#if defined(__clang_analyzer__)
#define Fail(status, ...) (Fail(status, __VA_ARGS__), status)  // it does not see by itself what Fail returns
#endif

const char* LastError();

}  // namespace isonorm
