// The norm of a call: what all of its tensors must fit.
#pragma once

#include <vector>

#include "scene.h"

namespace isonorm_fuzz {

struct Norm {
  Norm(Bytes& bytes, Scene& scene, bool plain_rms);

  isonorm_dtype Free(Bytes& bytes) const;  // a type that a tensor may have beside x
  isonorm_dtype compute() const;
  std::vector<std::int64_t> RowShape() const;  // of x
  std::vector<std::int64_t> StatisticShape(Bytes& bytes) const;
  void Shape(Bytes& bytes, bool alike);  // new sizes and types: the next one of a chain
  void Seal(Scene& scene) { sealed = scene.Seal(contract); }

  bool layer() const { return contract.statistic == ISONORM_STATISTIC_LAYER; }

  isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  const isonorm_contract* sealed = nullptr;
  double eps = 1e-6;
  std::vector<std::int64_t> leading;
  std::int64_t cols = 1, groups = 1, window = 0;
  bool rotated = false;
  isonorm_dtype x = ISONORM_F32;
};

// The rotation of a norm's rows; sealed once there is memory.
struct Rope {
  isonorm_rope rope = {};
  Plan *cos = nullptr, *sin = nullptr, *positions = nullptr;
  const isonorm_rope* Seal(Scene& scene);
};
Rope MakeRope(Bytes& bytes, Scene& scene, const Norm& norm);

}  // namespace isonorm_fuzz
