// `apply`, last part: what was done, as a table for people or as JSON.
#pragma once

#include <vector>

#include "apply/options.h"
#include "apply/plan.h"
#include "apply/run.h"

namespace isonorm_cli {

void PrintJson(const std::vector<TensorResult>& results, const Plan& plan, const ApplyOptions& options);
void PrintTable(const std::vector<TensorResult>& results, const Plan& plan, const ApplyOptions& options);

}  // namespace isonorm_cli
