// What ranks that share rows do, forward and backward: rounds of ranks that all hold the same columns.
#include <algorithm>
#include <memory>

#include "calls.h"
#include "nodes.h"

namespace isonorm_fuzz {
namespace {

// What all ranks send, if they hold the same: copies of what this one sends. False if they do not fit where they are gathered,
// as where several are the same element.
bool Gather(const Plan& partial, const Plan& gathered) {
  std::vector<std::uint8_t> sent;
  ForEachRun(partial, [&](const std::uint8_t* at, std::int64_t count) {
    sent.insert(sent.end(), at, at + count * static_cast<std::int64_t>(partial.ElementSize()));
  });
  if (sent.empty()) return true;
  const auto for_each_byte = [&](auto use) {
    std::size_t i = 0;
    ForEachRun(gathered, [&](std::uint8_t* at, std::int64_t count) {
      for (std::size_t bytes = static_cast<std::size_t>(count) * gathered.ElementSize(); bytes > 0; --bytes)
        use(*at++, sent[i++ % sent.size()]);
    });
  };
  for_each_byte([](std::uint8_t& byte, std::uint8_t value) { byte = value; });
  bool all = true;
  for_each_byte([&all](std::uint8_t byte, std::uint8_t value) { all = all && byte == value; });
  return all;
}

// A norm whose rows some ranks share, with what they exchange.
struct Ranks {
  Ranks(Bytes& bytes, Scene& scene) : norm(bytes, scene, false) {
    norm.groups = 1;
    norm.window = 0;
    norm.rotated = norm.rotated && bytes.OneIn(8);
    shard.ranks = bytes.Pick<std::int64_t>({2, 1, 4, 8});
    while (shard.ranks > 1 && isonorm_max_ranks(norm.cols * shard.ranks) < shard.ranks) shard.ranks /= 2;
    std::int64_t rows = 1;
    for (const std::int64_t size : norm.leading) rows *= size;
    const std::int64_t values = norm.layer() ? 2 : 1;
    partial = scene.Output(norm.compute(), {rows, values});
    gathered = scene.Tensor(norm.compute(), {shard.ranks, rows, values});
    statistic = scene.Output(norm.compute(), {rows, 4});
    scene.MaybeOver(partial, {gathered});
    scene.Knob(shard.ranks);
  }
  void Seal(Scene& scene) {
    norm.Seal(scene);
    shard.partial = Abi(partial);
    shard.gathered = Abi(gathered);
    shard.statistic = Abi(statistic);
    sealed = scene.Seal(shard);
    partial->unseen = true;  // backward_finish does not look at it
    gathered->unseen = dweight_alone;
    if (dweight_alone) shard.gathered = nullptr;
    for_backward = scene.Seal(shard);
    round = reinterpret_cast<std::int32_t*>(scene.memory.Add(sizeof(std::int32_t)));
    scene.scratch.emplace_back(round, sizeof *round);
  }

  Norm norm;
  isonorm_shard shard = {};
  Plan *partial = nullptr, *gathered = nullptr, *statistic = nullptr;
  bool dweight_alone = false;  // or dbias: what backward wants of this rank's columns, for which nothing need be gathered
  const isonorm_shard *sealed = nullptr, *for_backward = nullptr;
  std::int32_t* round = nullptr;
};

isonorm_status Forward(Scene& scene, const Ranks& ranks, const isonorm_forward_args* args,
                       const std::vector<const Plan*>& outputs) {
  std::int32_t round = 0;
  for (int turn = 0; turn < 8; ++turn) {
    isonorm_status status = scene.Try("isonorm_forward_partial", {ranks.partial}, [&] {
      return isonorm_forward_partial(ranks.norm.sealed, ranks.norm.eps, args, ranks.sealed, round);
    });
    if (status != ISONORM_OK) return status;
    if (!Gather(*ranks.partial, *ranks.gathered)) scene.comparable = false;
    std::memcpy(ranks.round, &round, sizeof round);
    status = scene.Try("isonorm_forward_finish", outputs, [&] {
      return isonorm_forward_finish(ranks.norm.sealed, ranks.norm.eps, args, ranks.sealed, ranks.round);
    });
    std::memcpy(&round, ranks.round, sizeof round);
    if (status != ISONORM_OK || round == 0) return status;
  }
  Complain("the ranks' rounds do not end");
}

}  // namespace

Prepared MakeShards(Bytes& bytes, Scene& scene) {
  const auto ranks = std::make_shared<Ranks>(bytes, scene);
  const auto node = std::make_shared<ForwardNode>();
  PlanNode(bytes, scene, ranks->norm, true, *node);
  scene.Spoil();
  if (!scene.Build()) return {};
  ranks->Seal(scene);
  const isonorm_forward_args* const args = SealNode(scene, *node, scene.Executor(), nullptr);
  std::vector<const Plan*> outputs = {ranks->statistic, node->y, node->residual_out, node->mean, node->rstd};
  if (node->scale != nullptr && node->quantization.scale_kind != ISONORM_SCALE_STATIC) outputs.push_back(node->scale);
  return {[=, &scene] { return Forward(scene, *ranks, args, outputs); }};
}

Prepared MakeBackwardShards(Bytes& bytes, Scene& scene) {
  const auto ranks = std::make_shared<Ranks>(bytes, scene);
  const auto node = std::make_shared<BackwardNode>();
  PlanNode(bytes, scene, ranks->norm, true, *node);
  Plan* const rstd = scene.Output(ranks->norm.compute(), ranks->norm.StatisticShape(bytes));  // forward wants some output
  rstd->unseen = true;
  if (bytes.OneIn(3)) {
    for (Plan** rows : {&node->dx, &node->dgate}) {
      if (*rows != nullptr) (*rows)->unseen = true;
      *rows = nullptr;
    }
  }
  ranks->dweight_alone = node->dx == nullptr && node->dgate == nullptr && bytes.OneIn(2);
  scene.Spoil();
  if (!scene.Build()) return {};
  ranks->Seal(scene);
  isonorm_backward_args* const args = SealNode(scene, *node, scene.Executor(), nullptr);
  isonorm_forward_args forward = ForwardOf(node->args);
  forward.rstd = Abi(rstd);
  if (Forward(scene, *ranks, &forward, {ranks->statistic, rstd}) != ISONORM_OK) scene.comparable = false;
  std::size_t size = 0;
  const Norm& norm = ranks->norm;
  if (scene.Try("isonorm_backward_workspace", {},
                [&] { return isonorm_backward_workspace(norm.sealed, norm.eps, args, &size); }) == ISONORM_OK) {
    SetWorkspace(scene, args, size);
  }
  const std::vector<const Plan*> outputs = {node->dx, node->dweight, node->dbias, node->dgate};
  return [=, &scene] {
    const Norm& of = ranks->norm;
    const isonorm_status status = scene.Try("isonorm_backward_partial", {ranks->partial}, [&] {
      return isonorm_backward_partial(of.sealed, of.eps, args, ranks->for_backward);
    });
    if (status != ISONORM_OK) return status;
    if (!ranks->dweight_alone && !Gather(*ranks->partial, *ranks->gathered)) scene.comparable = false;
    return scene.Try("isonorm_backward_finish", outputs,
                     [&] { return isonorm_backward_finish(of.sealed, of.eps, args, ranks->for_backward); });
  };
}

}  // namespace isonorm_fuzz
