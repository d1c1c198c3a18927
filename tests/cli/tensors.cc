#include "tensors.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "fnv.h"

namespace isonorm_test {
namespace {

std::size_t Count(const std::vector<std::int64_t>& shape) {
  std::size_t count = 1;
  for (const std::int64_t n : shape) count *= static_cast<std::size_t>(n);
  return count;
}

}  // namespace

void WriteTensors(const std::string& path, const Tensors& tensors) {
  nlohmann::json header = nlohmann::json::object();
  std::string data;
  for (const auto& [name, t] : tensors) {
    header[name] = {{"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {data.size(), data.size() + t.data.size()}}};
    data += t.data;
  }
  WriteAll(path, SafetensorsFile(header.dump(), data));
}

Tensors ReadTensors(const std::string& path) {
  const std::string file = ReadAll(path), data = DataOf(file);
  const auto header = nlohmann::json::parse(file.substr(8, file.size() - data.size() - 8));
  Tensors tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const std::size_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
    tensors[name] = {entry["dtype"], entry["shape"], data.substr(begin, end - begin)};
  }
  return tensors;
}

Tensor F32(const std::vector<std::int64_t>& shape, std::uint32_t seed) {
  return {"F32", shape, Bytes(Values(Count(shape), seed))};
}

Tensor Bf16(const std::vector<std::int64_t>& shape, std::uint32_t seed) {
  const std::string wide = F32(shape, seed).data;
  Tensor t = {"BF16", shape};
  for (std::size_t i = 2; i < wide.size(); i += 4) t.data += wide.substr(i, 2);
  return t;
}

Tensor Zeros(const std::string& dtype, const std::vector<std::int64_t>& shape) {
  Tensor t = {dtype, shape};
  t.data.resize(Count(shape) * static_cast<std::size_t>(isonorm::size_of(TypeOf(t))));
  return t;
}

isonorm::dtype TypeOf(const Tensor& t) {
  using isonorm::dtype;
  static const std::map<std::string, dtype> types = {
      {"F32", dtype::f32}, {"BF16", dtype::bf16},    {"F16", dtype::f16},      {"F64", dtype::f64},
      {"I8", dtype::i8},   {"F8_E4M3", dtype::e4m3}, {"F8_E5M2", dtype::e5m2}, {"F8_E8M0", dtype::e8m0}};
  return types.at(t.dtype);
}

isonorm::const_tensor View(const Tensor& t) { return {t.data.data(), TypeOf(t), std::span(t.shape)}; }

isonorm::tensor View(Tensor& t) { return {t.data.data(), TypeOf(t), std::span<const std::int64_t>(t.shape)}; }

std::uint64_t Fnv(const std::string& bytes) {
  isonorm_cli::Fnv fnv;
  fnv.Add(bytes.data(), bytes.size());
  return fnv.value();
}

double Decoded(char byte, const std::string& dtype) {
  if (dtype == "I8") return static_cast<signed char>(byte);
  const int fraction_bits = dtype == "F8_E4M3" ? 3 : 2, bias = dtype == "F8_E4M3" ? 7 : 15;
  const int bits = static_cast<unsigned char>(byte), magnitude = bits % 128;
  // e4m3 has one NaN and no infinity, e5m2 the largest exponent for both; neither infinity is ever written.
  if (magnitude >= (dtype == "F8_E4M3" ? 0x7f : 0x7c)) return std::numeric_limits<double>::quiet_NaN();
  const int exponent = magnitude >> fraction_bits, fraction = magnitude % (1 << fraction_bits);
  const double value = exponent == 0 ? std::ldexp(fraction, 1 - bias - fraction_bits)
                                     : std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
  return bits < 128 ? value : -value;
}

double ScaleAt(const Tensor& scale, std::size_t index) {
  if (scale.dtype == "F8_E8M0") return std::ldexp(1.0, static_cast<unsigned char>(scale.data.at(index)) - 127);
  float value = 0;
  if (scale.data.size() < (index + 1) * sizeof value) throw std::out_of_range("there are not so many scales");
  std::memcpy(&value, scale.data.data() + index * sizeof value, sizeof value);
  return static_cast<double>(value);
}

}  // namespace isonorm_test
