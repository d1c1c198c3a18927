// Golden cases as several processes compute them. Every rank's columns are slices of the tensors of the whole rows.
#include <algorithm>

#include "golden/check.h"

namespace isonorm_cli {
namespace {

class Shards {
 public:
  Shards(const GoldenCase& golden, const Inputs& inputs, const Setup& setup, Check* check)
      : golden_(golden), check_(check), tensors_(golden, inputs, setup), ranks_(static_cast<size_t>(golden.ranks)) {
    const int64_t values = golden.contract.statistic == ISONORM_STATISTIC_LAYER ? 2 : 1;
    gathered_ = std::make_unique<Buffer>(std::vector{golden.ranks, golden.rows, values}, golden.compute(), setup.offset, 0);
    for (size_t i = 0; i < ranks_.size(); ++i) {
      Rank& rank = ranks_[i];
      rank.window = Window(Window::Kind::kColumns, static_cast<int64_t>(i), golden.ranks);
      rank.statistic = tensors_.Make({golden.rows, 4}, golden.compute());
      rank.rstd = tensors_.Rstd();
      gathered_->At(static_cast<int64_t>(i), &rank.sent);
      rank.shard = {sizeof(rank.shard), golden.ranks, &rank.sent.tensor, gathered_->tensor(), rank.statistic->tensor()};
    }
  }

  void Forward() {
    check_->Begin("forward of " + std::to_string(golden_.ranks) + " ranks", tensors_.InputsOf(false));
    const Owned y = tensors_.Matrix(golden_.op == Op::kForward ? golden_.out : Type::kNone);
    do {
      for (Rank& rank : ranks_) {
        const isonorm_forward_args args = Args(rank, y);
        const auto* contract = &golden_.contract;
        if (!Done(isonorm_forward_partial(contract, golden_.eps, &args, &rank.shard, rank.round))) return;
      }
      Gather();
      for (Rank& rank : ranks_) {
        const isonorm_forward_args args = Args(rank, y);
        const isonorm_status status = isonorm_forward_finish(&golden_.contract, golden_.eps, &args, &rank.shard, &rank.round);
        if (!Done(status, rank.round == 0)) return;
        if (rank.round != ranks_.front().round) return check_->Report("round", "the same on all ranks", "another one");
      }
    } while (ranks_.front().round != 0);
    check_->Compare(kY, y);
    check_->Compare(kResidualOut, tensors_.residual_out);
    if (y && !golden_.has_static_scale()) check_->Compare(kScale, tensors_.scale);
    for (const Rank& rank : ranks_) check_->Compare(kRstd, rank.rstd);
    if (golden_.op == Op::kForward) check_->CompareBytes(kExchanged, exchanged_);
  }

  void Backward() {
    if (failed_) return;
    check_->Begin("backward of " + std::to_string(golden_.ranks) + " ranks", tensors_.InputsOf(true));
    const Owned dx = tensors_.Matrix(golden_.x), dgate = tensors_.Matrix(golden_.gate()),
                dweight = tensors_.Vector(golden_.weight), dbias = tensors_.Vector(golden_.bias);
    for (const bool finish : {false, true}) {
      for (Rank& rank : ranks_) {
        isonorm_backward_args args = tensors_.Backward(false, &rank.window);
        args.dx = rank.window.Of(dx);
        args.dgate = rank.window.Of(dgate);
        args.dweight = rank.window.Of(dweight);
        args.dbias = rank.window.Of(dbias);
        const auto* contract = &golden_.contract;
        if (!finish) {
          if (!Done(isonorm_backward_partial(contract, golden_.eps, &args, &rank.shard))) return;
          continue;
        }
        if (!Done(isonorm_backward_workspace(contract, golden_.eps, &args, &args.workspace_size), false)) return;
        std::vector<uint8_t> workspace(args.workspace_size, 0xFF);
        args.workspace = workspace.data();
        if (!Done(isonorm_backward_finish(contract, golden_.eps, &args, &rank.shard))) return;
      }
      if (!finish) Gather();
    }
    check_->Compare(kDx, dx);
    check_->Compare(kDweight, dweight);
    check_->Compare(kDbias, dbias);
    check_->Compare(kDgate, dgate);
    check_->CompareBytes(kExchanged, exchanged_);
  }

