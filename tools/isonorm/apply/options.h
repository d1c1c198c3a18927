// What the user asked `apply` for, and what that is in the library's terms.
#pragma once

#include <isonorm/isonorm.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dtype_names.h"

namespace isonorm_cli {

// Patterns and files: "" is absent.
struct ApplyOptions {
  std::string input, output;
  std::vector<std::string> globs;  // --tensor; none: all that can be normalised
  std::string contract;
  double eps = 0;
  std::string weight, weight_file, bias, bias_file, residual, residual_file, gate, gate_file;
  std::string residual_out;
  std::string sum_rounding, gate_place, gate_function;  // "": the contract's
  std::string out_dtype;                                // "": the input's
  std::string scale_kind, scale_tensor, scale_tensor_file, scale_name, round_to;
  std::optional<double> scale, min_scale, scale_ub;
  std::int64_t scale_group = 0;
  std::string target;
  int threads = 0;
  std::int64_t groups = 1, window = 0;
  bool keep_others = false, force = false, digest = false;
};

// The types that y may have, by the program's name and by PyTorch's, such as "float32"; and the type of either name.
std::vector<std::string> OutDtypeNames();
std::optional<isonorm::dtype> DtypeByName(const std::string& name);
bool IsQuantized(isonorm::dtype type);

// The named contract with the fields that options change. Throws Failure(kUsage) where options exclude or need each other.
isonorm::contract MakeContract(const ApplyOptions& options);

// {} unless the output is quantised. Throws Failure(kUsage) likewise.
isonorm::quantization MakeQuantization(const ApplyOptions& options);

// Whether the library takes a scale of this value: from 2^-126 to 2^126.
bool IsScale(double value);

}  // namespace isonorm_cli
