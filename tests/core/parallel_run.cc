#include "parallel_run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

namespace core_test {
namespace {

bool IsOutput(const Problem& problem, Slot slot) {
  if (slot == kResidualOut || problem.is_statistic(slot)) return !IsBackward(problem);
  if (slot == kScale) return !problem.has_static_scale();
  return slot >= kY;
}

struct Tensor {
  isonorm_tensor tensor = {};
  std::vector<int64_t> shape, strides;

  Tensor(void* data, Type type, std::vector<int64_t> sizes, std::vector<int64_t> steps)
      : shape(std::move(sizes)), strides(std::move(steps)) {
    const auto ndim = static_cast<int32_t>(shape.size());
    tensor = {data, {ISONORM_DEVICE_CPU, 0}, ndim, isonorm_cli::DtypeOf(type), shape.data(), strides.data(), 0};
  }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
};

// All tensors of all ranks.
class World {
 public:
  World(const Problem& problem, const Values& inputs, const ParallelHow& how) : problem_(problem), how_(how) {
    for (int i = 0; i < kSlots; ++i) {
      home_[i] = i;
      for (const auto& [output, input] : how.in_place) home_[i] = i == output ? input : home_[i];
    }
    for (int i = 0; i < kSlots; ++i) {
      const Slot slot = static_cast<Slot>(i);
      if (!problem.has(slot) || problem.is_statistic(slot)) continue;
      const int64_t elements =
          problem.is_vector(slot) ? problem.cols : problem.rows * Pitch(slot) * (how.slices ? 1 : how.ranks);
      memory_[i].assign(static_cast<size_t>(elements) * SizeOf(problem.type[slot]) + 1 + how.unaligned, 0xAB);
      if (!IsOutput(problem, slot)) Move(slot, const_cast<Bytes*>(&inputs[slot]), true);
    }
    const Type compute = problem.compute();
    const int64_t values = problem.contract.statistic == ISONORM_STATISTIC_LAYER ? 2 : 1;
    exchange_.assign(static_cast<size_t>(2 * how.ranks * problem.rows * values) * SizeOf(compute) + 1 + how.unaligned, 0xCD);
    for (int64_t rank = 0; rank < how.ranks; ++rank) {
      ranks_.push_back(std::make_unique<Rank>());
      Rank& r = *ranks_.back();
      for (int i = 0; i < kSlots; ++i) r.tensor[i] = Make(static_cast<Slot>(i), rank, r);
      r.statistic_bytes.assign(static_cast<size_t>(4 * problem.rows) * SizeOf(compute) + 1 + how.unaligned, 0xEF);
      const size_t part = static_cast<size_t>(problem.rows * values) * SizeOf(compute);
      uint8_t* const exchange = exchange_.data() + how.unaligned;
      uint8_t* const all = exchange + static_cast<size_t>(how.ranks) * part;
      partial_bytes_ = part;
      const int64_t at = how.rotate_gathered ? (rank + 1) % how.ranks : rank;
      uint8_t* const own = (how.gather_in_place ? all : exchange) + static_cast<size_t>(at) * part;
      r.partial = std::make_unique<Tensor>(own, compute, std::vector{problem.rows, values}, std::vector{values, int64_t{1}});
      r.gathered = std::make_unique<Tensor>(all, compute, std::vector{how.ranks, problem.rows, values},
                                            std::vector{problem.rows * values, values, int64_t{1}});
      r.statistic = std::make_unique<Tensor>(r.statistic_bytes.data() + how.unaligned, compute,
                                             std::vector{problem.rows, int64_t{4}}, std::vector{int64_t{4}, int64_t{1}});
      r.shard = {sizeof(isonorm_shard), how.ranks, &r.partial->tensor, &r.gathered->tensor, &r.statistic->tensor};
    }
  }

  isonorm_status Forward(int64_t rank, bool finish, int32_t* round) {
    Rank& r = *ranks_[static_cast<size_t>(rank)];
    isonorm_forward_args args = {};
    args.struct_size = sizeof(args);
    args.x = r.at(kX);
    args.weight = r.at(kWeight);
    args.bias = r.at(kBias);
    args.residual = r.at(kResidual);
    args.gate = r.at(kGate);
    args.y = r.at(kY);
    args.residual_out = r.at(kResidualOut);
    args.mean = r.at(kMean);
    args.rstd = r.at(kRstd);
    args.executor = how_.executor;
    args.quantization = problem_.quantizes() ? &problem_.quantization : nullptr;
    args.scale = r.at(kScale);
    return finish ? isonorm_forward_finish(&problem_.contract, problem_.eps, &args, &r.shard, round)
                  : isonorm_forward_partial(&problem_.contract, problem_.eps, &args, &r.shard, *round);
  }

