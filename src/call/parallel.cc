#include "call/parallel.h"

#include <algorithm>
#include <cinttypes>
#include <span>

#include "call/error.h"
#include "call/structure.h"

namespace isonorm {
namespace {

constexpr Round kOfRms[] = {Round::kSquares, Round::kLargest, Round::kScaledSquares};
constexpr Round kOfLayer[] = {Round::kMean, Round::kSquares, Round::kLargest, Round::kScaledMean, Round::kScaledSquares};

std::span<const Round> RoundsOf(const Norm& norm) { return norm.centres() ? std::span<const Round>(kOfLayer) : kOfRms; }

isonorm_status SetRound(int32_t number, const Call& call, Shard* shard) {
  const std::span<const Round> rounds = RoundsOf(call.norm);
  const auto count = static_cast<int32_t>(rounds.size());
  if (number < 0 || number >= count) {
    return Fail(ISONORM_ERROR_ARGUMENT,
                "round is %" PRId32 ", but must be 0 at first, and then what finish says (%" PRId32 " at most).", number,
                count - 1);
  }
  shard->round = rounds[static_cast<size_t>(number)];
  return ISONORM_OK;
}

// Every rank must have whole leaves of the row's one group.
isonorm_status SetRanks(int64_t ranks, int64_t window, Call* call) {
  if (call->groups != 1) {
    return Fail(ISONORM_ERROR_GROUPS,
                "groups is %" PRId64
                ", but must be 0 or 1 in a shard: groups that lie whole on a rank need no exchange, and a "
                "group of several ranks is a row of its own.",
                call->groups);
  }
  if (window != 0) {
    return Fail(ISONORM_ERROR_WINDOW,
                "window is %" PRId64 ", but must be 0 in a shard: the leaves of a window are not the ranks'.", window);
  }
  int64_t full = 0;
  if (ranks < 1 || __builtin_mul_overflow(call->cols, ranks, &full)) {
    return Fail(ISONORM_ERROR_SPLIT,
                "shard.ranks is %" PRId64
                ", but must be a power of two from 1 on, and the columns of all "
                "ranks must fit in int64_t.",
                ranks);
  }
  const int64_t most = MaxRanks(full);
  if ((ranks & (ranks - 1)) != 0 || ranks > most) {
    return Fail(ISONORM_ERROR_SPLIT,
                "shard.ranks is %" PRId64 ", but must be a power of two from 1 to %" PRId64 " for rows of %" PRId64
                " columns (%" PRId64 " on each rank).",
                ranks, most, full, call->cols);
  }
  if (call->quantizer.per_row && ranks > 1) {
    return Fail(
        ISONORM_ERROR_SPLIT,
        "quantization.group_cols is 0, but must be 32, 64 or 128 in a shard: the largest value of a row is not on one rank.");
  }
  call->ranks = ranks;
  call->norm.count *= ranks;
  return ISONORM_OK;
}

int64_t Bytes(const View& view, int dimension) { return view.strides[dimension] << Log2SizeOf(view.type); }

}  // namespace

int32_t NumberOf(Round round, const Norm& norm) {
  const std::span<const Round> rounds = RoundsOf(norm);
  return static_cast<int32_t>(std::find(rounds.begin(), rounds.end(), round) - rounds.begin());
}

isonorm_status AddShard(const ShardTensors& tensors, int64_t window, CallBuilder& builder, Call* call) {
  Shard* shard = tensors.shard;
  isonorm_shard args = {};
  isonorm_status status = TakeStructure(tensors.args, "shard", "isonorm_shard", &args);
  if (status == ISONORM_OK) status = SetRanks(args.ranks, window, call);
  if (status == ISONORM_OK && !call->backward) status = SetRound(tensors.round, *call, shard);
  if (status != ISONORM_OK) return status;
  if (call->rope.on) {
    return Fail(ISONORM_ERROR_ARGUMENT,
                "rope is given, but must be null where ranks share the rows: heads are whole on one rank.");
  }
  for (const RowTensor saved : {kRstd, kMean}) {
    if (!call->backward || call->type[saved] == Type::kNone) continue;
    return Fail(ISONORM_ERROR_ARGUMENT, "%s is given together with a shard, but shard.statistic takes its place.",
                saved == kRstd ? "rstd" : "mean");
  }
  shard->ranks = call->ranks;
  shard->values = call->norm.centres() ? 2 : 1;
  const int64_t values = shard->values;
  const View* view = nullptr;
  status = builder.AddExact("shard.statistic", args.statistic, !call->backward, {call->rows, 4}, &view);
  if (status != ISONORM_OK) return status;
  shard->statistic = view->data;
  shard->statistic_stride = Bytes(*view, 0);
  if (!tensors.finish) {
    status = builder.AddExact("shard.partial", args.partial, true, {call->rows, values}, &view);
    if (status != ISONORM_OK) return status;
    shard->partial = view->data;
    shard->partial_stride = Bytes(*view, 0);
  } else if (args.gathered != nullptr || !call->backward || call->type[kDx] != Type::kNone ||
             call->type[kDgate] != Type::kNone) {
    status = builder.AddExact("shard.gathered", args.gathered, false, {call->ranks, call->rows, values}, &view);
    if (status != ISONORM_OK) return status;
    shard->gathered = view->data;
    shard->gathered_rank_stride = Bytes(*view, 0);
    shard->gathered_row_stride = Bytes(*view, 1);
  }
  call->shard = shard;
  return ISONORM_OK;
}

}  // namespace isonorm
