// `apply`, first half: which tensors are normalised, with which weights, into what. Reads headers, and static scales.
#pragma once

#include <isonorm/isonorm.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apply/options.h"
#include "apply/tensors.h"
#include "formats/format.h"

namespace isonorm_cli {

// One tensor of the output, with what is written beside it.
struct Job {
  Stored x;
  Stored weight = {}, bias = {}, residual = {}, gate = {};
  bool normalise = false;  // else it is copied
  isonorm::dtype out_type = isonorm::dtype::f32;
  std::int64_t out_bytes = 0, out_offset = 0;
  std::int64_t rows = 0, cols = 0;
  std::unique_ptr<TensorInfo> scale = {}, residual_out = {};  // written too, if set
  float static_scale = 0;
};

struct Plan {
  isonorm::contract contract;
  isonorm::quantization quantization;
  std::vector<std::unique_ptr<const OpenFile>> files;
  std::vector<Job> jobs;                    // in the order of their data in the input
  std::vector<const TensorInfo*> left_out;  // nobody chose by name, and these cannot be normalised
  std::string out_header;                   // the jobs say where their data lie behind it

  bool computes_scales() const { return quantization && quantization.kind != isonorm::scale_kind::fixed; }
  isonorm::dtype scale_type() const {
    return quantization.kind == isonorm::scale_kind::power_of_two ? isonorm::dtype::e8m0 : isonorm::dtype::f32;
  }
  // Of computed scales.
  std::int64_t scales_per_row(const Job& job) const {
    return quantization.group_cols == 0 ? 1 : job.cols / quantization.group_cols;
  }
};

// Throws Failure.
Plan MakePlan(const ApplyOptions& options);

}  // namespace isonorm_cli
