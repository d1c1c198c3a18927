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
  std::int64_t ranks;
  std::optional<tensor> partial = {};         // [rows, values], written by ..._partial
  std::optional<const_tensor> gathered = {};  // [ranks, rows, values], read by ..._finish
  tensor statistic;                           // [rows, 4], the same on all ranks; backward needs it as forward left it
};

// The most ranks among which rows of so many columns can be split; every smaller power of two will do too.
inline std::int64_t max_ranks(std::int64_t cols) { return isonorm_max_ranks(cols); }

namespace detail {
template <class Use>
void with_c(const shard& ranks, Use use) {
  const c_optional partial(ranks.partial), gathered(ranks.gathered), statistic(ranks.statistic);
  use(isonorm_shard{sizeof(isonorm_shard), ranks.ranks, partial, gathered, statistic});
}
}  // namespace detail

// What this rank sends in a round: writes shard.partial.
inline void forward_partial(const isonorm_contract& contract, double eps, const forward_args& args, const shard& shard,
                            std::int32_t round, const isonorm_executor* executor = shared_executor()) {
  detail::with_c(args, executor, [&](const isonorm_forward_args& c) {
    detail::with_c(shard,
                   [&](const isonorm_shard& s) { detail::check(isonorm_forward_partial(&contract, eps, &c, &s, round)); });
  });
}

// What comes after shard.gathered has arrived: 0 if the outputs are written, else the next round.
inline std::int32_t forward_finish(const isonorm_contract& contract, double eps, const forward_args& args, const shard& shard,
                                   std::int32_t round, const isonorm_executor* executor = shared_executor()) {
  detail::with_c(args, executor, [&](const isonorm_forward_args& c) {
    detail::with_c(shard,
                   [&](const isonorm_shard& s) { detail::check(isonorm_forward_finish(&contract, eps, &c, &s, &round)); });
  });
  return round;
}

// The whole forward pass of this rank; all_gather() makes shard.gathered of all ranks' shard.partial.
template <class AllGather>
void forward(const isonorm_contract& contract, double eps, const forward_args& args, const shard& shard, AllGather all_gather,
             const isonorm_executor* executor = shared_executor()) {
  std::int32_t round = 0;
  do {
    forward_partial(contract, eps, args, shard, round, executor);
    all_gather();
    round = forward_finish(contract, eps, args, shard, round, executor);
  } while (round != 0);
}

inline void backward_partial(const isonorm_contract& contract, double eps, const backward_args& args, const shard& shard,
                             const isonorm_executor* executor = shared_executor()) {
  detail::with_c(args, executor, [&](const isonorm_backward_args& c) {
    detail::with_c(shard, [&](const isonorm_shard& s) { detail::check(isonorm_backward_partial(&contract, eps, &c, &s)); });
  });
}

// Without `args.workspace` the call allocates what it needs.
inline void backward_finish(const isonorm_contract& contract, double eps, const backward_args& args, const shard& shard,
                            const isonorm_executor* executor = shared_executor()) {
  detail::with_workspace(contract, eps, args, executor, [&](const isonorm_backward_args& c) {
    detail::with_c(shard, [&](const isonorm_shard& s) { detail::check(isonorm_backward_finish(&contract, eps, &c, &s)); });
  });
}

// The whole backward pass of this rank.
template <class AllGather>
void backward(const isonorm_contract& contract, double eps, const backward_args& args, const shard& shard, AllGather all_gather,
              const isonorm_executor* executor = shared_executor()) {
  backward_partial(contract, eps, args, shard, executor);
  all_gather();
  backward_finish(contract, eps, args, shard, executor);
}

// ------------------------------------------------------------------------------------------------ data parallel: parts of rows

// As isonorm_combine_args: parts [parts, cols] of runs of part_rows rows, the last of which may be shorter.
struct combine_args {
  const_tensor parts;
  tensor gradient;
  std::int64_t rows;
  std::int64_t part_rows;
  bool accumulate = false;
};

// dweight or dbias as one call over all rows would have written it.
inline void combine_gradients(const combine_args& args, const isonorm_executor* executor = shared_executor()) {
  const isonorm_tensor parts = args.parts.c_tensor(), gradient = args.gradient.c_tensor();
  const isonorm_combine_args c = {sizeof(isonorm_combine_args),
                                  &parts,
                                  &gradient,
                                  args.rows,
                                  args.part_rows,
                                  args.accumulate ? std::uint32_t{ISONORM_ACCUMULATE} : 0u,
                                  0u,
                                  nullptr,
                                  executor};
  detail::check(isonorm_combine_gradients(&c));
}

}  // namespace isonorm
