// What every call of the C ABI needs beside tensors: contract, executor, workspace.
#pragma once

#include <isonorm/isonorm.h>

#include <cstddef>
#include <memory>
#include <string>

#include "value.h"

namespace isonorm_torch {

// A structure of the C ABI whose fields are all absent.
template <class Structure>
Structure Sized() {
  Structure structure{};
  structure.struct_size = sizeof structure;
  return structure;
}

// Of a name, or of the text that isonorm.Contract makes of its fields: "1,1,2,1,1,1,2,1.0".
isonorm_contract ContractOf(const std::string& text);

// Torch's own threads, as many as torch.set_num_threads() says.
class Executor {
 public:
  Executor();
  const isonorm_executor* get() const { return executor_.concurrency > 1 ? &executor_ : nullptr; }

 private:
  isonorm_executor executor_;
};

// Runs a call that needs a workspace, which `measure` measures.
template <class Args, class Measure, class Call>
void RunWithWorkspace(const isonorm_contract& contract, double eps, Args& args, const Measure& measure, const Call& call) {
  std::size_t size = 0;
  Check(measure(&contract, eps, &args, &size));
  const auto workspace = size > 0 ? std::make_unique_for_overwrite<std::byte[]>(size) : nullptr;
  args.workspace = workspace.get();
  args.workspace_size = size;
  Check(call(&contract, eps, &args));
}

// The arguments `Tensor? cos, Tensor? sin, Tensor? positions, int style, int position_dim, int position_offset`.
class Rope {
 public:
  explicit Rope(Arguments& arguments);
  const isonorm_rope* Get(const Input& x);  // null without cos

 private:
  Handle cos_handle_, sin_handle_, positions_handle_;
  Input cos_, sin_, positions_;
  isonorm_rope rope_;
};

}  // namespace isonorm_torch
