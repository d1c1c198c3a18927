// The structures of a chain, and of the same calls by ranks that share rows.
#pragma once

#include "norm.h"

namespace isonorm_fuzz {

inline const isonorm_tensor* Abi(const Plan* plan) { return plan == nullptr ? nullptr : plan->abi; }

struct ForwardNode {
  isonorm_forward_args args = {};
  isonorm_quantization quantization = {};
  Rope rope;
  Plan *x = nullptr, *weight = nullptr, *bias = nullptr, *residual = nullptr, *gate = nullptr, *scale = nullptr, *y = nullptr,
       *residual_out = nullptr, *mean = nullptr, *rstd = nullptr;
};

struct BackwardNode {
  isonorm_backward_args args = {};
  Rope rope;
  Plan *dy = nullptr, *x = nullptr, *weight = nullptr, *bias = nullptr, *residual = nullptr, *residual_out = nullptr,
       *gate = nullptr, *mean = nullptr, *rstd = nullptr, *dresidual = nullptr, *dx = nullptr, *dweight = nullptr,
       *dbias = nullptr, *dgate = nullptr;
};

void PlanNode(Bytes& bytes, Scene& scene, const Norm& norm, bool shard, ForwardNode& node);
void PlanNode(Bytes& bytes, Scene& scene, const Norm& norm, bool shard, BackwardNode& node);
isonorm_forward_args* SealNode(Scene& scene, ForwardNode& node, const isonorm_executor* executor,
                               const isonorm_forward_args* also);
isonorm_backward_args* SealNode(Scene& scene, BackwardNode& node, const isonorm_executor* executor,
                                const isonorm_backward_args* also);

// The forward call of the same rows, for its statistic alone.
isonorm_forward_args ForwardOf(const isonorm_backward_args& args);

template <class Args>
void SetWorkspace(Scene& scene, Args* args, std::size_t bytes) {
  void* const workspace = scene.Workspace(bytes);
  scene.Set(args, &Args::workspace, workspace);
  scene.Set(args, &Args::workspace_size, bytes);
}

}  // namespace isonorm_fuzz
