// What every call of the C ABI needs beside tensors: contract, executor, workspace.
#pragma once

#include <isonorm/isonorm.h>

#include <string>

#include "../base/fields.h"
#include "value.h"

namespace isonorm_torch {

using isonorm_base::Sized;
using isonorm_base::WithWorkspace;

// Bits of an argument `needs`: which gradients are wanted.
enum Needs : std::int64_t { kX = 1, kWeight = 2, kBias = 4, kGate = 8 };

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
