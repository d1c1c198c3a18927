// The .safetensors format (github.com/huggingface/safetensors): eight bytes of length, a JSON object, the data.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "formats/format.h"

namespace isonorm_cli {

// Reads the header and compares it with the size of the file. As the format prescribes, the data of the tensors fills the
// rest of the file without overlap or hole. Throws FormatError.
TensorFile ReadSafetensors(const Source& source);

// The length and the header of a file that holds these tensors one after the other. Sets their offsets and, for the types
// that isonorm writes, their type_name.
std::string SafetensorsHeader(std::vector<TensorInfo>& tensors, const std::map<std::string, std::string>& metadata);

}  // namespace isonorm_cli
