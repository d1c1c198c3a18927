// Files of the tests: folders that vanish, and .npy and .safetensors written byte by byte, apart from the program's code.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace isonorm_test {

// A new folder for one test, removed with all it holds.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  std::vector<std::string> Names() const;  // sorted; hidden ones too

 private:
  std::string path_;
};

void WriteAll(const std::string& path, const std::string& bytes);
std::string ReadAll(const std::string& path);

// The values' bytes.
template <class T>
std::string Bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// A .npy file of that version with this text as its header.
std::string NpyFile(const std::string& dictionary, const std::string& data, int major = 1, int minor = 0);
std::string NpyDictionary(const std::string& descr, const std::string& shape);

// A .safetensors file with this text as its header.
std::string SafetensorsFile(const std::string& header, const std::string& data);

// One entry of such a header: "name":{...}
std::string Entry(const std::string& name, const std::string& dtype, const std::string& shape, std::int64_t begin,
                  std::int64_t end);

// What follows the header of a file of either kind.
std::string DataOf(const std::string& file);

// Reproducible values between -2 and 2, some of them small.
std::vector<float> Values(std::size_t count, std::uint32_t seed);

}  // namespace isonorm_test
