// libFuzzer's entry point: any bytes as a file, as the dictionary of a .npy file, and as the header of a .safetensors file.
// The last two need no length repaired by the fuzzer.
#include <string>

#include "check.h"

using isonorm_fuzz::HeaderSource;

namespace {

std::string LittleEndian(std::size_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xff);
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  isonorm_fuzz::CheckHeader(HeaderSource(bytes, 0));
  isonorm_fuzz::CheckHeader(HeaderSource("\x93NUMPY\x02" + std::string(1, '\0') + LittleEndian(size, 4) + bytes, 24));
  // With no data, or the amounts that the corpus uses.
  for (const std::int64_t rest : {0, 8, 96}) isonorm_fuzz::CheckHeader(HeaderSource(LittleEndian(size, 8) + bytes, rest));
  return 0;
}
