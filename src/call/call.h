// One checked call: tensors and contract turned into rows, pointers, byte strides and roundings. Everything that can be
// wrong with a call is found while it is made; whoever holds a Call may compute without asking again.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "isonorm/isonorm.h"
#include "numbers/gate.h"
#include "numbers/quantize.h"
#include "numbers/rope.h"
#include "numbers/rounding.h"
#include "numbers/shard.h"
#include "numbers/statistic.h"

namespace isonorm {

// Tensors with one entry per element of x, and behind them those with one per group.
enum RowTensor : int {
  kX,
  kResidual,
  kGate,
  kDy,
  kDresidual,
  kResidualOut,  // written by forward, read by backward
  kY,
  kDx,
  kDgate,
  kDdx,             // read by double backward
  kDdy,             // written by double backward
  kRstd,            // written by forward, read by backward
  kPerRow = kRstd,  // in its place, of isonorm_rms*: rms, drms or the penalty
  kMean,            // of LayerNorm, as kRstd
  kScale,           // of quantised rows, written by forward
  kRowTensors
};

// Input vectors with one entry for each column, numbered behind those.
enum InputVector : int { kWeight = kRowTensors, kBias, kDdweight };
constexpr int PlaceOf(InputVector vector) { return int{vector} - int{kWeight}; }  // among them

constexpr int kMaxLeading = 6;
constexpr int kMostTasks = 1024;  // of one call: more CPUs would not make it faster, and which of them ran is remembered

enum class Gate : uint8_t { kNone, kBefore, kAfter };

// What the rows of the call do; the numbers are defined in docs/numerics.md §2 to §4.
//
// As constructed it has no rows, tensors or parts. All that is then 0 comes first, in one stretch: cleared member by member, a
// call of one short row spent a tenth of its time on it.
struct Call {
  // Computation.
  bool usual;  // of no more than x, y, weight, LayerNorm's bias, rstd and mean
  bool backward;
  bool wide;              // compute type f64 instead of f32
  bool accumulate;        // dweight and dbias are added to
  bool accumulates_rows;  // so is dx, by the penalty
  Gate gate;
  GateFunction gate_function;
  Type scaled_type;  // what v * rstd is rounded to; kNone: it is not
  Type gated_type;   // what the value is rounded to before a gate after the norm; kNone: it is not
  Type sum_type;     // what x + residual is rounded to before the norm; kNone: kept
  Type weight_type, bias_type, dweight_type, dbias_type;
  Type ddweight_type;  // of double backward

  // Found out by who runs the call.
  bool weight_finite;      // known to be, and the bias too; a short call does not look
  bool by_group;           // its loops take rows without groups
  Type type[kRowTensors];  // of kX even if x itself is not given
  int64_t bytes_beside;    // that calls which run at the same time read and write

  // Inputs of which one value stands for a whole row, or in a vector for a whole group: bits by their numbers.
  uint32_t repeated;

  // Leading dimensions that do not collapse into one, outermost first; 0 of them: a single row.
  int leading;

  // Vectors of cols entries. In an input of groups, elements lead from one group's entries to the next group's.
  const void* weight;
  const void* bias;
  void* dweight;
  void* dbias;
  const void* ddweight;
  int64_t group_stride[3];  // by PlaceOf(vector)

  void* workspace;        // as given; who runs the call says whether it needs one
  size_t workspace_size;  // bytes
  void* stream;           // of a device: in whose order the call is queued
  const Shard* shard;     // where statistics come from, if not from the rows alone

  Quantizer quantizer;

  double weight_offset;  // already rounded to the compute type
  double lambda;         // of the penalty
  int64_t rows, cols;
  int64_t group_cols;  // cols == groups * group_cols
  int64_t window;      // 1 <= window <= group_cols, unless cols is 0

  // Row tensors; null for those not given.
  char* data[kRowTensors];
  // Bytes, for dimensions below `leading`; 0 for tensors not given. [0] is there in any case, all 0 if there is no dimension.
  int64_t stride[kMaxLeading][kRowTensors];
  int64_t shape[kMaxLeading];

  Norm norm;  // but its count, which follows from window and ranks, set with them
  int64_t groups = 1;
  int64_t ranks = 1;  // above 1: each row here is a shard, one of so many that make up the row of the norm
  isonorm_device device = {ISONORM_DEVICE_CPU, 0};  // on which all tensors lie
  isonorm_executor executor;                        // a copy; without parallel_for the calling thread does it all
  Rope rope;

  Call();

  bool has(RowTensor tensor) const { return data[tensor] != nullptr; }
  bool repeats(int input) const { return (repeated >> input & 1) != 0; }
  // Where a vector has column j of a group.
  int64_t At(InputVector vector, int64_t group, int64_t j) const {
    return group * group_stride[PlaceOf(vector)] + (repeats(vector) ? 0 : j);
  }
  int concurrency() const { return executor.parallel_for == nullptr ? 1 : std::min(executor.concurrency, kMostTasks); }
};

struct ShardTensors;  // call/parallel.h

// Fills the builder's call, which is as constructed, or returns the status and message of the first fault. The workspace is for
// whoever knows what the call needs to check, by CallBuilder::CheckWorkspace. The rows of a call with `shard` are those of one
// rank: see call/parallel.h. Most forward calls need no builder: see call/usual.h.
class CallBuilder;
isonorm_status MakeForward(const isonorm_contract* contract, double eps, const isonorm_forward_args* args, CallBuilder& builder,
                           const ShardTensors* shard = nullptr);
isonorm_status MakeBackward(const isonorm_contract* contract, double eps, const isonorm_backward_args* args,
                            CallBuilder& builder, const ShardTensors* shard = nullptr);
isonorm_status MakeDoubleBackward(const isonorm_contract* contract, double eps, const isonorm_double_backward_args* args,
                                  CallBuilder& builder);

isonorm_status CheckWorkspaceSize(const Call& call, size_t needed);

// The vector functions use the same Call. What they have per row (rms, drms or penalty) goes where rstd does.
isonorm_status MakeRms(const isonorm_rms_args* args, CallBuilder& builder);
isonorm_status MakeRmsBackward(const isonorm_rms_backward_args* args, CallBuilder& builder);
isonorm_status MakeRmsPenalty(const isonorm_rms_penalty_args* args, CallBuilder& builder);

}  // namespace isonorm
