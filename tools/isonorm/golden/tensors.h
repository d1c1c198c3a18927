// The tensors of a golden case in memory, and the arguments of calls on them.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "golden/buffer.h"
#include "golden/run.h"

namespace isonorm_cli {

// The bytes of every input, made once for all setups of a case.
struct Inputs {
  explicit Inputs(const GoldenCase& golden);
  std::vector<uint8_t> x, weight, bias, residual, gate, dy, dresidual, ddx, ddweight, cos, sin, positions;
};

using Owned = std::unique_ptr<Buffer>;  // null: there is no such tensor

// How a call sees the tensors: all of them whole, or the same part of each.
class Window {
 public:
  enum class Kind { kWhole, kColumns, kRows };
  Window() = default;
  Window(Kind kind, int64_t first, int64_t count) : kind_(kind), first_(first), count_(count) {}
  // Valid as long as this and the buffer. Rows are those of matrices, columns those of vectors too, in parts of `count`.
  const isonorm_tensor* Of(const Owned& buffer);

 private:
  Kind kind_ = Kind::kWhole;
  int64_t first_ = 0, count_ = 0;  // columns: the part's number, and how many parts there are
  std::deque<View> views_;
};

// Everything of one case in one setup. Outputs hold a pattern until they are written.
class Tensors {
 public:
  Tensors(const GoldenCase& golden, const Inputs& inputs, const Setup& setup);

  Owned Make(const std::vector<int64_t>& shape, Type type);
  Owned Matrix(Type type) { return Make(shape_, type); }
  Owned Vector(Type type) { return Make({golden_.cols}, type); }
  Owned Rstd();
  std::vector<const Buffer*> InputsOf(bool backward) const;

  // Without the outputs y and rstd; of backward, without any output or workspace.
  isonorm_forward_args Forward(Window* window);
  isonorm_backward_args Backward(bool stored_sum, Window* window);

  Owned x, weight, bias, residual, gate, dy, dresidual, ddx, ddweight, cos, sin, positions;
  Owned residual_out, scale;

 private:
  Owned Filled(Owned buffer, const std::vector<uint8_t>& bytes) const;
  Owned MakeScale();

  const GoldenCase& golden_;
  const Setup& setup_;
  unsigned made_ = 0;  // tensors made so far
  std::vector<int64_t> shape_, leading_;
  isonorm_rope rope_ = {};
};

}  // namespace isonorm_cli
