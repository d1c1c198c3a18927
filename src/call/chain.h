// Several calls in one, such as q and k: checked together, then run together.
#pragma once

#include <atomic>

#include "call/call.h"
#include "table/kernels.h"

namespace isonorm {

constexpr int kMaxChain = 4;

struct Chain {
  struct Part {
    Call call;
    Kernel kernel = nullptr;       // set by who runs the chain
    int tasks = 0;                 // with sums
    int64_t chunk = 0;             // rows; without sums
    std::atomic<int64_t> next{0};  // with sums
  };
  std::atomic<int64_t> next{0};  // chunk of all parts without sums
  int count = 0;
  Part parts[kMaxChain];
  size_t workspace_needed = 0;  // bytes
};

// Whether the structure, of any version, has another behind it.
bool HasAlso(const isonorm_forward_args* args);
bool HasAlso(const isonorm_backward_args* args);

// As MakeForward and MakeBackward, for all structures of the chain, and what holds between them. args: not null.
isonorm_status MakeForwardChain(const isonorm_contract* contract, double eps, const isonorm_forward_args* args, Chain* chain);
isonorm_status MakeBackwardChain(const isonorm_contract* contract, double eps, const isonorm_backward_args* args, bool measure,
                                 Chain* chain);

// All rows of all parts, with their sums, on the executor of the first.
void RunChain(Chain* chain);

}  // namespace isonorm
