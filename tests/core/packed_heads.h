// Packed [tokens, (q + 2 k) heads, head_dim] projections, and q and k of them normalised and rotated in one call.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "memory.h"
#include "run.h"

namespace core_test {

inline Bytes ToBytes(Type type, const std::vector<double>& values) {
  Bytes bytes(values.size() * SizeOf(type));
  for (size_t i = 0; i < values.size(); ++i) isonorm_cli::Store(values[i], type, &bytes[i * SizeOf(type)]);
  return bytes;
}

struct Shape {
  int64_t tokens = 5, q = 4, k = 2, dim = 64, half = 32, table = 50;
  int64_t heads() const { return q + 2 * k; }
};

// Where the positions come from.
enum class Positions { kOffset, kI32, kI64 };

class PackedHeads {
 public:
  PackedHeads(Type type, Type table_type, const Shape& shape, int32_t style, Positions from, uint64_t seed)
      : type_(type), shape_(shape), from_(from) {
    contract.rotation_rounding = seed % 2 == 0 ? ISONORM_ROUND_NONE : ISONORM_ROUND_TO_X;
    packed = Data(type, shape.tokens * shape.heads() * shape.dim, seed + 1);
    weight[0] = Data(type, shape.dim, seed + 2);
    weight[1] = Data(type, shape.dim, seed + 3);
    std::vector<double> cos, sin;
    for (int64_t i = 0; i < shape.table * shape.half; ++i) {
      const double angle = static_cast<double>(Mix(seed * 7 + static_cast<uint64_t>(i)) % 6283) / 1000;
      cos.push_back(std::cos(angle));
      sin.push_back(std::sin(angle));
    }
    cos_ = std::make_unique<Memory>(std::vector<int64_t>{shape.table, shape.half}, std::vector<int64_t>{}, table_type);
    sin_ = std::make_unique<Memory>(std::vector<int64_t>{shape.table, shape.half}, std::vector<int64_t>{}, table_type);
    cos_->Fill(ToBytes(table_type, cos));
    sin_->Fill(ToBytes(table_type, sin));
    const int64_t offset = static_cast<int64_t>(Mix(seed) % static_cast<uint64_t>(shape.table - shape.tokens + 1));
    for (int64_t t = 0; t < shape.tokens; ++t) {
      const uint64_t any = Mix(seed * 11 + static_cast<uint64_t>(t)) % static_cast<uint64_t>(shape.table);
      wide_.push_back(from == Positions::kOffset ? offset + t : static_cast<int64_t>(any));
      narrow_.push_back(static_cast<int32_t>(wide_.back()));
    }
    rope = {sizeof(rope), style, 0, cos_->tensor(), sin_->tensor(), nullptr, 0};
    positions_ = {from == Positions::kI32 ? static_cast<void*>(narrow_.data()) : wide_.data(),
                  {ISONORM_DEVICE_CPU, 0},
                  1,
                  from == Positions::kI32 ? ISONORM_I32 : ISONORM_I64,
                  &shape_.tokens,
                  nullptr,
                  0};
    if (from == Positions::kOffset) {
      rope.position_offset = offset;
    } else {
      rope.positions = &positions_;
    }
  }
  PackedHeads(const PackedHeads&) = delete;
  PackedHeads& operator=(const PackedHeads&) = delete;

  static Bytes Data(Type type, int64_t count, uint64_t seed) {
    return isonorm_cli::MakeData(isonorm_cli::Role::kX, DataKind::kPlain, seed, 1, count, type);
  }
  Type type() const { return type_; }
  const Shape& shape() const { return shape_; }

  // Heads [first, first + count) of a packed projection.
  Bytes Heads(const Bytes& from, int64_t first, int64_t count) const {
    Bytes heads;
    const size_t head = static_cast<size_t>(shape_.dim) * SizeOf(type_);
    for (size_t t = 0; t < static_cast<size_t>(shape_.tokens); ++t) {
      const auto at = from.begin() + static_cast<std::ptrdiff_t>(
                                         (t * static_cast<size_t>(shape_.heads()) + static_cast<size_t>(first)) * head);
      heads.insert(heads.end(), at, at + static_cast<std::ptrdiff_t>(static_cast<size_t>(count) * head));
    }
    return heads;
  }
  int64_t first(int part) const { return part == 0 ? 0 : shape_.q; }
  int64_t count(int part) const { return part == 0 ? shape_.q : shape_.k; }

  isonorm_contract contract = ISONORM_CONTRACT_LLAMA;
  isonorm_rope rope = {};
  Bytes packed, weight[2];  // of q and of k

 private:
  Type type_;
  Shape shape_;
  Positions from_;
  std::unique_ptr<Memory> cos_, sin_;
  std::vector<int64_t> wide_;
  std::vector<int32_t> narrow_;
  isonorm_tensor positions_ = {};
};

// A view of q's or k's heads in the memory of a packed projection.
class HeadsView {
 public:
  HeadsView(const PackedHeads& scene, int part, Memory* packed)
      : shape_{scene.shape().tokens, scene.count(part), scene.shape().dim},
        strides_{scene.shape().heads() * scene.shape().dim, scene.shape().dim, 1},
        tensor_(*packed->tensor()) {
    tensor_.shape = shape_;
    tensor_.strides = strides_;
    tensor_.byte_offset = static_cast<uint64_t>(scene.first(part) * scene.shape().dim) * SizeOf(scene.type());
  }
  HeadsView(const HeadsView&) = delete;
  HeadsView& operator=(const HeadsView&) = delete;
  const isonorm_tensor* tensor() const { return &tensor_; }

 private:
  int64_t shape_[3], strides_[3];
  isonorm_tensor tensor_;
};

}  // namespace core_test
