// Tensors in .safetensors files, read and written apart from the program's code, and the same work by the library.
#pragma once

#include <isonorm/isonorm.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "files.h"

namespace isonorm_test {

struct Tensor {
  std::string dtype;  // as the format spells it
  std::vector<std::int64_t> shape;
  std::string data = {};
  bool operator==(const Tensor&) const = default;
};

using Tensors = std::map<std::string, Tensor>;

void WriteTensors(const std::string& path, const Tensors& tensors);
Tensors ReadTensors(const std::string& path);

// F32 values by Values(), which is seeded; BF16 by cutting them.
Tensor F32(const std::vector<std::int64_t>& shape, std::uint32_t seed);
Tensor Bf16(const std::vector<std::int64_t>& shape, std::uint32_t seed);
// As large as its shape and type ask for.
Tensor Zeros(const std::string& dtype, const std::vector<std::int64_t>& shape);

isonorm::dtype TypeOf(const Tensor& t);
isonorm::const_tensor View(const Tensor& t);
isonorm::tensor View(Tensor& t);

std::uint64_t Fnv(const std::string& bytes);

// What a byte of a quantised type stands for, from the definition of the type; MXINT8's six bits are not taken off.
double Decoded(char byte, const std::string& dtype);
// The scale with this index: F32, or F8_E8M0.
double ScaleAt(const Tensor& scale, std::size_t index);

}  // namespace isonorm_test
