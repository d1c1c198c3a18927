// The usual forward call, made in one straight line: x and y without gaps and at most a weight, rstd, and LayerNorm's bias and
// mean, so that a call for one short row does not spend more time on its arguments than on the row.
#pragma once

#include "call/call.h"

namespace isonorm {

// For a call that may not be made at all: nothing is cleared before it is known to be needed.
union CallRoom {
  CallRoom() {}
  Call call;
};

// True: `room` has become what MakeForward makes of these arguments, and nothing is wrong with them. False: something is wrong,
// or unusual, or merely not known here; `room` is as it was.
[[gnu::hot]] bool MakeUsualForward(const isonorm_contract* contract, double eps, const isonorm_forward_args* args,
                                   CallRoom* room);

}  // namespace isonorm
