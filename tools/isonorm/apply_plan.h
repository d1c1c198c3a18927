// `apply`, first half: which tensors are normalised, with which weights, into what. Reads headers only.
#pragma once

#include <isonorm/isonorm.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/format.h"
#include "input_file.h"

namespace isonorm_cli {

struct ApplyOptions {
  std::string input, output;
  std::vector<std::string> globs;  // --tensor; none: all that can be normalised
  std::string contract;
  double eps = 0;
  std::string weight, weight_file, bias, bias_file, gate;  // patterns and files; "" is absent
  std::string out_dtype;                                   // "": the input's
  std::string target;
  int threads = 0;
  std::int64_t groups = 1, window = 0;
  bool keep_others = false, force = false, digest = false;
};

// An open file and what it holds. A .npy file's one tensor has the file's name without its ending.
struct OpenFile {
  explicit OpenFile(const std::string& path);
  const InputFile file;
  TensorFile header;
  std::unordered_map<std::string_view, const TensorInfo*> by_name;
};

// A tensor and the file that holds it; null: absent. A file may hold very many tensors, so that little is kept for each.
struct Stored {
  const InputFile* file = nullptr;
  const TensorInfo* info = nullptr;
  explicit operator bool() const { return info != nullptr; }
  isonorm::dtype type() const;
};

// One tensor of the output.
struct Job {
  Stored x;
  Stored weight = {}, bias = {}, gate = {};
  bool normalise = false;  // else it is copied
  isonorm::dtype out_type = isonorm::dtype::f32;
  std::int64_t out_bytes = 0;
  std::int64_t rows = 0, cols = 0;
};

struct Plan {
  std::vector<std::unique_ptr<const OpenFile>> files;
  std::vector<Job> jobs;   // in the order of their data in the input
  std::string out_header;  // the jobs' data follow it one after the other
};

// Throws Failure.
Plan MakePlan(const ApplyOptions& options);

const char* DtypeName(isonorm::dtype type);

}  // namespace isonorm_cli
