#include "common.h"

#include <algorithm>
#include <isonorm/thread_pool.hpp>

namespace isonorm_python {

void Check(isonorm_status status) {
  switch (status) {
    case ISONORM_OK: return;
    case ISONORM_ERROR_DTYPE:
    case ISONORM_ERROR_DEVICE: throw nb::type_error(isonorm_last_error());
    case ISONORM_ERROR_TARGET:
    case ISONORM_ERROR_EXECUTOR:
    case ISONORM_ERROR_SELF_TEST:
    case ISONORM_ERROR_INTERNAL:
    case ISONORM_ERROR_STRUCT_SIZE: throw std::runtime_error(isonorm_last_error());
    default: throw nb::value_error(isonorm_last_error());
  }
}

Threads::Threads(int threads) : parallel_(threads != 1) {
  if (!parallel_) return;
  executor_ = *isonorm::thread_pool::shared().executor();
  if (threads > 0) executor_.concurrency = std::min(executor_.concurrency, threads);
}

}  // namespace isonorm_python
