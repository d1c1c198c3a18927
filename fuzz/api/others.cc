// The vector functions, combine, and names.
#include <algorithm>
#include <memory>

#include "calls.h"
#include "nodes.h"

namespace isonorm_fuzz {
Prepared MakeRms(Bytes& bytes, Scene& scene) {
  Norm norm(bytes, scene, true);
  const std::int64_t which = bytes.Below(3);
  std::vector<std::int64_t> shape = norm.leading;
  if (shape.empty()) shape.push_back(1);
  Plan* x = scene.Tensor(norm.x, norm.RowShape());
  Plan* value = which == 1 ? scene.Tensor(norm.compute(), shape) : scene.Output(norm.compute(), shape);
  Plan* dx = which == 0 ? nullptr : scene.Output(norm.Free(bytes), norm.RowShape());
  if (dx != nullptr) scene.MaybeOver(dx, {x});
  isonorm_rms_penalty_args penalty = {};
  penalty.lambda = bytes.Pick({0.01, -1.0, 0.0, 1e-40, 1e30});
  if (bytes.OneIn(3)) penalty.flags = ISONORM_ACCUMULATE;
  scene.Knob(penalty.lambda);
  scene.Knob(penalty.flags);
  scene.Knob(penalty.reserved);
  scene.Spoil();
  if (!scene.Build()) return {};
  if (which == 0) {
    isonorm_rms_args args = {};
    args.x = Abi(x);
    args.rms = Abi(value);
    args.executor = scene.Executor();
    return {[&scene, value, sealed = scene.Seal(args)] {
      return scene.Try("isonorm_rms", {value}, [=] { return isonorm_rms(sealed); });
    }};
  }
  if (which == 1) {
    isonorm_rms_backward_args args = {};
    args.x = Abi(x);
    args.drms = Abi(value);
    args.dx = Abi(dx);
    args.executor = scene.Executor();
    return {[&scene, dx, sealed = scene.Seal(args)] {
      return scene.Try("isonorm_rms_backward", {dx}, [=] { return isonorm_rms_backward(sealed); });
    }};
  }
  penalty.x = Abi(x);
  penalty.penalty = Abi(value);
  penalty.dx = Abi(dx);
  penalty.executor = scene.Executor();
  return {[&scene, value, dx, sealed = scene.Seal(penalty)] {
    return scene.Try("isonorm_rms_penalty", {value, dx}, [=] { return isonorm_rms_penalty(sealed); });
  }};
}

Prepared MakeCombine(Bytes& bytes, Scene& scene) {
  Norm norm(bytes, scene, true);
  isonorm_combine_args args = {};
  const std::int64_t parts = bytes.Pick<std::int64_t>({2, 1, 3, 5, 9, 0});
  args.part_rows = bytes.Pick<std::int64_t>({32, 64, 128, 1 << 20});
  args.rows = parts == 0 ? 0 : args.part_rows * parts - bytes.Below(32);
  if (bytes.OneIn(3)) args.flags = ISONORM_ACCUMULATE;
  Plan* from = scene.Tensor(norm.compute(), {parts, norm.cols});
  Plan* gradient = scene.Output(norm.Free(bytes), {norm.cols});
  if (bytes.OneIn(8)) scene.MaybeOver(gradient, {from});
  scene.Knob(args.rows);
  scene.Knob(args.part_rows);
  scene.Knob(args.flags);
  scene.Knob(args.reserved);
  scene.Spoil();
  if (!scene.Build()) return {};
  args.parts = Abi(from);
  args.gradient = Abi(gradient);
  args.executor = scene.Executor();
  return {[&scene, gradient, sealed = scene.Seal(args)] {
    return scene.Try("isonorm_combine_gradients", {gradient}, [=] { return isonorm_combine_gradients(sealed); });
  }};
}

Prepared MakeNames(Bytes& bytes, Scene& scene) {
  const auto index = static_cast<std::size_t>(bytes.OneIn(2) ? bytes.Below(16) : bytes.Wild());
  const std::size_t size = static_cast<std::size_t>(bytes.OneIn(3) ? bytes.Wild() : bytes.Pick({64, 48, 0, 8, 56, 72, 200}));
  const bool null = bytes.OneIn(8);
  char* const text = reinterpret_cast<char*>(scene.memory.Add(8, 'a'));
  text[7] = '\0';
  const auto block = reinterpret_cast<isonorm_contract*>(scene.memory.Add(std::min<std::size_t>(size, 4096)));
  if ((isonorm_contract_name(index) == nullptr) != (index >= isonorm_contract_count())) Complain("a contract's name");
  if ((isonorm_target_name(index) == nullptr) != (index >= isonorm_target_count())) Complain("a target's name");
  if ((isonorm_kernel_name(index) == nullptr) != (index >= isonorm_kernel_count())) Complain("a kernel's name");
  if (*isonorm_status_name(static_cast<isonorm_status>(static_cast<std::int32_t>(index))) == '\0') Complain("a status' name");
  const std::int64_t cols = bytes.Wild(), ranks = isonorm_max_ranks(cols);
  if ((cols > 0) != (ranks > 0) || (ranks & (ranks - 1)) != 0) Complain("a number of ranks");
  const char* const name = null ? nullptr : index < isonorm_contract_count() ? isonorm_contract_name(index) : text;
  scene.scratch.emplace_back(block, std::min<std::size_t>(size, 4096));
  return {[=, &scene] {
    scene.Try("isonorm_set_target", {}, [=] { return isonorm_set_target(text); });
    return scene.Try("isonorm_contract_by_name", {},
                     [=] { return isonorm_contract_by_name(name, null && size % 2 == 0 ? nullptr : block, size); });
  }};
}

}  // namespace isonorm_fuzz