 private:
  struct Rank {
    Window window;
    Owned statistic, rstd;
    View sent;
    isonorm_shard shard = {};
    int32_t round = 0;
  };

  isonorm_forward_args Args(Rank& rank, const Owned& y) {
    isonorm_forward_args args = tensors_.Forward(&rank.window);
    args.y = rank.window.Of(y);
    args.rstd = rank.rstd->tensor();
    return args;
  }
  bool Done(isonorm_status status, bool computes = true) {
    failed_ = failed_ || !check_->Called(status, computes);
    return !failed_;
  }
  // An all-gather has nothing to do: what a rank sends lies where all receive it.
  void Gather() {
    const std::vector<uint8_t> bytes = gathered_->Compact();
    exchanged_.insert(exchanged_.end(), bytes.begin(), bytes.end());
  }

  const GoldenCase& golden_;
  Check* check_;
  Tensors tensors_;
  Owned gathered_;
  std::vector<Rank> ranks_;
  std::vector<uint8_t> exchanged_;
  bool failed_ = false;
};

}  // namespace

void CheckShards(const GoldenCase& golden, const Inputs& inputs, const Setup& setup, Check* check) {
  Shards shards(golden, inputs, setup, check);
  shards.Forward();
  if (golden.backward()) shards.Backward();
}

void CheckParts(const GoldenCase& golden, const Inputs& inputs, const Setup& setup, Check* check) {
  Tensors tensors(golden, inputs, setup);
  check->Begin("gradients of runs of " + std::to_string(golden.part_rows) + " rows", tensors.InputsOf(false));
  const int64_t count = (golden.rows + golden.part_rows - 1) / golden.part_rows;
  const auto parts_of = [&](Type type) {
    return type == Type::kNone ? nullptr : tensors.Make({count, golden.cols}, golden.compute());
  };
  const Owned dweights = parts_of(golden.weight), dbiases = parts_of(golden.bias);
  for (int64_t part = 0; part < count; ++part) {
    const int64_t first = part * golden.part_rows;
    Window window(Window::Kind::kRows, first, std::min(golden.part_rows, golden.rows - first));
    isonorm_backward_args args = tensors.Backward(false, &window);
    View dweight, dbias;
    if (dweights) dweights->At(part, &dweight), args.dweight = &dweight.tensor;
    if (dbiases) dbiases->At(part, &dbias), args.dbias = &dbias.tensor;
    const auto* contract = &golden.contract;
    if (!check->Called(isonorm_backward_workspace(contract, golden.eps, &args, &args.workspace_size), false)) return;
    std::vector<uint8_t> workspace(args.workspace_size, 0xFF);
    args.workspace = workspace.data();
    if (!check->Called(isonorm_backward(contract, golden.eps, &args))) return;
  }
  std::vector<uint8_t> all;
  for (const Owned* sums : {&dweights, &dbiases}) {
    if (*sums == nullptr) continue;
    const std::vector<uint8_t> bytes = (*sums)->Compact();
    all.insert(all.end(), bytes.begin(), bytes.end());
    const bool bias = sums == &dbiases;
    const Owned gradient = tensors.Vector(bias ? golden.bias : golden.weight);
    const isonorm_combine_args args = {sizeof(args), (*sums)->tensor(), gradient->tensor(), golden.rows, golden.part_rows, 0, 0,
                                       nullptr,      setup.executor};
    if (!check->Called(isonorm_combine_gradients(&args))) return;
    check->Compare(bias ? kDbias : kDweight, gradient);
  }
  check->CompareBytes(kParts, all);
}

}  // namespace isonorm_cli
