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

// The length and the header of a file that holds these tensors, those of the widest type first. Sets their offsets and, for
// the types that isonorm reads, their type_name; others must have a type_name of the format. Throws FormatError for a name
// that no tensor can have.
std::string SafetensorsHeader(std::vector<TensorInfo>& tensors, const std::map<std::string, std::string>& metadata);

}  // namespace isonorm_cli
