// Fused rows far larger than any cache, against loops that only move the same bytes: residual, gates, quantised outputs.
#include <algorithm>

#include "bench/bench.h"
#include "bench/call.h"
#include "bench/loops.h"
#include "bench/textbook.h"
#include "bench/steps.h"

namespace isonorm_cli::bench {
namespace {

using isonorm::const_tensor;
using isonorm::dtype;
using isonorm::forward_args;
using isonorm::tensor;

int64_t RowsOf(const Row& row, const Settings& settings) {
  return settings.quick ? std::min<int64_t>(row.rows, 512 * 128 / row.cols * 4) : row.rows;
}

isonorm::contract WithGate(isonorm::gate_place place) {
  isonorm::contract contract = isonorm::contracts::torch;
  contract.gate_place = place;
  return contract;
}

// Models with a residual round x * rstd.
isonorm::contract ContractOf(Kind kind) {
  const bool residual = kind == Kind::kResidual || kind == Kind::kCachedResidual;
  return residual ? isonorm::contracts::llama : isonorm::contracts::torch;
}

// What one row of the table calls, and the bytes that it moves.
struct Fused {
  std::function<void()> run;
  Streams streams;
  std::function<void()> unfused;  // the same by the norm and one sweep more
};

class Maker {
 public:
  Maker(const Row& row, int64_t rows, Arena& arena) : row_(row), rows_(rows), arena_(arena) {
    bytes_ = static_cast<size_t>(rows * row.cols * isonorm::size_of(row.type));
    arena.Prepare(row.type, bytes_, rows, row.cols);
    arena.PrepareMore(row.type, bytes_);
    weight_ = {arena.weight(), row.type, {row.cols}};
  }

  Fused Make() {
    switch (row_.kind) {
      case Kind::kResidual: return Residual();
      case Kind::kGateBackward:
      case Kind::kGateBeforeBackward: return GateBackward();
      case Kind::kQuantized: return Quantized();
      default: return Gate();
    }
  }

 private:
  tensor Of(void* data) const { return {data, row_.type, {rows_, row_.cols}}; }
  const Steps& StepsOf() const { return row_.type == dtype::f32 ? kStepsF32 : kStepsBf16; }
  int64_t count() const { return rows_ * row_.cols; }

  Fused Residual() {
    const forward_args args = {.x = Of(arena_.x()),
                               .weight = weight_,
                               .residual = Of(arena_.z()),
                               .y = Of(arena_.y()),
                               .residual_out = Of(arena_.u())};
    return {[args] { isonorm::forward(ContractOf(Kind::kResidual), kEps, args); },
            {{arena_.x(), arena_.z()}, {arena_.y(), arena_.u()}, 2, 2, bytes_, bytes_},
            [this, norm = forward_args{.x = Of(arena_.u()), .weight = weight_, .y = Of(arena_.y())}] {
              StepsOf().add(arena_.x(), arena_.z(), arena_.u(), count());
              isonorm::forward(ContractOf(Kind::kResidual), kEps, norm);
            }};
  }

  Fused Gate() {
    const isonorm::contract contract =
        WithGate(row_.kind == Kind::kGateBefore ? isonorm::gate_place::before : isonorm::gate_place::after);
    const bool before = row_.kind == Kind::kGateBefore;
    const forward_args args = {
        .x = Of(arena_.x()), .weight = weight_, .gate = Of(arena_.z()), .y = Of(arena_.y()), .groups = row_.groups};
    forward_args norm = args;
    norm.x = Of(before ? arena_.y() : arena_.x());
    norm.gate = {};
    return {[contract, args] { isonorm::forward(contract, kEps, args); },
            {{arena_.x(), arena_.z()}, {arena_.y()}, 2, 1, bytes_, bytes_},
            [this, before, norm] {
              if (before) StepsOf().times_silu(arena_.x(), arena_.z(), arena_.y(), count());
              isonorm::forward(isonorm::contracts::torch, kEps, norm);
              if (!before) StepsOf().times_silu(arena_.y(), arena_.z(), arena_.y(), count());
            }};
  }

  Fused GateBackward() {
    const bool before = row_.kind == Kind::kGateBeforeBackward;
    const isonorm::contract contract = WithGate(before ? isonorm::gate_place::before : isonorm::gate_place::after);
    const tensor rstd = {arena_.rstd(), {rows_}};
    isonorm::forward(contract, kEps, {.x = Of(arena_.x()), .gate = Of(arena_.z()), .rstd = rstd});
    const isonorm::backward_args args = {.dy = Of(arena_.v()),
                                         .x = Of(arena_.x()),
                                         .weight = weight_,
                                         .gate = Of(arena_.z()),
                                         .rstd = rstd,
                                         .dx = Of(arena_.y()),
                                         .dgate = Of(arena_.u())};
    return {[contract, args] { isonorm::backward(contract, kEps, args); },
            {{arena_.x(), arena_.z(), arena_.v()}, {arena_.y(), arena_.u()}, 3, 2, bytes_, bytes_},
            // With what left the norm, or went into it, at hand, which forward would have to keep.
            [this, before,
             norm = isonorm::backward_args{.dy = Of(before ? arena_.v() : arena_.y()),
                                           .x = Of(arena_.x()),
                                           .weight = weight_,
                                           .rstd = rstd,
                                           .dx = Of(arena_.y())}] {
              const auto gate = [&](const void* dy) {
                StepsOf().silu_backward(dy, arena_.x(), arena_.z(), arena_.y(), arena_.u(), count());
              };
              if (!before) gate(arena_.v());
              isonorm::backward(isonorm::contracts::torch, kEps, norm);
              if (before) gate(arena_.y());
            }};
  }

