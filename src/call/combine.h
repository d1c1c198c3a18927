// The check of isonorm_combine_gradients.
#pragma once

#include "call/builder.h"
#include "isonorm/isonorm.h"

namespace isonorm {

// A Call whose rows are the parts, as x, and whose dweight is the gradient.
isonorm_status MakeCombine(const isonorm_combine_args* args, CallBuilder& builder);

}  // namespace isonorm
