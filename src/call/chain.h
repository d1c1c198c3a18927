// Several calls in one, such as q and k, checked together.
#pragma once

#include "call/builder.h"
#include "call/call.h"

namespace isonorm {

constexpr int kMaxChain = 4;

struct Chain {
  int count = 0;
  Call calls[kMaxChain];
};

// The builders of a chain's calls.
class ChainBuilder {
 public:
  explicit ChainBuilder(Chain* chain) : chain_(chain) {}

  // As CallBuilder::CheckWorkspace; `needed` has an entry for each call, which gets its share of the first's workspace.
  isonorm_status CheckWorkspace(const size_t* needed, size_t total);

  Chain& chain() { return *chain_; }
  const char* name() const { return builders_[0].name(); }
  isonorm_device device() const { return builders_[0].device(); }
  CallBuilder& of(int call) { return builders_[call]; }

 private:
  Chain* chain_;
  CallBuilder builders_[kMaxChain] = {CallBuilder(&chain_->calls[0]), CallBuilder(&chain_->calls[1]),
                                      CallBuilder(&chain_->calls[2]), CallBuilder(&chain_->calls[3])};
};

// The message of a fault of one of the calls, with its place in the chain.
isonorm_status FailInChain(int call, isonorm_status status);

// Whether the structure, of any version, has another behind it.
bool HasAlso(const isonorm_forward_args* args);
bool HasAlso(const isonorm_backward_args* args);

// As MakeForward and MakeBackward, for all structures of the chain, and what holds between them. args: not null.
isonorm_status MakeForwardChain(const isonorm_contract* contract, double eps, const isonorm_forward_args* args,
                                ChainBuilder& builder);
isonorm_status MakeBackwardChain(const isonorm_contract* contract, double eps, const isonorm_backward_args* args,
                                 ChainBuilder& builder);

}  // namespace isonorm
