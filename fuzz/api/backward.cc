// Backward and double backward, with the statistic as forward writes it.
#include <algorithm>
#include <memory>

#include "calls.h"
#include "nodes.h"

namespace isonorm_fuzz {

void PlanNode(Bytes& bytes, Scene& scene, const Norm& norm, bool shard, BackwardNode& node) {
  const auto row = [&](isonorm_dtype dtype) { return scene.Tensor(dtype, norm.RowShape()); };
  node.dy = row(norm.Free(bytes));
  node.x = row(norm.x);
  if (!bytes.OneIn(3)) node.weight = scene.Tensor(norm.Free(bytes), {norm.cols});
  if (bytes.OneIn(4)) node.bias = scene.Tensor(norm.Free(bytes), {norm.cols});
  if (norm.contract.gate_place != ISONORM_GATE_NONE) {
    node.gate = row(norm.Free(bytes));
    if (bytes.OneIn(2)) node.dgate = scene.Output(node.gate->dtype, norm.RowShape());
  } else if (bytes.OneIn(3)) {
    Plan*& sum = bytes.OneIn(2) && norm.contract.sum_rounding == ISONORM_SUM_STORED ? node.residual_out : node.residual;
    sum = row(norm.Free(bytes));
    if (&sum == &node.residual_out && !bytes.OneIn(3)) {
      node.x->unseen = true;
      node.x = nullptr;
    }
    if (bytes.OneIn(2)) node.dresidual = row(norm.Free(bytes));
  }
  if (!shard && bytes.OneIn(2)) {
    // Of the forward call, or of somebody else, and then perhaps too little for some of the rows.
    const isonorm_dtype type = bytes.OneIn(3) ? norm.Free(bytes) : norm.compute();
    const bool own = !bytes.OneIn(3);
    const auto statistic = [&] {
      const std::vector<std::int64_t> shape = norm.StatisticShape(bytes);
      return own ? scene.Output(type, shape) : scene.Tensor(type, shape);
    };
    node.rstd = statistic();
    if (norm.layer()) node.mean = statistic();
  }
  if (!bytes.OneIn(4)) {
    node.dx = scene.Output(norm.x, norm.RowShape());
    scene.MaybeOver(node.dx, {node.dy, node.x, node.residual, node.dresidual, node.gate, node.residual_out});
  }
  if (node.dgate != nullptr) scene.MaybeOver(node.dgate, {node.gate, node.dy, node.x});
  const auto gradient = [&](const Plan* of) {
    return scene.Output(of == nullptr ? norm.Free(bytes) : bytes.OneIn(2) ? norm.compute() : of->dtype, {norm.cols});
  };
  if (node.weight != nullptr && bytes.OneIn(2)) node.dweight = gradient(node.weight);
  if (bytes.OneIn(3)) node.dbias = gradient(node.bias);
  if (norm.rotated) node.rope = MakeRope(bytes, scene, norm);
  node.args.groups = norm.groups;
  node.args.window = norm.window;
  if (bytes.OneIn(4)) node.args.flags = ISONORM_ACCUMULATE;
  scene.Knob(node.args.groups);
  scene.Knob(node.args.window);
  scene.Knob(node.args.flags);
  scene.Knob(node.args.reserved);
  scene.Switch([&node] { node.args.stream = &node; });
}

isonorm_backward_args* SealNode(Scene& scene, BackwardNode& node, const isonorm_executor* executor,
                                const isonorm_backward_args* also) {
  isonorm_backward_args& args = node.args;
  args.dy = Abi(node.dy);
  args.x = Abi(node.x);
  args.weight = Abi(node.weight);
  args.bias = Abi(node.bias);
  args.residual = Abi(node.residual);
  args.residual_out = Abi(node.residual_out);
  args.gate = Abi(node.gate);
  if (node.rope.cos != nullptr) args.rope = node.rope.Seal(scene);
  args.mean = Abi(node.mean);
  args.rstd = Abi(node.rstd);
  args.dresidual = Abi(node.dresidual);
  args.dx = Abi(node.dx);
  args.dweight = Abi(node.dweight);
  args.dbias = Abi(node.dbias);
  args.dgate = Abi(node.dgate);
  args.executor = executor;
  args.also = also;
  return scene.Seal(args);
}

isonorm_forward_args ForwardOf(const isonorm_backward_args& args) {
  isonorm_forward_args forward = {};
  forward.struct_size = sizeof forward;
  forward.x = args.residual_out != nullptr ? args.residual_out : args.x;
  forward.residual = args.residual;
  forward.gate = args.gate;
  forward.groups = args.groups;
  forward.window = args.window;
  forward.mean = args.mean;
  forward.rstd = args.rstd;
  return forward;
}

Prepared MakeBackward(Bytes& bytes, Scene& scene) {
  Norm norm(bytes, scene, false);
  std::deque<BackwardNode> nodes;
  for (std::int64_t count = bytes.OneIn(4) ? bytes.Pick({2, 3, 4, 2, 3, 4, 5}) : 1; count > 0; --count) {
    if (!nodes.empty()) norm.Shape(bytes, true);
    PlanNode(bytes, scene, norm, false, nodes.emplace_back());
  }
  bool circle = false;
  scene.Switch([&] { circle = true; });
  scene.Spoil();
  if (!scene.Build()) return {};
  norm.Seal(scene);
  isonorm_backward_args *first = nullptr, *last = nullptr;
  for (std::size_t i = nodes.size(); i-- > 0;) {
    first = SealNode(scene, nodes[i], i == 0 ? scene.Executor() : nullptr, first);
    if (last == nullptr) last = first;
  }
  if (circle) scene.Set<isonorm_backward_args, const isonorm_backward_args*>(last, &isonorm_backward_args::also, first);
  std::vector<const Plan*> outputs;
  for (const BackwardNode& node : nodes) {
    for (const Plan* plan : {node.dx, node.dweight, node.dbias, node.dgate}) outputs.push_back(plan);
    if (node.rstd == nullptr || !node.rstd->output) continue;
    const isonorm_forward_args forward = ForwardOf(node.args);
    const isonorm_status status =
        scene.Try("isonorm_forward", {node.mean, node.rstd}, [&] { return isonorm_forward(norm.sealed, norm.eps, &forward); });
    if (status != ISONORM_OK) scene.comparable = false;
  }
  auto* const size = reinterpret_cast<std::size_t*>(scene.memory.Add(sizeof(std::size_t)));
  scene.scratch.emplace_back(size, sizeof *size);
  const auto measure = [=, contract = norm.sealed, eps = norm.eps] {
    return isonorm_backward_workspace(contract, eps, first, size);
  };
  if (scene.Try("isonorm_backward_workspace", {}, measure) == ISONORM_OK) SetWorkspace(scene, first, *size);
  return [&scene, outputs, measure, contract = norm.sealed, eps = norm.eps, first] {
    scene.Try("isonorm_backward_workspace", {}, measure);
    return scene.Try("isonorm_backward", outputs, [=] { return isonorm_backward(contract, eps, first); });
  };
}

Prepared MakeDoubleBackward(Bytes& bytes, Scene& scene) {
  Norm norm(bytes, scene, true);
  const auto row = [&](isonorm_dtype dtype) { return scene.Tensor(dtype, norm.RowShape()); };
  isonorm_double_backward_args args = {};
  Plan *dy = row(norm.Free(bytes)), *x = row(norm.x), *ddx = row(norm.Free(bytes));
  Plan *weight = nullptr, *ddweight = nullptr, *dweight = nullptr, *rstd = nullptr;
  if (!bytes.OneIn(3)) {
    weight = scene.Tensor(norm.Free(bytes), {norm.cols});
    if (bytes.OneIn(2)) ddweight = scene.Tensor(norm.Free(bytes), {norm.cols});
    if (bytes.OneIn(2)) dweight = scene.Output(weight->dtype, {norm.cols});
  }
  if (bytes.OneIn(2)) {
    const std::vector<std::int64_t> shape = norm.StatisticShape(bytes);
    rstd = bytes.OneIn(3) ? scene.Tensor(norm.Free(bytes), shape) : scene.Output(norm.compute(), shape);
  }
  Plan *dx = scene.Output(norm.x, norm.RowShape()), *ddy = scene.Output(dy->dtype, norm.RowShape());
  scene.MaybeOver(dx, {x, dy, ddx});
  scene.MaybeOver(ddy, {dy, ddx, x});
  args.groups = norm.groups;
  if (bytes.OneIn(4)) args.flags = ISONORM_ACCUMULATE;
  scene.Knob(args.groups);
  scene.Knob(args.flags);
  scene.Knob(args.reserved);
  scene.Spoil();
  if (!scene.Build()) return {};
  norm.Seal(scene);
  args.dy = Abi(dy);
  args.x = Abi(x);
  args.weight = Abi(weight);
  args.rstd = Abi(rstd);
  args.ddx = Abi(ddx);
  args.ddweight = Abi(ddweight);
  args.dx = Abi(dx);
  args.dweight = Abi(dweight);
  args.ddy = Abi(ddy);
  args.executor = scene.Executor();
  isonorm_double_backward_args* const sealed = scene.Seal(args);
  if (rstd != nullptr && rstd->output) {
    isonorm_forward_args forward = {};
    forward.struct_size = sizeof forward;
    forward.x = args.x;
    forward.groups = args.groups;
    forward.rstd = args.rstd;
    const isonorm_status status =
        scene.Try("isonorm_forward", {rstd}, [&] { return isonorm_forward(norm.sealed, norm.eps, &forward); });
    if (status != ISONORM_OK) scene.comparable = false;
  }
  auto* const size = reinterpret_cast<std::size_t*>(scene.memory.Add(sizeof(std::size_t)));
  scene.scratch.emplace_back(size, sizeof *size);
  const auto measure = [=, contract = norm.sealed, eps = norm.eps] {
    return isonorm_double_backward_workspace(contract, eps, sealed, size);
  };
  if (scene.Try("isonorm_double_backward_workspace", {}, measure) == ISONORM_OK) SetWorkspace(scene, sealed, *size);
  return [=, &scene, contract = norm.sealed, eps = norm.eps] {
    scene.Try("isonorm_double_backward_workspace", {}, measure);
    return scene.Try("isonorm_double_backward", {dx, dweight, ddy},
                     [=] { return isonorm_double_backward(contract, eps, sealed); });
  };
}

}  // namespace isonorm_fuzz
