#include "norm.h"

namespace isonorm_fuzz {
namespace {

bool Is(isonorm_dtype a, isonorm_dtype b) { return a.code == b.code && a.bits == b.bits; }

}  // namespace

Norm::Norm(Bytes& bytes, Scene& scene, bool plain_rms) {
  const isonorm_contract contracts[] = {
      ISONORM_CONTRACT_TORCH, ISONORM_CONTRACT_LLAMA, ISONORM_CONTRACT_LAYER_NORM, ISONORM_CONTRACT_GEMMA,
      ISONORM_CONTRACT_T5,    ISONORM_CONTRACT_PAPER, ISONORM_CONTRACT_MAMBA2,     ISONORM_CONTRACT_QWEN3_NEXT_GATED,
  };
  contract = contracts[bytes.Below(plain_rms ? 2 : std::size(contracts))];
  if (bytes.OneIn(4)) contract.sum_rounding = ISONORM_SUM_KEPT;
  if (bytes.OneIn(4)) contract.gate_function = ISONORM_GATE_SIGMOID;
  if (bytes.OneIn(6)) contract.scaled_rounding = bytes.Pick({1, 2, 3});
  if (bytes.OneIn(6)) contract.rotation_rounding = bytes.Pick({1, 2});
  if (bytes.OneIn(8)) contract.weight_offset = bytes.Pick({1.0, 0.5, -1.0, 1e30});
  eps = bytes.Pick({1e-6, 1e-5, 0.0, 1.0, 1e-30, 1e30});
  for (std::int32_t* field : {&contract.statistic, &contract.eps_place, &contract.scaled_rounding, &contract.sum_rounding,
                              &contract.gate_place, &contract.gate_function, &contract.rotation_rounding, &contract.reserved}) {
    scene.Knob(*field);
  }
  scene.Knob(contract.weight_offset);
  scene.Knob(eps);
  Shape(bytes, false);
}

void Norm::Shape(Bytes& bytes, bool alike) {
  if (!alike) x = bytes.Pick({ISONORM_F32, ISONORM_BF16, ISONORM_F16, ISONORM_F32, ISONORM_BF16, ISONORM_F64});
  if (contract.gate_place != ISONORM_GATE_NONE && Is(x, ISONORM_F64) && !bytes.OneIn(4)) x = ISONORM_F32;
  if (alike && !Is(x, ISONORM_F64) && bytes.OneIn(2)) x = bytes.Pick({ISONORM_F32, ISONORM_BF16, ISONORM_F16});
  groups = 1;
  window = 0;
  rotated = contract.gate_place != ISONORM_GATE_AFTER && bytes.OneIn(4);
  leading.clear();
  for (std::int64_t i = bytes.Pick({1, 2, 0, 3, 4}); i > 0 || (rotated && leading.empty()); --i) {
    leading.push_back(bytes.Pick<std::int64_t>({2, 3, 1, 4, 7, 0, 33}));
  }
  cols = bytes.Pick<std::int64_t>({64,  128, 1,   2,   3,   7,   16,  17,  32,   48,   63,   65,   96,   100,
                                   129, 192, 256, 257, 320, 512, 513, 768, 1024, 1040, 2304, 4096, 4100, 0});
  if (rotated) cols = bytes.Pick<std::int64_t>({64, 128, 2, 8, 20, 192, 256, 512, 640});
  if (bytes.OneIn(6)) {
    groups = bytes.Pick<std::int64_t>({2, 4, 3, 8});
    cols = rotated ? cols * groups : (cols / groups + 1) * groups;
  }
  const std::int64_t most = bytes.Pick({2500, 2500, 2500, 2500, 2500, 2500, 2500, 20000});
  std::int64_t values = cols;
  for (std::int64_t& size : leading) {
    if (values * size > most) size = 1;
    values *= size;
  }
  if (!layer() && bytes.OneIn(10)) window = 1 + bytes.Below(cols / groups + 1);
}

isonorm_dtype Norm::Free(Bytes& bytes) const {
  if (bytes.OneIn(2)) return x;
  return Is(x, ISONORM_F64) ? ISONORM_F64 : bytes.Pick({ISONORM_F32, ISONORM_BF16, ISONORM_F16});
}

isonorm_dtype Norm::compute() const { return Is(x, ISONORM_F64) ? ISONORM_F64 : ISONORM_F32; }

std::vector<std::int64_t> Norm::RowShape() const {
  std::vector<std::int64_t> shape = leading;
  shape.push_back(cols);
  return shape;
}

std::vector<std::int64_t> Norm::StatisticShape(Bytes& bytes) const {
  std::vector<std::int64_t> shape = leading;
  if (groups > 1 || shape.empty() || bytes.OneIn(4)) shape.push_back(groups);
  return shape;
}

Rope MakeRope(Bytes& bytes, Scene& scene, const Norm& norm) {
  Rope made;
  isonorm_rope& rope = made.rope;
  const std::int64_t head = norm.cols / norm.groups, most = head / 2;
  const std::int64_t half = bytes.OneIn(4) ? 1 + bytes.Below(most) : most;
  const isonorm_dtype type = bytes.OneIn(2) ? norm.x : norm.compute();
  rope.style = bytes.Pick({ISONORM_ROPE_HALF, ISONORM_ROPE_INTERLEAVED});
  std::int64_t positions = 40;
  const std::int64_t leading = static_cast<std::int64_t>(norm.leading.size());
  if (bytes.OneIn(2)) {
    std::vector<std::int64_t> shape(norm.leading.begin(), norm.leading.begin() + 1 + bytes.Below(leading));
    made.positions = scene.Tensor(bytes.Pick({ISONORM_I64, ISONORM_I32}), shape, Fill::kPositions);
    made.positions->positions = positions + (bytes.OneIn(20) ? 1 : 0);
  } else {
    rope.position_dim = static_cast<std::int32_t>(bytes.Below(leading));
    rope.position_offset = bytes.Below(8);
  }
  made.cos = scene.Tensor(type, {positions, half});
  made.sin = scene.Tensor(type, {positions, half});
  return made;
}

const isonorm_rope* Rope::Seal(Scene& scene) {
  rope.cos = cos->abi;
  rope.sin = sin->abi;
  if (positions != nullptr) rope.positions = positions->abi;
  return scene.Seal(rope);
}

}  // namespace isonorm_fuzz
