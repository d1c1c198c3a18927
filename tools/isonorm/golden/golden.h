// Golden files: tables of cases with the digests of what the specification computes from them. data/golden/README.md has
// the format. Nothing here calls the library; golden_run.h does.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fnv.h"
#include "golden/data.h"
#include "isonorm/isonorm.h"

namespace isonorm_cli {

using Digest = std::optional<uint64_t>;  // nothing: not produced
// Nothing for no bytes: an empty output has "-" in the file.
inline Digest DigestOf(const std::vector<uint8_t>& bytes) {
  Fnv fnv;
  fnv.Add(bytes.data(), bytes.size());
  return bytes.empty() ? std::nullopt : Digest(fnv.value());
}
std::string ToString(const Digest& digest);

enum Output { kY, kRstd, kResidualOut, kDx, kDweight, kDbias, kDgate, kScale, kDdy, kExchanged, kParts, kOutputCount };
inline constexpr std::array<const char*, kOutputCount> kOutputNames = {
    "y", "rstd", "residual_out", "dx", "dw", "db", "dgate", "scale", "ddy", "exchanged", "parts"};

enum class Op { kForward, kBackward, kDoubleBackward };

struct GoldenCase {
  std::string id;
  std::string line;  // as in the file, for messages
  Op op = Op::kForward;
  isonorm_contract contract = {};
  double eps = 0;
  Type x, weight, bias, out, residual, dy, dresidual, ddx = Type::kNone, ddweight = Type::kNone;
  int64_t rows = 0, cols = 0, groups = 1, window = 0;
  isonorm_quantization quantization = {};  // struct_size 0: none
  float static_scale = 0;
  int32_t rope = 0;  // style of a rotation; 0: none
  Type table = Type::kNone, positions = Type::kNone;
  int64_t pairs = 0, table_rows = 0, position_offset = 0;
  int64_t heads = 1;                 // rows that share a position
  int64_t ranks = 0, part_rows = 0;  // 0: rows are not shared; gradients are not computed in parts
  DataKind data;
  uint64_t seed = 0;
  std::array<Digest, kOutputCount> expected;

  bool backward() const { return op == Op::kBackward; }
  int64_t tokens() const { return rows / heads; }
  bool has_gate() const { return contract.gate_place != ISONORM_GATE_NONE; }
  Type gate() const { return has_gate() ? x : Type::kNone; }
  bool quantizes() const { return quantization.struct_size != 0; }
  bool has_static_scale() const { return quantization.scale_kind == ISONORM_SCALE_STATIC; }
  int64_t scales() const { return quantization.group_cols == 0 ? 1 : cols / quantization.group_cols; }  // of a row
  Type compute() const { return x == Type::kF64 ? Type::kF64 : Type::kF32; }
};

struct GoldenFile {
  std::string name;  // for messages
  std::vector<GoldenCase> cases;
  std::string error;  // one sentence, "" if the file is good; `cases` is then complete
};

// `text` is the content of a golden file. It may be without cases; what then checks them must not call that a pass.
GoldenFile ParseGolden(std::string name, std::string_view text);

// Reads a file. One that cannot be read has an error too.
GoldenFile ReadGolden(const std::string& path);

// The file that ships with the project, data/golden/public.tsv, compiled into the program.
std::string_view ShippedGolden();

}  // namespace isonorm_cli
