#include "call/chain.h"

#include <cstdio>

#include "call/error.h"
#include "call/structure.h"

namespace isonorm {
namespace {

constexpr const char* kPlaces[kMaxChain] = {"args", "args.also", "args.also->also", "args.also->also->also"};

template <class Args>
const Args* Next(const Args* args) {
  // Of a structure that will be refused for its size nothing else is read.
  const bool sized = args != nullptr && args->struct_size >= kFirstSize<Args> && args->struct_size <= kLargestSize;
  return sized ? args->also : nullptr;
}

// The message of a fault, with the place in the chain.
isonorm_status FailAt(const char* place, isonorm_status status) {
  char message[512];
  std::snprintf(message, sizeof(message), "%s", LastError());
  return Fail(status, "In %s: %s", place, message);
}

// What the first structure of a chain has for all.
template <class Args>
isonorm_status CheckServed(const Args& args) {
  const char* given = args.executor != nullptr                                ? "executor"
                      : args.stream != nullptr                                ? "stream"
                      : args.workspace != nullptr || args.workspace_size != 0 ? "workspace"
                                                                              : nullptr;
  if (given == nullptr) return ISONORM_OK;
  return Fail(ISONORM_ERROR_ARGUMENT, "%s is given, but must be null: that of args serves all structures.", given);
}

// make(args, builder) for every structure of the chain; then none may write where another reads or writes.
template <class Args, class Make>
isonorm_status MakeChain(const Args& args, ChainBuilder& builder, Make make) {
  Chain& chain = builder.chain();
  int place = 0;
  for (const Args* at = &args; at != nullptr; at = Next(at), ++place) {
    if (place == kMaxChain) {
      return Fail(ISONORM_ERROR_ARGUMENT, "args.also leads to more than %d structures, which are as many as a call takes.",
                  kMaxChain);
    }
    isonorm_status status = make(at, builder.of(place));
    if (status == ISONORM_OK && place > 0) status = CheckServed(*at);
    if (status != ISONORM_OK) return FailInChain(place, status);
    chain.count = place + 1;
  }
  for (int i = 0; i < chain.count; ++i) {
    for (int j = 0; j < i; ++j) {
      isonorm_status status = builder.of(i).CheckSameDevice(builder.of(j));
      if (status == ISONORM_OK) status = builder.of(i).CheckApartFrom(builder.of(j));
      if (status == ISONORM_OK) continue;
      char places[64];
      std::snprintf(places, sizeof(places), "%s and %s", kPlaces[j], kPlaces[i]);
      return FailAt(places, status);
    }
    chain.calls[i].executor = chain.calls[0].executor;
    chain.calls[i].stream = chain.calls[0].stream;
  }
  return ISONORM_OK;
}

}  // namespace

isonorm_status FailInChain(int call, isonorm_status status) { return FailAt(kPlaces[call], status); }

bool HasAlso(const isonorm_forward_args* args) { return Next(args) != nullptr; }
bool HasAlso(const isonorm_backward_args* args) { return Next(args) != nullptr; }

isonorm_status MakeForwardChain(const isonorm_contract* contract, double eps, const isonorm_forward_args* args,
                                ChainBuilder& builder) {
  return MakeChain(*args, builder, [&](const isonorm_forward_args* at, CallBuilder& of_call) {
    return MakeForward(contract, eps, at, of_call);
  });
}

isonorm_status MakeBackwardChain(const isonorm_contract* contract, double eps, const isonorm_backward_args* args,
                                 ChainBuilder& builder) {
  return MakeChain(*args, builder, [&](const isonorm_backward_args* at, CallBuilder& of_call) {
    return MakeBackward(contract, eps, at, of_call);
  });
}

isonorm_status ChainBuilder::CheckWorkspace(const size_t* needed, size_t total) {
  const Call& first = chain_->calls[0];
  const isonorm_status enough = CheckWorkspaceSize(first, total);
  if (enough != ISONORM_OK) return enough;
  for (int i = 0; i < chain_->count; ++i) {
    const isonorm_status apart = builders_[i].CheckApartFrom(first.workspace, first.workspace_size);
    if (apart != ISONORM_OK) return FailInChain(i, apart);
  }
  auto* workspace = static_cast<char*>(first.workspace);
  for (int i = 0; i < chain_->count; ++i) {
    chain_->calls[i].workspace = workspace;
    workspace += needed[i];
  }
  return ISONORM_OK;
}

}  // namespace isonorm