  Fused Quantized() {
    const bool fixed = row_.scale_kind == isonorm::scale_kind::fixed;
    forward_args args = {.x = Of(arena_.x()),
                         .weight = weight_,
                         .quantization = {.kind = row_.scale_kind},
                         .y = {arena_.y(), row_.out, {rows_, row_.cols}}};
    if (fixed) {
      arena_.rstd()[0] = 1.0f / 32;
      args.static_scale = {arena_.rstd(), {1}};
    } else {
      args.scale = {arena_.rstd(), {rows_}};
    }
    return {[args] { isonorm::forward(isonorm::contracts::torch, kEps, args); },
            {{arena_.x()}, {arena_.y()}, 1, 1, bytes_, static_cast<size_t>(count())},
            [this, fixed, norm = forward_args{.x = Of(arena_.x()), .weight = weight_, .y = Of(arena_.u())}] {
              isonorm::forward(isonorm::contracts::torch, kEps, norm);
              const QuantizeStep quantize = row_.out == dtype::i8 ? QuantizeToI8 : QuantizeToE4M3;
              const float scale = fixed ? 1.0f / 32 : 0;
              quantize(arena_.u(), rows_, row_.cols, scale, arena_.rstd(), arena_.y());
            }};
  }

  const Row& row_;
  const int64_t rows_;
  Arena& arena_;
  size_t bytes_ = 0;
  const_tensor weight_;
};

}  // namespace

Result RunFused(const Row& row, const Settings& settings, Arena& arena) {
  const int64_t rows = RowsOf(row, settings);
  Maker maker(row, rows, arena);
  const Fused fused = maker.Make();
  const Streams& streams = fused.streams;
  const LimitLoops& limit = BestLoops().limits;
  std::vector<Candidate> candidates = {{"move", [&] { limit.move(streams); }, {}},
                                       {"streaming move", [&] { limit.move_stream(streams); }, {}},
                                       {"isonorm", fused.run, {}}};
  // The norm alone, out of place, in the same race and with the same roundings.
  const ForwardCall alone(row.type, {rows, row.cols}, {arena.x(), arena.y(), arena.weight()}, ContractOf(row.kind));
  candidates.push_back({"the norm alone", [&] { alone.Run(); }, {}});
  if (TextbookLoopsRun()) candidates.push_back({"unfused", fused.unfused, {}});
  const Times times = Race(candidates, {settings.quick ? 2 : settings.rounds, 0});
  const size_t best = Fastest(times, 0, 2);
  Result result;
  result.name = row.name;
  result.kind = row.kind;
  result.unit = Unit::kPercentOfLimit;
  result.seconds = Median(times[2]);
  result.bytes = static_cast<double>(streams.ins * streams.in_bytes + streams.outs * streams.out_bytes);
  result.reference = {candidates[best].name, Median(times[best])};
  result.Set(SpreadOfRatio(times[best], times[2], 100));
  result.goal = row.goal;
  for (size_t i = 3; i < candidates.size(); ++i) result.beside.push_back({candidates[i].name, Median(times[i])});
  if (TextbookLoopsRun()) result.plain = Plain{result.beside.back(), SpreadOfRatio(times.back(), times[2])};
  fused.run();
  result.kernel = isonorm::last_kernel();
  return result;
}

Result RunCachedResidual(const Row& row, const Settings& settings, Arena& arena) {
  Row as_residual = row;
  as_residual.kind = Kind::kResidual;
  Maker maker(as_residual, row.rows, arena);
  const Fused fused = maker.Make();
  const ForwardCall alone(row.type, {row.rows, row.cols}, {arena.x(), arena.y(), arena.weight()}, ContractOf(row.kind));
  std::vector<Candidate> candidates = {{"the norm alone", [&] { alone.Run(); }, {}}, {"isonorm", fused.run, {}}};
  if (TextbookLoopsRun()) candidates.push_back({"unfused", fused.unfused, {}});
  const Times times = Race(candidates, {settings.quick ? 4 : 4 * settings.rounds, settings.quick ? 1e-5 : 1e-3});
  Result result;
  result.name = row.name;
  result.kind = row.kind;
  result.unit = Unit::kTimesReference;
  result.seconds = Median(times[1]);
  result.bytes = static_cast<double>(4 * fused.streams.in_bytes);
  result.reference = {candidates[0].name, Median(times[0])};
  result.Set(SpreadOfRatio(times[1], times[0]));
  if (TextbookLoopsRun()) {
    result.beside.push_back({"unfused", Median(times[2])});
    result.plain = Plain{result.beside.back(), SpreadOfRatio(times[2], times[1])};
  }
  result.goal = row.goal;
  fused.run();
  result.kernel = isonorm::last_kernel();
  return result;
}

}  // namespace isonorm_cli::bench
