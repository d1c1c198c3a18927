// Gradients of runs of rows that were computed apart, combined in the tree of docs/numerics.md §4.
#pragma once

#include "isonorm/isonorm.h"

namespace isonorm {

isonorm_status CombineGradients(const isonorm_combine_args* args);

}  // namespace isonorm