  isonorm_status Backward(int64_t rank, bool finish) {
    Rank& r = *ranks_[static_cast<size_t>(rank)];
    isonorm_backward_args args = {};
    args.struct_size = sizeof(args);
    args.dy = r.at(kDy);
    args.x = r.at(kX);
    args.weight = r.at(kWeight);
    args.residual = r.at(kResidual);
    args.residual_out = r.at(kResidualOut);
    args.gate = r.at(kGate);
    args.bias = r.at(kBias);
    args.dresidual = r.at(kDresidual);
    args.dx = r.at(kDx);
    args.dweight = r.at(kDweight);
    args.dbias = r.at(kDbias);
    args.dgate = r.at(kDgate);
    args.executor = how_.executor;
    if (!finish) return isonorm_backward_partial(&problem_.contract, problem_.eps, &args, &r.shard);
    isonorm_shard shard = r.shard;
    if (args.dx == nullptr && args.dgate == nullptr) shard.gathered = nullptr;  // nothing that is wanted needs it
    const isonorm_status status = isonorm_backward_workspace(&problem_.contract, problem_.eps, &args, &args.workspace_size);
    if (status != ISONORM_OK) return status;
    Bytes workspace(args.workspace_size, 0xFF);
    args.workspace = workspace.data();
    return isonorm_backward_finish(&problem_.contract, problem_.eps, &args, &shard);
  }

  // What an all-gather does; with gather_in_place partial sums are where they belong.
  void Gather(Bytes* exchanged) {
    const size_t all = static_cast<size_t>(how_.ranks) * partial_bytes_;
    uint8_t* const exchange = exchange_.data() + how_.unaligned;
    if (!how_.gather_in_place) std::memcpy(exchange + all, exchange, all);
    const uint8_t* const gathered = exchange + all;
    exchanged->insert(exchanged->end(), gathered, gathered + all);
  }

  Bytes& statistic(int64_t rank) { return ranks_[static_cast<size_t>(rank)]->statistic_bytes; }
  void SetStatistics(const Bytes& bytes) {
    for (auto& rank : ranks_) std::copy(bytes.begin(), bytes.end(), rank->statistic_bytes.begin());
  }

  Values Outputs() {
    Values outputs;
    for (int i = 0; i < kSlots; ++i) {
      const Slot slot = static_cast<Slot>(i);
      if (!problem_.has(slot) || !IsOutput(problem_, slot)) continue;
      if (problem_.is_statistic(slot)) {
        const Bytes& first = ranks_[0]->of_rows[slot];
        outputs[slot].assign(first.begin() + static_cast<std::ptrdiff_t>(how_.unaligned), first.end());
        for (const auto& rank : ranks_) EXPECT_TRUE(rank->of_rows[slot] == first) << "ranks have their own " << NameOf(slot);
        continue;
      }
      outputs[slot].resize(static_cast<size_t>(problem_.rows_of(slot) * problem_.cols_of(slot)) * SizeOf(problem_.type[slot]));
      Move(slot, &outputs[slot], false);
    }
    return outputs;
  }

 private:
  struct Rank {
    std::array<std::unique_ptr<Tensor>, kSlots> tensor;
    std::unique_ptr<Tensor> partial, gathered, statistic;
    Values of_rows;  // rstd and mean
    Bytes statistic_bytes;
    isonorm_shard shard = {};
    const isonorm_tensor* at(Slot slot) const { return tensor[slot] == nullptr ? nullptr : &tensor[slot]->tensor; }
  };

  // A static scale is one value, the same for all.
  int64_t OwnCols(Slot slot) const {
    return slot == kScale && problem_.has_static_scale() ? 1 : problem_.cols_of(slot) / how_.ranks;
  }
  int64_t Pitch(Slot slot) const { return OwnCols(slot) * (how_.slices ? how_.ranks : 1) + how_.padding; }

  // Where a rank's columns of a row begin, in bytes.
  size_t Offset(Slot slot, int64_t row, int64_t rank) const {
    if (slot == kScale && problem_.has_static_scale()) return how_.unaligned;
    const int64_t at = problem_.is_vector(slot) ? rank * OwnCols(slot)
                       : how_.slices            ? row * Pitch(slot) + rank * OwnCols(slot)
                                                : (rank * problem_.rows + row) * Pitch(slot);
    return static_cast<size_t>(at) * SizeOf(problem_.type[slot]) + how_.unaligned;
  }

  // Whole rows into the ranks' memory, or back.
  void Move(Slot slot, Bytes* whole, bool in) {
    const size_t bytes = static_cast<size_t>(OwnCols(slot)) * SizeOf(problem_.type[slot]);
    if (slot == kScale && problem_.has_static_scale()) {
      return void(std::memcpy(memory_[kScale].data() + how_.unaligned, whole->data(), bytes));
    }
    uint8_t* from = whole->data();
    for (int64_t row = 0; row < problem_.rows_of(slot); ++row) {
      for (int64_t rank = 0; rank < how_.ranks; ++rank, from += bytes) {
        uint8_t* const own = memory_[static_cast<size_t>(home_[slot])].data() + Offset(slot, row, rank);
        in ? std::memcpy(own, from, bytes) : std::memcpy(from, own, bytes);
      }
    }
  }

