// Judges what the library made of a golden case by the oracle of golden_norm.h.
#pragma once

#include <string>

#include "golden/run.h"

namespace isonorm_test {

struct Judgement {
  int64_t outputs = 0, values = 0;  // judged
  int64_t open = 0;                 // values of which the oracle cannot say anything: on the way to them F may overflow
  int64_t quantised = 0, ties = 0;  // bytes, and those that may be either of two neighbours
  std::string wrong;                // the first value that is not within its bounds; "" if all are
};

// `produced` is what the library made of the case.
Judgement Judge(const isonorm_cli::GoldenCase& golden, const isonorm_cli::Produced& produced);

}  // namespace isonorm_test
