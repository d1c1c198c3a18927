#include "call/chain.h"

#include <algorithm>
#include <cstdio>

#include "call/builder.h"
#include "call/error.h"
#include "call/structure.h"
#include "cpu/fp_guard.h"
#include "cpu/gradient_sums.h"
#include "cpu/run.h"

namespace isonorm {
namespace {

constexpr const char* kPlaces[kMaxChain] = {"args", "args.also", "args.also->also", "args.also->also->also"};

template <class Args>
const Args* Next(const Args* args) {
  return args != nullptr && args->struct_size >= kFirstSize<Args> ? args->also : nullptr;
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
                      : args.workspace != nullptr || args.workspace_size != 0 ? "workspace"
                                                                              : nullptr;
  if (given == nullptr) return ISONORM_OK;
  return Fail(ISONORM_ERROR_ARGUMENT, "%s is given, but must be null: that of args serves all structures.", given);
}

// make(part, builder, args) for every structure of the chain; then none may write where another reads or writes.
template <class Args, class Make>
isonorm_status MakeChain(const Args& args, Chain* chain, CallBuilder* builders[], Make make) {
  for (const Args* at = &args; at != nullptr; at = Next(at)) {
    const int i = chain->count;
    if (i == kMaxChain) {
      return Fail(ISONORM_ERROR_ARGUMENT, "args.also leads to more than %d structures, which are as many as a call takes.",
                  kMaxChain);
    }
    isonorm_status status = make(&chain->parts[i].call, builders[i], at);
    if (status == ISONORM_OK && i > 0) status = CheckServed(*at);
    if (status != ISONORM_OK) return FailAt(kPlaces[i], status);
    ++chain->count;
  }
  for (int i = 0; i < chain->count; ++i) {
    for (int j = 0; j < i; ++j) {
      const isonorm_status status = builders[i]->CheckApartFrom(*builders[j]);
      if (status == ISONORM_OK) continue;
      char places[64];
      std::snprintf(places, sizeof(places), "%s and %s", kPlaces[j], kPlaces[i]);
      return FailAt(places, status);
    }
    chain->parts[i].call.executor = chain->parts[0].call.executor;
  }
  return ISONORM_OK;
}

}  // namespace

bool HasAlso(const isonorm_forward_args* args) { return Next(args) != nullptr; }
bool HasAlso(const isonorm_backward_args* args) { return Next(args) != nullptr; }

isonorm_status MakeForwardChain(const isonorm_contract* contract, double eps, const isonorm_forward_args* args, Chain* chain) {
  CallBuilder a(&chain->parts[0].call), b(&chain->parts[1].call), c(&chain->parts[2].call), d(&chain->parts[3].call);
  CallBuilder* builders[kMaxChain] = {&a, &b, &c, &d};
  return MakeChain(*args, chain, builders, [&](Call* call, CallBuilder* builder, const isonorm_forward_args* at) {
    return MakeForwardBySteps(contract, eps, at, call, nullptr, builder);
  });
}

isonorm_status MakeBackwardChain(const isonorm_contract* contract, double eps, const isonorm_backward_args* args, bool measure,
                                 Chain* chain) {
  CallBuilder a(&chain->parts[0].call), b(&chain->parts[1].call), c(&chain->parts[2].call), d(&chain->parts[3].call);
  CallBuilder* builders[kMaxChain] = {&a, &b, &c, &d};
  const isonorm_status status =
      MakeChain(*args, chain, builders, [&](Call* call, CallBuilder* builder, const isonorm_backward_args* at) {
        return MakeBackward(contract, eps, at, true, call, nullptr, builder);
      });
  if (status != ISONORM_OK) return status;
  for (int i = 0; i < chain->count; ++i) {
    Call& call = chain->parts[i].call;
    size_t needed = 0;
    if (!GradientWorkspace(call, &needed) ||
        __builtin_add_overflow(chain->workspace_needed, needed, &chain->workspace_needed)) {
      return Fail(ISONORM_ERROR_OVERFLOW, "the workspace for dweight and dbias spans more bytes than can be counted.");
    }
    call.workspace_needed = needed;
  }
  if (measure || chain->workspace_needed == 0) return ISONORM_OK;
  const isonorm_status enough = CheckWorkspaceSize(args->workspace, args->workspace_size, chain->workspace_needed);
  if (enough != ISONORM_OK) return enough;
  auto* workspace = static_cast<char*>(args->workspace);
  for (int i = 0; i < chain->count; ++i) {
    const isonorm_status apart = builders[i]->CheckWorkspace(args->workspace, args->workspace_size);
    if (apart != ISONORM_OK) return FailAt(kPlaces[i], apart);
    chain->parts[i].call.workspace = workspace;
    workspace += chain->parts[i].call.workspace_needed;
  }
  return ISONORM_OK;
}

namespace {

bool WantsSums(const Call& call) { return call.dweight != nullptr || call.dbias != nullptr; }

// Bytes of all parts that a chunk moves: they stay in the second-level cache, where q leaves k beside it that was fetched too.
constexpr int64_t kChunkBytes = 256 << 10;

// Rows that belong together, such as the heads of a token.
int64_t UnitOf(const Call& call) {
  if (call.rope.on) return std::max<int64_t>(call.rope.rows_each, 1);
  return call.leading > 1 ? call.shape[call.leading - 1] : 1;
}

}  // namespace

void RunChain(Chain* chain) {
  const Call& first = chain->parts[0].call;
  int64_t tasks = 0, bytes = 0;
  for (int i = 0; i < chain->count; ++i) {
    Chain::Part& part = chain->parts[i];
    part.tasks = WantsSums(part.call) ? SumTasks(part.call) : TaskCount(part.call);
    tasks += part.tasks;
    bytes += std::min(RowBytes(part.call), int64_t{INT64_MAX / (2 * kMaxChain)});
  }
  // What is too small for two tasks by itself leaves them to the others.
  tasks = std::min<int64_t>(tasks - (chain->count - 1), first.concurrency());
  const int64_t chunks = std::max(bytes / kChunkBytes, tasks == 1 ? 1 : 8 * tasks);
  for (int i = 0; i < chain->count; ++i) {
    Chain::Part& part = chain->parts[i];
    part.call.bytes_beside = bytes - std::min(RowBytes(part.call), bytes);
    const int64_t unit = UnitOf(part.call), units = (part.call.rows + unit - 1) / unit;
    part.chunk = std::max<int64_t>((units + chunks - 1) / chunks, 1) * unit;
  }
  const auto run = [](void* context, int64_t task) {
    Chain& all = *static_cast<Chain*>(context);
    const FpGuard guard;
    for (bool more = true; more;) {
      more = false;
      const int64_t chunk = all.next.fetch_add(1, std::memory_order_relaxed);
      for (int i = 0; i < all.count; ++i) {
        const Chain::Part& part = all.parts[i];
        if (WantsSums(part.call) || chunk > part.call.rows / part.chunk) continue;
        const int64_t begin = chunk * part.chunk, end = std::min(begin + part.chunk, part.call.rows);
        if (begin >= end) continue;
        RunRows(part.call, part.kernel, begin, end, ColumnSums{});
        more = true;
      }
    }
    for (int i = 0; i < all.count; ++i) {
      Chain::Part& part = all.parts[i];
      if (WantsSums(part.call) && task < part.tasks) RunSumTask(part.call, part.kernel, task, &part.next);
    }
  };
  RunTasks(first, static_cast<int>(tasks), run, chain);
  for (int i = 0; i < chain->count; ++i) {
    if (WantsSums(chain->parts[i].call)) StoreSums(chain->parts[i].call, chain->parts[i].kernel);
  }
}

}  // namespace isonorm
