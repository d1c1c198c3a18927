// `apply`, second half: streams the rows from the input through the library to the output, in bounded memory.
#pragma once

#include <isonorm/isonorm.hpp>

#include <cstdint>
#include <string>
#include <vector>

#include "apply/plan.h"
#include "fnv.h"
#include "progress.h"
#include "quantized_stats.h"
#include "tensor_stats.h"
#include "verbs.h"

namespace isonorm_cli {

struct TensorResult {
  const Job* job = nullptr;
  TensorStats before, after;  // after: of value times scale where y is quantised
  QuantizedStats quantized;
  TensorStats residual_out;
  Fnv digest, scale_digest, residual_digest;  // of the outputs' bytes, if they were asked for
  double seconds = 0;                         // reading, normalising, counting and writing
  double normalise_seconds = 0;               // in the library alone
  std::int64_t bytes = 0;                     // read and written by the library, without weights
  std::string kernel;
};

// Writes the whole output file and gives it its name. Throws Failure; then nothing is left behind.
std::vector<TensorResult> RunPlan(const Plan& plan, const ApplyOptions& options, const Context& context);

}  // namespace isonorm_cli
