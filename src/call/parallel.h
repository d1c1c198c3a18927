// The checks of calls whose rows are shared by several ranks: what isonorm_shard adds to forward and backward.
#pragma once

#include "call/builder.h"
#include "isonorm/isonorm.h"
#include "numbers/shard.h"

namespace isonorm {

// The C structure, which of its tensors this call uses, and where they go.
struct ShardTensors {
  const isonorm_shard* args;
  bool finish;    // reads `gathered`; otherwise writes `partial`
  int32_t round;  // of forward, as the C ABI counts
  Shard* shard;
};

// Checks the split and adds the shard's tensors to a call that is otherwise complete. `window` is that of the arguments.
isonorm_status AddShard(const ShardTensors& tensors, int64_t window, CallBuilder& builder, Call* call);

// The C ABI counts rounds from 0; RMS leaves out those of the mean.
int32_t NumberOf(Round round, const Norm& norm);

}  // namespace isonorm
