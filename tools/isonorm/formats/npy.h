// The .npy format, versions 1 to 3 (numpy.lib.format): a magic number, a Python dictionary as text, the data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/format.h"

namespace isonorm_cli {

bool IsNpy(const Source& source);

// Reads the header and compares it with the size of the file. Throws FormatError.
TensorFile ReadNpy(const Source& source);

// The header, version 1, of a compact little-endian array. Throws FormatError for bf16, which NumPy does not have.
std::string NpyHeader(ElementType type, const std::vector<std::int64_t>& shape);

}  // namespace isonorm_cli
