// Rows shared by several ranks and gradients of rows computed apart, in C++20: parallel.h with views and exceptions.
//
//   isonorm::shard shard = {.ranks = 4, .partial = {partial, rows, 1}, .gathered = {gathered, {4, rows, 1}},
//                           .statistic = {statistic, rows, 4}};
//   isonorm::forward(contract, eps, {.x = ..., .y = ...}, shard, [&] { all_gather(partial, gathered); });
//   isonorm::backward(contract, eps, {.dy = ..., .x = ..., .dx = ...}, shard, [&] { all_gather(partial, gathered); });
//
// isonorm.hpp includes this header. Shapes, errors and what is exchanged are described in parallel.h and docs/parallel.md.
#pragma once

#include <isonorm/isonorm.hpp>
#include <isonorm/parallel.h>

namespace isonorm {

// ------------------------------------------------------------------------------------------------- tensor parallel: shards

// As isonorm_shard, all of the compute type; values is 1 for RMS and 2 for LayerNorm.
struct shard {
  std::int64_t ranks = 1;
  tensor partial = {};         // [rows, values], written by ..._partial
  const_tensor gathered = {};  // [ranks, rows, values], read by ..._finish
  tensor statistic = {};       // [rows, 4], the same on all ranks; backward needs it as forward left it
};

// The most ranks among which rows of so many columns can be split; every smaller power of two will do too.
[[nodiscard]] inline std::int64_t max_ranks(std::int64_t cols) { return isonorm_max_ranks(cols); }

namespace detail {
struct c_shard {
  explicit c_shard(const isonorm::shard& from)
      : shard{sizeof(shard), from.ranks, tensors(from.partial), tensors(from.gathered), tensors(from.statistic)} {}
  c_tensors<3> tensors;
  isonorm_shard shard;
};
}  // namespace detail

// What this rank sends in a round: writes shard.partial.
inline void forward_partial(const contract& what, double eps, const forward_args& args, const shard& shard,
                            std::int32_t round) {
  const isonorm_contract c = to_c(what);
  const detail::c_args<forward_args> call(args);
  const detail::c_shard of(shard);
  detail::check(isonorm_forward_partial(&c, eps, &call.args, &of.shard, round));
}

// What comes after shard.gathered has arrived: 0 if the outputs are written, else the next round.
[[nodiscard]] inline std::int32_t forward_finish(const contract& what, double eps, const forward_args& args, const shard& shard,
                                                 std::int32_t round) {
  const isonorm_contract c = to_c(what);
  const detail::c_args<forward_args> call(args);
  const detail::c_shard of(shard);
  detail::check(isonorm_forward_finish(&c, eps, &call.args, &of.shard, &round));
  return round;
}

// The whole forward pass of this rank; all_gather() makes shard.gathered of all ranks' shard.partial.
template <class AllGather>
void forward(const contract& what, double eps, const forward_args& args, const shard& shard, AllGather all_gather) {
  std::int32_t round = 0;
  do {
    forward_partial(what, eps, args, shard, round);
    all_gather();
    round = forward_finish(what, eps, args, shard, round);
  } while (round != 0);
}

inline void backward_partial(const contract& what, double eps, const backward_args& args, const shard& shard) {
  const isonorm_contract c = to_c(what);
  const detail::c_args<backward_args> call(args);
  const detail::c_shard of(shard);
  detail::check(isonorm_backward_partial(&c, eps, &call.args, &of.shard));
}

// Without `args.workspace` the call allocates what it needs.
inline void backward_finish(const contract& what, double eps, const backward_args& args, const shard& shard) {
  const isonorm_contract c = to_c(what);
  detail::c_args<backward_args> call(args);
  const detail::c_shard of(shard);
  const auto workspace = detail::provide_workspace(c, eps, call.args);
  detail::check(isonorm_backward_finish(&c, eps, &call.args, &of.shard));
}

// The whole backward pass of this rank.
template <class AllGather>
void backward(const contract& what, double eps, const backward_args& args, const shard& shard, AllGather all_gather) {
  backward_partial(what, eps, args, shard);
  all_gather();
  backward_finish(what, eps, args, shard);
}

// ------------------------------------------------------------------------------------------------ data parallel: parts of rows

// As isonorm_combine_args: parts [parts, cols] of runs of part_rows rows, the last of which may be shorter.
struct combine_args {
  const_tensor parts = {};
  tensor gradient = {};
  std::int64_t rows = 0;
  std::int64_t part_rows = 0;
  bool accumulate = false;
  void* stream = nullptr;
  const isonorm_executor* executor = nullptr;
};

// dweight or dbias as one call over all rows would have written it.
inline void combine_gradients(const combine_args& args) {
  detail::c_tensors<2> tensors;
  const isonorm_combine_args c = {sizeof(c), tensors(args.parts), tensors(args.gradient),
                                  args.rows, args.part_rows,      args.accumulate ? std::uint32_t{ISONORM_ACCUMULATE} : 0u,
                                  0u,        args.stream,         args.executor};
  detail::check(isonorm_combine_gradients(&c));
}

}  // namespace isonorm
