#include "accuracy/problem.h"

namespace isonorm_test {
namespace {

Type ComputeType(const Problem& problem) { return problem.x.type() == Type::kF64 ? Type::kF64 : Type::kF32; }

}  // namespace

const isonorm_rope* RopeOf(Problem& problem, isonorm_rope* room) {
  if (!problem.cos.present()) return nullptr;
  *room = {sizeof(*room), problem.style, 0, problem.cos.abi(), problem.sin.abi(), nullptr, problem.first_position};
  return room;
}

Outputs RunForward(Problem& problem, Type y) {
  Outputs out;
  out.y = Tensor(y, problem.x.shape());
  std::vector<int64_t> per_group = problem.x.shape();
  per_group.back() = problem.groups;
  out.rstd = Tensor(ComputeType(problem), per_group);
  if (problem.contract.statistic == ISONORM_STATISTIC_LAYER) out.mean = Tensor(ComputeType(problem), per_group);
  if (problem.residual.present()) out.residual_out = Tensor(problem.residual.type(), problem.x.shape());
  isonorm_forward_args args{};
  args.struct_size = sizeof(args);
  args.x = problem.x.abi();
  args.weight = problem.weight.abi();
  args.bias = problem.bias.abi();
  args.residual = problem.residual.abi();
  args.gate = problem.gate.abi();
  args.y = out.y.abi();
  args.residual_out = out.residual_out.abi();
  args.rstd = out.rstd.abi();
  args.mean = out.mean.abi();
  args.groups = problem.groups;
  args.window = problem.window;
  isonorm_rope rope;
  args.rope = RopeOf(problem, &rope);
  if (isonorm_forward(&problem.contract, problem.eps, &args) != ISONORM_OK) out.error = isonorm_last_error();
  return out;
}

Outputs RunBackward(Problem& problem, Tensor* saved_rstd, Tensor* saved_mean) {
  Outputs out;
  const Type compute = ComputeType(problem);
  out.dx = Tensor(problem.x.type(), problem.x.shape());
  if (problem.weight.present()) out.dweight = Tensor(problem.weight.type(), {problem.cols()});
  out.dbias = Tensor(problem.bias.present() ? problem.bias.type() : compute, {problem.cols()});
  if (problem.gate.present()) out.dgate = Tensor(problem.gate.type(), problem.x.shape());
  isonorm_backward_args args{};
  args.struct_size = sizeof(args);
  args.dy = problem.dy.abi();
  args.x = problem.x.abi();
  args.weight = problem.weight.abi();
  args.bias = problem.bias.abi();
  args.residual = problem.residual.abi();
  args.gate = problem.gate.abi();
  args.rstd = saved_rstd == nullptr ? nullptr : saved_rstd->abi();
  args.mean = saved_mean == nullptr ? nullptr : saved_mean->abi();
  args.dresidual = problem.dresidual.abi();
  args.dx = out.dx.abi();
  args.dweight = out.dweight.abi();
  args.dbias = out.dbias.abi();
  args.dgate = out.dgate.abi();
  args.groups = problem.groups;
  args.window = problem.window;
  isonorm_rope rope;
  args.rope = RopeOf(problem, &rope);
  size_t bytes = 0;
  isonorm_status status = isonorm_backward_workspace(&problem.contract, problem.eps, &args, &bytes);
  std::vector<uint8_t> workspace(bytes, 0xff);  // NaN in every type: whoever reads before writing shows
  args.workspace = workspace.data();
  args.workspace_size = bytes;
  if (status == ISONORM_OK) status = isonorm_backward(&problem.contract, problem.eps, &args);
  if (status != ISONORM_OK) out.error = isonorm_last_error();
  return out;
}

}  // namespace isonorm_test
