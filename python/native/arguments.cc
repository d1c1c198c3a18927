#include "arguments.h"

#include <algorithm>
#include <limits>
#include <string>

#include "common.h"

namespace isonorm_python {
namespace {

// Goes through the entries of a tuple, which have to be `count`.
class Reader {
 public:
  Reader(nb::handle tuple, Py_ssize_t count, const char* what, Source source = Source::kNumPy)
      : tuple_(tuple), source_(source) {
    if (!PyTuple_Check(tuple.ptr()) || PyTuple_Size(tuple.ptr()) != count) {
      throw nb::type_error((std::string(what) + " has to be a tuple of " + std::to_string(count)).c_str());
    }
  }
  nb::handle Next() { return PyTuple_GetItem(tuple_.ptr(), index_++); }
  std::int64_t Integer(const char* name) { return isonorm_python::Integer(Next(), name); }
  // Cut to 32 bits where it is larger, which no choice allows.
  std::int32_t Choice(const char* name) {
    using Limits = std::numeric_limits<std::int32_t>;
    return static_cast<std::int32_t>(std::clamp<std::int64_t>(Integer(name), Limits::min(), Limits::max()));
  }
  double Real(const char* name) { return isonorm_python::Real(Next(), name); }
  const isonorm_tensor* Tensor(Array& array, const char* name, Access access = Access::kRead) {
    array.Read(Next(), name, access, source_);
    return array.get();
  }
  const isonorm_tensor* Output(Array& array, const char* name) { return Tensor(array, name, Access::kWrite); }
  const isonorm_tensor* PerRow(Array& array, const char* name, const Array& x, Access access) {
    array.ReadPerRow(Next(), name, x, access, source_);
    return array.get();
  }

 private:
  nb::handle tuple_;
  Source source_;
  Py_ssize_t index_ = 0;
};

}  // namespace

const isonorm_rope* Rope::Read(nb::handle tuple, Source source) {
  if (tuple.is_none()) return nullptr;
  Reader r(tuple, 6, "rope", source);
  rope_ = Sized<decltype(rope_)>();
  rope_.style = r.Choice("style");
  rope_.position_dim = r.Choice("position_axis");
  rope_.cos = r.Tensor(cos_, "cos");
  rope_.sin = r.Tensor(sin_, "sin");
  rope_.positions = r.Tensor(positions_, "positions");
  rope_.position_offset = r.Integer("position_offset");
  return &rope_;
}

const isonorm_quantization* Quantization::Read(nb::handle tuple) {
  if (tuple.is_none()) return nullptr;
  Reader r(tuple, 5, "quantization");
  quantization_ = Sized<decltype(quantization_)>();
  quantization_.scale_kind = r.Choice("scale");
  const std::string rounded_to = nb::cast<std::string>(r.Next());
  if (rounded_to == "bfloat16") quantization_.rounded_to = ISONORM_BF16;
  if (rounded_to == "float16") quantization_.rounded_to = ISONORM_F16;
  quantization_.group_cols = r.Integer("group_cols");
  quantization_.min_scale = r.Real("min_scale");
  quantization_.scale_ub = r.Real("scale_ub");
  return &quantization_;
}

void ForwardLink::Read(nb::handle tuple, Source source) {
  Reader r(tuple, 14, "the arguments of forward", source);
  args = Sized<decltype(args)>();
  args.x = r.Tensor(x, "x");
  args.weight = r.Tensor(weight, "weight");
  args.bias = r.Tensor(bias, "bias");
  args.residual = r.Tensor(residual, "residual");
  args.gate = r.Tensor(gate, "gate");
  args.rope = rope.Read(r.Next(), source);
  args.quantization = quantization.Read(r.Next());
  // A static scale is read; the others are results.
  const bool scale_is_read = args.quantization != nullptr && args.quantization->scale_kind == ISONORM_SCALE_STATIC;
  args.scale = r.PerRow(scale, "scale", x, scale_is_read ? Access::kRead : Access::kWrite);
  args.y = r.Output(y, "out");
  args.residual_out = r.Output(residual_out, "residual_out");
  args.mean = r.PerRow(mean, "mean", x, Access::kWrite);
  args.rstd = r.PerRow(rstd, "rstd", x, Access::kWrite);
  args.groups = r.Integer("groups");
  args.window = r.Integer("window");
}

void BackwardLink::Read(nb::handle tuple, Source source) {
  Reader r(tuple, 18, "the arguments of backward", source);
  args = Sized<decltype(args)>();
  args.dy = r.Tensor(dy, "dy");
  args.x = r.Tensor(x, "x");
  args.weight = r.Tensor(weight, "weight");
  args.bias = r.Tensor(bias, "bias");
  args.residual = r.Tensor(residual, "residual");
  args.residual_out = r.Tensor(residual_out, "residual_out");
  args.gate = r.Tensor(gate, "gate");
  args.rope = rope.Read(r.Next(), source);
  args.mean = r.PerRow(mean, "mean", dy, Access::kRead);
  args.rstd = r.PerRow(rstd, "rstd", dy, Access::kRead);
  args.dresidual = r.Tensor(dresidual, "dresidual");
  args.dx = r.Output(dx, "out");
  args.dweight = r.Output(dweight, "dweight");
  args.dbias = r.Output(dbias, "dbias");
  args.dgate = r.Output(dgate, "dgate");
  args.groups = r.Integer("groups");
  args.window = r.Integer("window");
  args.flags = static_cast<std::uint32_t>(r.Integer("flags"));
}

void DoubleBackwardLink::Read(nb::handle tuple, Source source) {
  Reader r(tuple, 11, "the arguments of double_backward", source);
  args = Sized<decltype(args)>();
  args.dy = r.Tensor(dy, "dy");
  args.x = r.Tensor(x, "x");
  args.weight = r.Tensor(weight, "weight");
  args.rstd = r.PerRow(rstd, "rstd", dy, Access::kRead);
  args.ddx = r.Tensor(ddx, "ddx");
  args.ddweight = r.Tensor(ddweight, "ddweight");
  args.dx = r.Output(dx, "dx");
  args.dweight = r.Output(dweight, "dweight");
  args.ddy = r.Output(ddy, "ddy");
  args.groups = r.Integer("groups");
  args.flags = static_cast<std::uint32_t>(r.Integer("flags"));
}

void ShardTuple::Read(nb::handle tuple, Source source) {
  Reader r(tuple, 4, "shard", source);
  shard = Sized<decltype(shard)>();
  shard.ranks = r.Integer("ranks");
  shard.partial = r.Output(partial, "partial");
  shard.gathered = r.Tensor(gathered, "gathered");
  shard.statistic = r.Output(statistic, "statistic");
}

}  // namespace isonorm_python
