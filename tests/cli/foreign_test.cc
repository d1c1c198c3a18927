// Files of other kinds are named, with what to do about them; and a real .safetensors file is never taken for one.
#include <gtest/gtest.h>

#include <span>

#include "files.h"
#include "formats/format.h"

namespace isonorm_test {
namespace {

using std::literals::string_literals::operator""s;

// The sentence that refuses the file; "" if it is read.
std::string Refusal(const std::string& file) {
  try {
    isonorm_cli::ReadHeader(isonorm_cli::MemorySource(std::as_bytes(std::span(file))));
  } catch (const isonorm_cli::FormatError& e) {
    return e.what();
  }
  return "";
}

// A zip archive as far as its first entry: what is looked at.
std::string Zip(const std::string& name) {
  return "PK\x03\x04\x14\0\0\0\0\0"s + std::string(16, '\0') + static_cast<char>(name.size()) + "\0\0\0"s + name +
         std::string(200, 'x');
}

TEST(Foreign, IsNamedWithWhatToDo) {
  const struct {
    std::string bytes;
    const char *kind, *advice;
  } cases[] = {
      {"", "is empty", "downloaded to its end"},
      {Zip("weight.npy"), "NumPy .npz archive", "numpy.load"},
      {Zip("archive/data.pkl"), "PyTorch checkpoint", "safetensors.torch.save_file"},
      {Zip("model/version"), "PyTorch checkpoint", "safetensors.torch.save_file"},
      {Zip("word/document.xml"), "zip archive", "unpack"},
      {"PK\x05\x06"s + std::string(18, '\0'), "empty zip archive", ""},
      {"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03."s,
       "PyTorch checkpoint of the format before version 1.6", "safetensors.torch.save_file"},
      {"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94."s, "Python pickle", "torch.save"},
      {"GGUF\x03\0\0\0\x10\0\0\0\0\0\0\0"s, "GGUF", ".safetensors files that it was made from"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n", "Git LFS pointer", "git lfs pull"},
      {"\n<!DOCTYPE html>\n<html><head><title>Sign in</title>", "HTML page", "login"},
      {"<html><body>Not found</body></html>", "HTML page", "login"},
      {"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "XML", "refuses"},
      {"{\"metadata\": {\"total_size\": 1}, \"weight_map\": {\"a\": \"model-00001-of-00002.safetensors\"}}",
       "index of a checkpoint", "one of the .safetensors files"},
      {"{\"architectures\": [\"LlamaForCausalLM\"], \"rms_norm_eps\": 1e-06}", "JSON", "another file"},
      {"\x1f\x8b\x08\0\0\0\0\0\0\x03 and more"s, "gzip", "unpack"},
      {"\x28\xb5\x2f\xfd and more of it", "zstd", "unpack"},
      {"\x89HDF\r\n\x1a\n and more of it", "HDF5", "h5py"},
      {std::string(257, 'a') + "ustar\0" + std::string(300, '\0'), "tar archive", "unpack"},
      {"just some words in a file", "is text", ""},
      {std::string(4096, '\0') + "x", "begins with 4096 zeros", "downloaded to its end"},
      {"\x80\x01\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\""s, "ends inside its header", "downloaded to its end"},
      {"\x7f"
       "ELF\x02\x01\x01\0\0\0\0\0"s,
       "does not fit in 12", ""},
  };
  for (const auto& c : cases) {
    const std::string words = Refusal(c.bytes);
    EXPECT_NE(words.find("neither a .npy file nor a .safetensors file"), std::string::npos) << words;
    EXPECT_NE(words.find(c.kind), std::string::npos) << c.kind << ": " << words;
    EXPECT_NE(words.find(c.advice), std::string::npos) << c.kind << ": " << words;
  }
}

// The length of a header may spell the magic number of another format.
TEST(Foreign, ARealFileIsNotTakenForAnother) {
  for (const char* const magic : {"\x1f\x8b", "BZ"}) {
    const std::size_t length = static_cast<unsigned char>(magic[0]) + 256u * static_cast<unsigned char>(magic[1]);
    EXPECT_EQ(Refusal(SafetensorsFile("{}" + std::string(length - 2, ' '), "")), "");
  }
}

}  // namespace
}  // namespace isonorm_test
