// What NumPy's face and those of frameworks share: calls of the C ABI put together from arrays. Each has a type of its own for
// those, whose get() is the isonorm_tensor, or null if the array is absent.
#pragma once

#include <isonorm/isonorm.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace isonorm_base {

constexpr std::int64_t kFewBytes = 1 << 16;  // of x, for which the library would not use a second thread

// A structure of the C ABI whose fields are all absent.
template <class Structure>
Structure Sized() {
  Structure structure{};
  structure.struct_size = sizeof structure;
  return structure;
}

template <class Array>
struct ForwardInputs {
  Array x, weight, bias, residual, gate;

  void GiveTo(isonorm_forward_args& args) const {
    args.x = x.get();
    args.weight = weight.get();
    args.bias = bias.get();
    args.residual = residual.get();
    args.gate = gate.get();
  }
};

template <class Array>
struct ForwardOutputs {
  Array y, residual_out, mean, rstd;

  void GiveTo(isonorm_forward_args& args) const {
    args.y = y.get();
    args.residual_out = residual_out.get();
    args.mean = mean.get();
    args.rstd = rstd.get();
  }
};

template <class Array>
struct BackwardInputs {
  Array dy, x, weight, bias, residual, residual_out, dresidual, gate;

  void GiveTo(isonorm_backward_args& args) const {
    args.dy = dy.get();
    args.x = x.get();
    args.weight = weight.get();
    args.bias = bias.get();
    args.residual = residual.get();
    args.residual_out = residual_out.get();
    args.dresidual = dresidual.get();
    args.gate = gate.get();
  }
};

template <class Array>
struct BackwardOutputs {
  Array dx, dweight, dbias, dgate;

  void GiveTo(isonorm_backward_args& args) const {
    args.dx = dx.get();
    args.dweight = dweight.get();
    args.dbias = dbias.get();
    args.dgate = dgate.get();
  }
};

// Runs a call that needs a workspace, which `measure` measures.
template <class Args, class Measure, class Call>
isonorm_status WithWorkspace(const isonorm_contract& contract, double eps, Args& args, const Measure& measure,
                             const Call& call) {
  std::size_t size = 0;
  if (const isonorm_status status = measure(&contract, eps, &args, &size); status != ISONORM_OK) return status;
  const auto workspace = size > 0 ? std::make_unique_for_overwrite<std::byte[]>(size) : nullptr;
  args.workspace = workspace.get();
  args.workspace_size = size;
  return call(&contract, eps, &args);
}

}  // namespace isonorm_base
