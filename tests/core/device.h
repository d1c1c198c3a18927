// A device of the tests: memory that the host may not touch while a call is checked, so that any look at it ends the test, and
// a backend that computes there by the reference.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "call/tensor.h"
#include "cpu/combine.h"
#include "cpu/fold.h"
#include "cpu/gradient_sums.h"
#include "cpu/run.h"
#include "entry/backends.h"
#include "isonorm/isonorm.h"
#include "numbers/quantize.h"
#include "reference/reference.h"
#include "table/backend.h"

namespace isonorm {

constexpr isonorm_device kDevice = {12, 1};  // DLPack's "extension"

// Device memory, closed unless the device computes.
class Memory {
 public:
  static constexpr size_t kBytes = 1 << 20;
  explicit Memory(int access) : base_(static_cast<char*>(mmap(nullptr, kBytes, access, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {}
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { munmap(base_, kBytes); }
  char* base() const { return base_; }
  void Open() const { mprotect(base_, kBytes, PROT_READ | PROT_WRITE); }
  void Close() const { mprotect(base_, kBytes, PROT_NONE); }

 private:
  char* base_;
};

inline const Memory& DeviceMemory() {
  static const Memory memory(PROT_NONE);
  return memory;
}

struct Opened {
  Opened() { DeviceMemory().Open(); }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened() { DeviceMemory().Close(); }
};

// Does what a device's own code would do, without a look at data beforehand.
class FakeBackend final : public Backend {
 public:
  mutable void* stream = nullptr;  // of the last call
  const char* name() const override { return "fake"; }
  int Choose(Operation operation, const Call& call) const override { return FindGeneralRow(operation, call.wide); }
  bool Workspace(Operation, const Call& call, size_t* bytes) const override { return GradientWorkspace(call, bytes); }
  isonorm_status Run(Operation operation, Call& call, int* kernel) const override {
    const Opened opened;
    *kernel = Choose(operation, call);
    const Kernel function = ReferenceTarget().kernels[*kernel];
    EXPECT_EQ(call.device.device_id, kDevice.device_id);
    stream = call.stream;
    if (call.quantizer.scale != nullptr) {
      call.quantizer.multiplier = StaticMultiplier(LoadScalar<float>(call.quantizer.scale, Type::kF32, 0));
    }
    WantsSums(call) ? RunWithSums(call, ReferenceTarget(), function) : RunAllRows(call, function);
    return ISONORM_OK;
  }
  isonorm_status RunChain(Operation operation, Chain& chain, int* kernel) const override {
    for (int i = chain.count - 1; i >= 0; --i) Run(operation, chain.calls[i], kernel);
    return ISONORM_OK;
  }
  isonorm_status FinishForward(Call& call, Round* next, bool* complete, int* kernel) const override {
    {
      const Opened opened;
      *complete = FoldGathered(call, next);
    }
    return *complete ? Run(Operation::k_forward, call, kernel) : ISONORM_OK;
  }
  isonorm_status Combine(const Call& call) const override {
    const Opened opened;
    return CombineRows(call);
  }
};

inline const FakeBackend& Fake() {
  static const FakeBackend backend;
  return backend;
}

using Shape = std::vector<int64_t>;

// Tensors one behind the other, on the device or, where `on_host`, at the same offsets in host memory.
class World {
 public:
  explicit World(bool on_host) : on_host_(on_host) {
    SetBackendOf(kDevice.device_type, &Fake());
    Bytes();
    std::memset(base(), 0, Memory::kBytes);
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() { SetBackendOf(kDevice.device_type, nullptr); }

  isonorm_tensor* Make(isonorm_dtype dtype, const Shape& shape) {
    shapes_.push_back(shape);
    int64_t elements = 1;
    for (const int64_t size : shape) elements *= size;
    const Type type = TypeOf(dtype);
    char* const data = base() + used_;
    for (int64_t i = 0; i < elements && IsFloat(type); ++i) {
      const auto value = static_cast<double>((i * 37 + static_cast<int64_t>(used_)) % 61 - 30) / 16;
      type == Type::kF64 ? StoreScalar(value, data, type, i) : StoreScalar(static_cast<float>(value), data, type, i);
    }
    used_ += (static_cast<size_t>(elements) * SizeOf(type) + 127) / 64 * 64;
    tensors_.push_back({data, on_host_ ? isonorm_device{ISONORM_DEVICE_CPU, 0} : kDevice, static_cast<int32_t>(shape.size()),
                        dtype, shapes_.back().data(), nullptr, 0});
    return &tensors_.back();
  }
  template <class T>
  isonorm_tensor* With(isonorm_dtype dtype, const Shape& shape, const std::vector<T>& values) {
    isonorm_tensor* tensor = Make(dtype, shape);
    std::memcpy(tensor->data, values.data(), values.size() * sizeof(T));
    return tensor;
  }

  // From here on the device is closed, until Bytes().
  void Close() {
    if (!on_host_) DeviceMemory().Close();
  }
  std::string Bytes() {
    if (!on_host_) DeviceMemory().Open();
    return std::string(base(), base() + used_);
  }

 private:
  char* base() const {
    static const Memory host(PROT_READ | PROT_WRITE);
    return on_host_ ? host.base() : DeviceMemory().base();
  }

  bool on_host_;
  size_t used_ = 0;
  std::deque<isonorm_tensor> tensors_;
  std::deque<Shape> shapes_;
};

}  // namespace isonorm
