// Forward calls, and chains of them.
#include <memory>

#include "calls.h"
#include "nodes.h"

namespace isonorm_fuzz {
namespace {

void PlanQuantization(Bytes& bytes, Scene& scene, const Norm& norm, ForwardNode& node) {
  isonorm_quantization& q = node.quantization;
  node.y = scene.Output(bytes.Pick({ISONORM_I8, ISONORM_E4M3, ISONORM_E5M2}), norm.RowShape());
  q.scale_kind = bytes.Pick({ISONORM_SCALE_DYNAMIC, ISONORM_SCALE_STATIC, ISONORM_SCALE_POWER_OF_TWO});
  if (bytes.OneIn(3)) q.rounded_to = bytes.Pick({ISONORM_BF16, ISONORM_F16});
  if (q.scale_kind != ISONORM_SCALE_STATIC && bytes.OneIn(2)) q.group_cols = bytes.Pick<std::int64_t>({32, 64, 128});
  if (bytes.OneIn(4)) q.min_scale = bytes.Pick({0x1p-10, 0x1p-126, 1e-3});
  if (bytes.OneIn(4)) q.scale_ub = bytes.Pick({1.0, 1200.0, 1e-20});
  scene.Knob(q.scale_kind);
  scene.Knob(q.group_cols);
  scene.Knob(q.min_scale);
  scene.Knob(q.scale_ub);
  if (q.scale_kind == ISONORM_SCALE_STATIC) {
    node.scale = scene.Tensor(ISONORM_F32, {1}, Fill::kPositive);
    return;
  }
  std::vector<std::int64_t> shape = norm.leading;
  if (q.group_cols > 0) {
    shape.push_back(norm.cols / q.group_cols);
  } else if (shape.empty() || bytes.OneIn(2)) {
    shape.push_back(1);
  }
  node.scale =
      scene.Output(q.scale_kind == ISONORM_SCALE_DYNAMIC ? ISONORM_F32 : bytes.Pick({ISONORM_E8M0, ISONORM_U8}), shape);
}

}  // namespace

void PlanNode(Bytes& bytes, Scene& scene, const Norm& norm, bool shard, ForwardNode& node) {
  node.x = scene.Tensor(norm.x, norm.RowShape());
  if (!bytes.OneIn(3)) node.weight = scene.Tensor(norm.Free(bytes), {norm.cols});
  if (bytes.OneIn(4)) node.bias = scene.Tensor(norm.Free(bytes), {norm.cols});
  if (norm.contract.gate_place != ISONORM_GATE_NONE) {
    node.gate = scene.Tensor(norm.Free(bytes), norm.RowShape());
  } else if (bytes.OneIn(3)) {
    node.residual = scene.Tensor(norm.Free(bytes), norm.RowShape());
    if (bytes.OneIn(2)) {
      node.residual_out = scene.Output(node.residual->dtype, norm.RowShape());
      scene.MaybeOver(node.residual_out, {node.x, node.residual});
    }
  }
  if (norm.compute().bits == 32 && bytes.OneIn(5)) {
    PlanQuantization(bytes, scene, norm, node);
  } else if (!bytes.OneIn(16)) {
    node.y = scene.Output(norm.Free(bytes), norm.RowShape());
    scene.MaybeOver(node.y, {node.x, node.residual, node.gate, node.residual_out});
  }
  if (bytes.OneIn(3)) node.rstd = scene.Output(bytes.OneIn(3) ? norm.Free(bytes) : norm.compute(), norm.StatisticShape(bytes));
  if (norm.layer() && bytes.OneIn(2))
    node.mean = scene.Output(bytes.OneIn(3) ? norm.Free(bytes) : norm.compute(), norm.StatisticShape(bytes));
  if (norm.rotated) node.rope = MakeRope(bytes, scene, norm);
  node.args.groups = norm.groups == 1 && bytes.OneIn(2) ? 0 : norm.groups;
  node.args.window = norm.window;
  scene.Knob(node.args.groups);
  scene.Knob(node.args.window);
  if (!shard) scene.Switch([&node] { node.args.stream = &node; });
}

isonorm_forward_args* SealNode(Scene& scene, ForwardNode& node, const isonorm_executor* executor,
                               const isonorm_forward_args* also) {
  isonorm_forward_args& args = node.args;
  args.x = Abi(node.x);
  args.weight = Abi(node.weight);
  args.bias = Abi(node.bias);
  args.residual = Abi(node.residual);
  args.gate = Abi(node.gate);
  if (node.rope.cos != nullptr) args.rope = node.rope.Seal(scene);
  if (node.quantization.scale_kind != 0) args.quantization = scene.Seal(node.quantization);
  args.scale = Abi(node.scale);
  args.y = Abi(node.y);
  args.residual_out = Abi(node.residual_out);
  args.mean = Abi(node.mean);
  args.rstd = Abi(node.rstd);
  args.executor = executor;
  args.also = also;
  return scene.Seal(args);
}

Prepared MakeForward(Bytes& bytes, Scene& scene) {
  Norm norm(bytes, scene, false);
  std::deque<ForwardNode> nodes;
  for (std::int64_t count = bytes.OneIn(4) ? bytes.Pick({2, 3, 4, 2, 3, 4, 5}) : 1; count > 0; --count) {
    if (!nodes.empty()) norm.Shape(bytes, true);
    PlanNode(bytes, scene, norm, false, nodes.emplace_back());
    if (nodes.size() > 1 && nodes[0].y != nullptr && nodes.back().y != nullptr) scene.MaybeOver(nodes.back().y, {nodes[0].y});
  }
  bool circle = false;
  scene.Switch([&] { circle = true; });
  scene.Spoil();
  if (!scene.Build()) return {};
  norm.Seal(scene);
  isonorm_forward_args *first = nullptr, *last = nullptr;
  for (std::size_t i = nodes.size(); i-- > 0;) {
    first = SealNode(scene, nodes[i], i == 0 ? scene.Executor() : nullptr, first);
    if (last == nullptr) last = first;
  }
  if (circle) scene.Set<isonorm_forward_args, const isonorm_forward_args*>(last, &isonorm_forward_args::also, first);
  auto* const size = reinterpret_cast<std::size_t*>(scene.memory.Add(sizeof(std::size_t)));
  scene.scratch.emplace_back(size, sizeof *size);
  const auto outputs = std::make_shared<std::vector<const Plan*>>();
  for (const ForwardNode& node : nodes) {
    for (const Plan* plan : {node.y, node.residual_out, node.mean, node.rstd}) outputs->push_back(plan);
    if (node.scale != nullptr && node.quantization.scale_kind != ISONORM_SCALE_STATIC) outputs->push_back(node.scale);
  }
  return {[&scene, outputs, size, contract = norm.sealed, eps = norm.eps, first] {
    scene.Try("isonorm_forward_workspace", {}, [=] { return isonorm_forward_workspace(contract, eps, first, size); });
    return scene.Try("isonorm_forward", *outputs, [=] { return isonorm_forward(contract, eps, first); });
  }};
}

}  // namespace isonorm_fuzz
