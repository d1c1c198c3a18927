#include "cpu/backend.h"

#include "call/error.h"
#include "cpu/chain.h"
#include "cpu/choose.h"
#include "cpu/combine.h"
#include "cpu/fold.h"
#include "cpu/gradient_sums.h"
#include "cpu/run.h"

namespace isonorm {

int CpuBackend::Choose(Operation operation, const Call& call) const { return ChooseKernel(*target_, operation, call); }

bool CpuBackend::Workspace(Operation, const Call& call, size_t* bytes) const { return GradientWorkspace(call, bytes); }

inline isonorm_status CpuBackend::Prepare(Operation operation, Call& call, int* kernel) const {
  *kernel = ChooseKernel(*target_, operation, call);
  if (*kernel == kKernels) {
    return Fail(ISONORM_ERROR_INTERNAL, "target %s has no kernel for this call.", target_->name);
  }
  call.weight_finite = call.weight_type == Type::kNone ||
                       (PaysToLookAtWeight(call) && target_->all_finite(call.weight, call.weight_type, call.cols));
  return ISONORM_OK;
}

inline void CpuBackend::RunPrepared(const Call& call, int kernel) const {
  if (WantsSums(call)) {
    RunWithSums(call, target_->kernels[kernel]);
  } else if (call.rows > 0) {
    RunAllRows(call, target_->kernels[kernel]);
  }
}

isonorm_status CpuBackend::Run(Operation operation, Call& call, int* kernel) const {
  const isonorm_status status = Prepare(operation, call, kernel);
  if (status == ISONORM_OK) RunPrepared(call, *kernel);
  return status;
}

isonorm_status CpuBackend::RunChain(Operation operation, Chain& chain, int* kernel) const {
  Kernel kernels[kMaxChain];
  for (int i = chain.count - 1; i >= 0; --i) {
    const isonorm_status status = Prepare(operation, chain.calls[i], kernel);
    if (status != ISONORM_OK) return status;
    kernels[i] = target_->kernels[*kernel];
  }
  RunTogether(chain, kernels);
  return ISONORM_OK;
}

isonorm_status CpuBackend::FinishForward(Call& call, Round* next, bool* complete, int* kernel) const {
  const isonorm_status status = Prepare(Operation::k_forward, call, kernel);
  if (status != ISONORM_OK) return status;
  *complete = FoldGathered(call, next);
  if (*complete) RunPrepared(call, *kernel);
  return ISONORM_OK;
}

isonorm_status CpuBackend::Combine(const Call& call) const {
  CombineRows(call);
  return ISONORM_OK;
}

}  // namespace isonorm
