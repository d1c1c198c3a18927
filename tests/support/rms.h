// The vector functions with their arguments in a row.
#pragma once

#include "isonorm/isonorm.h"

namespace isonorm_test {

inline isonorm_status Rms(const isonorm_tensor* x, const isonorm_tensor* rms, const isonorm_executor* executor = nullptr) {
  const isonorm_rms_args args = {sizeof(args), x, rms, nullptr, executor};
  return isonorm_rms(&args);
}

inline isonorm_status RmsBackward(const isonorm_tensor* x, const isonorm_tensor* drms, const isonorm_tensor* dx,
                                  const isonorm_executor* executor = nullptr) {
  const isonorm_rms_backward_args args = {sizeof(args), x, drms, dx, nullptr, executor};
  return isonorm_rms_backward(&args);
}

inline isonorm_status RmsPenalty(const isonorm_tensor* x, double lambda, const isonorm_tensor* penalty,
                                 const isonorm_tensor* dx, uint32_t flags = 0, const isonorm_executor* executor = nullptr) {
  const isonorm_rms_penalty_args args = {sizeof(args), x, penalty, dx, lambda, flags, 0, nullptr, executor};
  return isonorm_rms_penalty(&args);
}

}  // namespace isonorm_test
