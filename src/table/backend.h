// Who computes. A backend is chosen by the device on which the tensors of a call lie; it is handed checked calls.
#pragma once

#include <cstddef>

#include "call/call.h"
#include "call/chain.h"
#include "numbers/shard.h"
#include "table/kernels.h"

namespace isonorm {

// Whatever a call holds is right, but for what only the data can tell: a static scale, positions in a table. A backend looks at
// data when it runs a call, and not before.
class Backend {
 public:
  virtual const char* name() const = 0;

  // The row of the table that is run for the call; kKernels if there is none.
  virtual int Choose(Operation operation, const Call& call) const = 0;

  // Bytes that the call needs beside its tensors; false where size_t cannot count them.
  virtual bool Workspace(Operation operation, const Call& call, size_t* bytes) const = 0;

  // All rows, with their sums over rows. *kernel is what ran. Unless ISONORM_OK is returned, nothing was written, but where an
  // executor broke its promise.
  virtual isonorm_status Run(Operation operation, Call& call, int* kernel) const = 0;

  // The same for several calls that run together, on the executor of the first; *kernel is of the first.
  virtual isonorm_status RunChain(Operation operation, Chain& chain, int* kernel) const = 0;

  // Forward of one rank of several, whose sums were gathered: either *next is what to exchange next, or the rows are complete
  // and run.
  virtual isonorm_status FinishForward(Call& call, Round* next, bool* complete, int* kernel) const = 0;

  // Gradients of runs of rows that were computed apart: the rows of x, added up in the tree of docs/numerics.md §4, go to
  // dweight.
  virtual isonorm_status Combine(const Call& call) const = 0;

 protected:
  ~Backend() = default;  // nobody owns one
};

}  // namespace isonorm
