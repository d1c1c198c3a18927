// Computes the changes of a plan, a few megabytes at a time: in f64, and each new value is rounded once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "checkpoint/plan.h"
#include "formats/format.h"

namespace isonorm_cli {

// The tensors as they were: fills `out` with the bytes of a tensor from this one on.
using ReadTensor = std::function<void(std::size_t tensor, std::int64_t offset, std::span<std::byte> out)>;
// Of the tensor that is being changed, in order.
using WriteTensor = std::function<void(std::span<const std::byte> bytes)>;

// Throws Refusal for values that are not finite, before or after.
void ComputeChange(const Change& change, const std::vector<TensorInfo>& tensors, const ReadTensor& read,
                   const WriteTensor& write);

}  // namespace isonorm_cli