  std::unique_ptr<Tensor> Make(Slot slot, int64_t rank, Rank& owner) {
    if (!problem_.has(slot)) return nullptr;
    std::vector<int64_t> shape = problem_.is_vector(slot) ? std::vector<int64_t>()
                                 : how_.lead.empty()      ? std::vector<int64_t>{problem_.rows}
                                                          : how_.lead;
    std::vector<int64_t> strides(shape.size());
    int64_t step = problem_.is_statistic(slot) ? 1 : Pitch(slot);
    for (size_t i = shape.size(); i-- > 0; step *= shape[i]) strides[i] = step;
    if (problem_.is_statistic(slot)) {
      Bytes& own = owner.of_rows[slot];
      own.assign(static_cast<size_t>(problem_.rows) * SizeOf(problem_.type[slot]) + how_.unaligned, 0xAB);
      if (own.empty()) own.reserve(1);
      return std::make_unique<Tensor>(own.data() + how_.unaligned, problem_.type[slot], shape, strides);
    }
    shape.push_back(OwnCols(slot));
    strides.push_back(1);
    uint8_t* const data = memory_[static_cast<size_t>(home_[slot])].data() + Offset(slot, 0, rank);
    return std::make_unique<Tensor>(data, problem_.type[slot], shape, strides);
  }

  const Problem& problem_;
  const ParallelHow& how_;
  std::array<int, kSlots> home_ = {};
  std::array<Bytes, kSlots> memory_;
  Bytes exchange_;  // what all ranks send, then what they receive
  size_t partial_bytes_ = 0;
  std::vector<std::unique_ptr<Rank>> ranks_;
};

std::string TargetOf(const ParallelHow& how, int64_t rank) {
  return how.targets.empty() ? isonorm_target() : how.targets[static_cast<size_t>(rank) % how.targets.size()];
}

bool Ran(const char* operation, isonorm_status status, const Problem& problem) {
  if (status != ISONORM_OK) {
    ADD_FAILURE() << operation << ": " << isonorm_status_name(status) << ": " << isonorm_last_error() << "\n  "
                  << ToString(problem);
    return false;
  }
  const std::string kernel = isonorm_last_kernel(), begin = std::string(operation) + ".",
                    end = std::string("@") + isonorm_target();
  if (kernel.rfind(begin, 0) == 0 && kernel.size() > end.size() && kernel.substr(kernel.size() - end.size()) == end)
    return true;
  ADD_FAILURE() << operation << " on " << isonorm_target() << " was asked for, but '" << kernel << "' ran";
  return false;
}

}  // namespace

ParallelResult ComputeParallel(const Problem& problem, const Values& inputs, const ParallelHow& how, const Bytes& statistic) {
  ParallelResult result;
  World world(problem, inputs, how);
  std::vector<int32_t> rounds(static_cast<size_t>(how.ranks), 0);
  if (IsBackward(problem)) world.SetStatistics(statistic);
  do {
    ++result.rounds;
    for (int64_t rank = 0; rank < how.ranks; ++rank) {
      const ScopedTarget target(TargetOf(how, rank));
      const bool backward = IsBackward(problem);
      const isonorm_status status =
          backward ? world.Backward(rank, false) : world.Forward(rank, false, &rounds[static_cast<size_t>(rank)]);
      if (!Ran(backward ? "backward_partial" : "forward_partial", status, problem)) return {};
      result.partial_kernel = isonorm_last_kernel();
    }
    world.Gather(&result.exchanged);
    for (int64_t rank = 0; rank < how.ranks; ++rank) {
      const ScopedTarget target(TargetOf(how, rank));
      int32_t& round = rounds[static_cast<size_t>(rank)];
      const bool backward = IsBackward(problem);
      const isonorm_status status = backward ? world.Backward(rank, true) : world.Forward(rank, true, &round);
      if (round != 0 && status == ISONORM_OK) continue;  // nothing was computed yet
      if (!Ran(backward ? "backward" : "forward", status, problem)) return {};
    }
    for (int64_t rank = 1; rank < how.ranks; ++rank) {
      if (rounds[static_cast<size_t>(rank)] == rounds[0] && world.statistic(rank) == world.statistic(0)) continue;
      ADD_FAILURE() << "ranks 0 and " << rank << " do not agree after round " << result.rounds << ": " << ToString(problem);
      return {};
    }
  } while (rounds[0] != 0);
  result.outputs = world.Outputs();
  result.statistic = world.statistic(0);
  return result;
}

Problem Shareable(Problem problem) {
  problem.groups = 1;
  problem.window = 0;
  Unrotate(&problem);
  return problem;
}

bool CanShare(const Problem& problem, int64_t ranks) {
  const bool dynamic = problem.quantizes() && !problem.has_static_scale();
  const int64_t group = problem.quantization.group_cols;
  if (dynamic && ranks > 1 && (group == 0 || problem.cols / ranks % group != 0)) return false;
  return ranks <= isonorm_max_ranks(problem.cols);
}

std::vector<int64_t> RankCounts(const Problem& problem, int64_t most) {
  std::vector<int64_t> counts;
  for (int64_t ranks = 1; ranks <= most; ranks *= 2) {
    if (CanShare(problem, ranks)) counts.push_back(ranks);
  }
  return counts;
}

}  // namespace core_test
