#include "golden/tensors.h"

#include <cstring>
#include <utility>

namespace isonorm_cli {

Inputs::Inputs(const GoldenCase& c) {
  const auto make = [&c](Role role, Type type, int64_t rows) {
    return type == Type::kNone ? std::vector<uint8_t>() : MakeData(role, c.data, c.seed, rows, c.cols, type);
  };
  x = make(Role::kX, c.x, c.rows);
  weight = make(Role::kWeight, c.weight, 1);
  bias = make(Role::kBias, c.bias, 1);
  residual = make(Role::kResidual, c.residual, c.rows);
  gate = make(Role::kGate, c.gate(), c.rows);
  if (c.rope != 0) {
    cos = MakeTable(Table::kCos, c.seed, c.table_rows, c.pairs, c.table);
    sin = MakeTable(Table::kSin, c.seed, c.table_rows, c.pairs, c.table);
    if (c.positions != Type::kNone) positions = MakePositions(c.seed, c.tokens(), c.table_rows, c.positions);
  }
  if (c.op == Op::kForward) return;
  dy = make(Role::kDy, c.dy, c.rows);
  dresidual = make(Role::kDresidual, c.dresidual, c.rows);
  ddx = make(Role::kDdx, c.ddx, c.rows);
  ddweight = make(Role::kDdweight, c.ddweight, 1);
}

const isonorm_tensor* Window::Of(const Owned& buffer) {
  if (buffer == nullptr) return nullptr;
  const isonorm_tensor* whole = buffer->tensor();
  const int64_t cols = whole->shape[whole->ndim - 1];
  if (kind_ == Kind::kWhole || (kind_ == Kind::kRows && whole->ndim == 1)) return whole;
  View* view = &views_.emplace_back();
  kind_ == Kind::kRows ? buffer->Rows(first_, count_, view) : buffer->Columns(first_ * (cols / count_), cols / count_, view);
  return &view->tensor;
}

Tensors::Tensors(const GoldenCase& golden, const Inputs& inputs, const Setup& setup) : golden_(golden), setup_(setup) {
  leading_ = {golden.rows};
  if (golden.heads > 1) leading_ = {golden.tokens(), golden.heads};
  shape_ = leading_;
  shape_.push_back(golden.cols);
  x = Filled(Matrix(golden.x), inputs.x);
  weight = Filled(Vector(golden.weight), inputs.weight);
  bias = Filled(Vector(golden.bias), inputs.bias);
  residual = Filled(Matrix(golden.residual), inputs.residual);
  gate = Filled(Matrix(golden.gate()), inputs.gate);
  residual_out = Matrix(golden.residual);
  scale = MakeScale();
  if (golden.rope != 0) {
    cos = Filled(Make({golden.table_rows, golden.pairs}, golden.table), inputs.cos);
    sin = Filled(Make({golden.table_rows, golden.pairs}, golden.table), inputs.sin);
    positions = Filled(Make({golden.tokens()}, golden.positions), inputs.positions);
  }
  if (golden.op == Op::kForward) return;
  dy = Filled(Matrix(golden.dy), inputs.dy);
  dresidual = Filled(Matrix(golden.dresidual), inputs.dresidual);
  ddx = Filled(Matrix(golden.ddx), inputs.ddx);
  ddweight = Filled(Vector(golden.ddweight), inputs.ddweight);
}

Owned Tensors::Make(const std::vector<int64_t>& shape, Type type) {
  if (type == Type::kNone) return nullptr;
  // Every tensor is moved by another amount, so that no two agree by accident.
  const int offset = setup_.offset == 0 ? 0 : 1 + (setup_.offset + 2 * static_cast<int>(made_++)) % 7;
  return std::make_unique<Buffer>(shape, type, offset, setup_.padding);
}

Owned Tensors::Filled(Owned buffer, const std::vector<uint8_t>& bytes) const {
  if (buffer) buffer->Fill(bytes);
  return buffer;
}

Owned Tensors::Rstd() {
  std::vector<int64_t> shape = leading_;
  if (golden_.groups > 1) shape.push_back(golden_.groups);
  return Make(shape, golden_.compute());
}

Owned Tensors::MakeScale() {
  if (!golden_.quantizes()) return nullptr;
  if (!golden_.has_static_scale()) {
    std::vector<int64_t> shape = leading_;
    shape.push_back(golden_.scales());
    return Make(shape, golden_.quantization.scale_kind == ISONORM_SCALE_POWER_OF_TWO ? Type::kE8M0 : Type::kF32);
  }
  std::vector<uint8_t> bytes(sizeof(float));
  std::memcpy(bytes.data(), &golden_.static_scale, sizeof(float));
  return Filled(Make({1}, Type::kF32), bytes);
}

std::vector<const Buffer*> Tensors::InputsOf(bool backward) const {
  std::vector<const Buffer*> all;
  for (const Owned* each : {&x, &weight, &bias, &residual, &gate, &dy, &dresidual, &ddx, &ddweight, &cos, &sin, &positions}) {
    if (*each) all.push_back(each->get());
  }
  if (backward && residual_out) all.push_back(residual_out.get());
  if (golden_.quantizes() && golden_.has_static_scale()) all.push_back(scale.get());
  return all;
}

isonorm_forward_args Tensors::Forward(Window* window) {
  isonorm_forward_args args = {};
  args.struct_size = sizeof(args);
  args.x = window->Of(x);
  args.weight = window->Of(weight);
  args.bias = window->Of(bias);
  args.residual = window->Of(residual);
  args.gate = window->Of(gate);
  args.residual_out = window->Of(residual_out);
  args.groups = golden_.groups;
  args.window = golden_.window;
  args.executor = setup_.executor;
  if (golden_.quantizes() && golden_.op == Op::kForward) {
    args.quantization = &golden_.quantization;
    args.scale = golden_.has_static_scale() ? scale->tensor() : window->Of(scale);
  }
  if (golden_.rope != 0) {
    rope_ = {sizeof(rope_),          golden_.rope, 0, cos->tensor(), sin->tensor(), positions ? positions->tensor() : nullptr,
             golden_.position_offset};
    args.rope = &rope_;
  }
  return args;
}

isonorm_backward_args Tensors::Backward(bool stored_sum, Window* window) {
  const isonorm_forward_args forward = Forward(window);
  isonorm_backward_args args = {};
  args.struct_size = sizeof(args);
  args.dy = window->Of(dy);
  args.x = stored_sum ? nullptr : forward.x;
  args.weight = forward.weight;
  args.residual = stored_sum ? nullptr : forward.residual;
  args.residual_out = stored_sum ? forward.residual_out : nullptr;
  args.gate = forward.gate;
  args.bias = forward.bias;
  args.dresidual = window->Of(dresidual);
  args.groups = forward.groups;
  args.window = forward.window;
  args.executor = forward.executor;
  args.rope = forward.rope;
  return args;
}

}  // namespace isonorm_cli
