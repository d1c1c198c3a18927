// The backend of host memory: one for each target.
#pragma once

#include "table/backend.h"

namespace isonorm {

class CpuBackend final : public Backend {
 public:
  CpuBackend() = default;
  explicit CpuBackend(const Target& target) : target_(&target) {}

  const char* name() const override { return target_->name; }
  int Choose(Operation operation, const Call& call) const override;
  bool Workspace(Operation operation, const Call& call, size_t* bytes) const override;
  isonorm_status Run(Operation operation, Call& call, int* kernel) const override;
  isonorm_status RunChain(Operation operation, Chain& chain, int* kernel) const override;
  isonorm_status FinishForward(Call& call, Round* next, bool* complete, int* kernel) const override;
  isonorm_status Combine(const Call& call) const override;

 private:
  // The kernel for the call, and what its loops want to know of the data beforehand.
  isonorm_status Prepare(Operation operation, Call& call, int* kernel) const;
  isonorm_status RunPrepared(const Call& call, int kernel) const;

  const Target* target_ = nullptr;
};

}  // namespace isonorm
