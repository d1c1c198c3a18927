#include "cpu/backend.h"

#include <cinttypes>

#include "call/error.h"
#include "cpu/chain.h"
#include "cpu/choose.h"
#include "cpu/combine.h"
#include "cpu/fold.h"
#include "cpu/gradient_sums.h"
#include "cpu/groups.h"
#include "cpu/run.h"
#include "numbers/quantize.h"

namespace isonorm {

namespace {

// What no argument tells; nothing has been written yet.
[[gnu::noinline]] isonorm_status ReadData(Call& call) {
  Quantizer& quantizer = call.quantizer;
  if (quantizer.on && !quantizer.dynamic) {
    const auto scale = LoadScalar<float>(quantizer.scale, Type::kF32, 0);
    if (!IsScale(static_cast<double>(scale))) {
      return Fail(ISONORM_ERROR_QUANTIZATION, "scale holds %g, but a static scale must be from 2^-126 to 2^126.",
                  static_cast<double>(scale));
    }
    quantizer.multiplier = StaticMultiplier(scale);
  }
  const Rope& rope = call.rope;
  if (!rope.on || rope.positions == nullptr) return ISONORM_OK;
  for (int64_t i = 0, count = rope.PositionCount(); i < count; ++i) {
    const int64_t position = rope.PositionAt(i);
    if (rope.Holds(position)) continue;
    return Fail(ISONORM_ERROR_ROPE,
                "rope.positions holds %" PRId64 " as number %" PRId64 ", but must be from 0 to %" PRId64
                ", the last of the %" PRId64 " rows of rope.cos and rope.sin.",
                position, i, rope.table_rows - 1, rope.table_rows);
  }
  return ISONORM_OK;
}

// Whether a vector is finite. Within a group it has no gaps; groups may lie anywhere.
bool IsFinite(const Target& target, const Call& call, InputVector vector, Type type) {
  const int64_t groups = call.by_group ? call.groups : 1, cols = call.cols / groups;
  for (int64_t group = 0; group < groups; ++group) {
    if (!target.all_finite(EntryOf(call, vector, group), type, cols)) return false;
  }
  return true;
}

}  // namespace

int CpuBackend::Choose(Operation operation, const Call& call) const { return ChooseKernel(*target_, operation, call); }

bool CpuBackend::Workspace(Operation, const Call& call, size_t* bytes) const { return GradientWorkspace(call, bytes); }

inline isonorm_status CpuBackend::Prepare(Operation operation, Call& call, int* kernel) const {
  const isonorm_status status = call.usual ? ISONORM_OK : ReadData(call);
  if (status != ISONORM_OK) return status;
  *kernel = ChooseKernel(*target_, operation, call);
  if (*kernel == kKernels) {
    return Fail(ISONORM_ERROR_INTERNAL, "target %s has no kernel for this call.", target_->name);
  }
  const bool tuned = *kernel != FindGeneralRow(operation, call.wide);
  call.by_group = tuned && call.groups != 1;
  const bool looks = tuned && PaysToLookAtWeight(operation, call);
  const auto finite = [&](InputVector vector, Type type) {
    return type == Type::kNone || (looks && IsFinite(*target_, call, vector, type));
  };
  call.weight_finite = finite(kWeight, call.weight_type) && finite(kBias, call.bias_type);
  return ISONORM_OK;
}

inline isonorm_status CpuBackend::RunPrepared(const Call& call, int kernel) const {
  if (WantsSums(call)) return RunWithSums(call, *target_, target_->kernels[kernel]);
  return call.rows > 0 ? RunAllRows(call, target_->kernels[kernel]) : ISONORM_OK;
}

isonorm_status CpuBackend::Run(Operation operation, Call& call, int* kernel) const {
  const isonorm_status status = Prepare(operation, call, kernel);
  return status == ISONORM_OK ? RunPrepared(call, *kernel) : status;
}

isonorm_status CpuBackend::RunChain(Operation operation, Chain& chain, int* kernel) const {
  Kernel kernels[kMaxChain];
  for (int i = 0; i < chain.count; ++i) {
    int id = kKernels;
    const isonorm_status status = Prepare(operation, chain.calls[i], &id);
    if (status != ISONORM_OK) return FailInChain(i, status);
    kernels[i] = target_->kernels[id];
    if (i == 0) *kernel = id;
  }
  return RunTogether(chain, *target_, kernels);
}

isonorm_status CpuBackend::FinishForward(Call& call, Round* next, bool* complete, int* kernel) const {
  const isonorm_status status = Prepare(Operation::k_forward, call, kernel);
  if (status != ISONORM_OK) return status;
  *complete = FoldGathered(call, next);
  return *complete ? RunPrepared(call, *kernel) : ISONORM_OK;
}

isonorm_status CpuBackend::Combine(const Call& call) const { return CombineRows(call); }

}  // namespace isonorm
