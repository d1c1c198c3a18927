// Valid calls that a test spoils in one place. A scene owns every tensor of a call, whether the call passes it or not, and
// can take a picture of all memory that the call can reach, so that a test can see that a failed call wrote nothing.
#pragma once

#include <cstring>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "isonorm/isonorm.h"
#include "support/rms.h"

namespace isonorm_test {

constexpr int64_t kRows = 3, kCols = 64;
constexpr uint8_t kInputByte = 0x3d, kOutputByte = 0xa5;  // 0x3d3d... is a small positive number in every dtype

// A tensor with room around it: `margin` bytes on both sides, for views that are shifted.
struct Slot {
  static constexpr size_t kMargin = 1024;

  isonorm_tensor tensor{};
  int64_t shape[8] = {};
  int64_t strides[8] = {};
  std::vector<uint8_t> bytes;

  Slot() = default;
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;

  // Compact row-major.
  void Set(uint8_t fill, isonorm_dtype dtype, std::initializer_list<int64_t> sizes) {
    int64_t count = 1;
    int i = static_cast<int>(sizes.size());
    for (auto size = sizes.end(); size != sizes.begin();) {
      shape[--i] = *--size;
      strides[i] = count;
      count *= *size;
    }
    bytes.assign(static_cast<size_t>(count) * dtype.bits / 8 + 2 * kMargin, fill);
    tensor = {bytes.data() + kMargin, {ISONORM_DEVICE_CPU, 0}, static_cast<int32_t>(sizes.size()), dtype, shape, strides, 0};
  }
  void Retype(isonorm_dtype dtype) { tensor.dtype = dtype; }  // to a type that is not wider
  uint8_t* data() { return bytes.data() + kMargin; }
};

class Scene {
 public:
  virtual ~Scene() = default;
  virtual isonorm_status Run() = 0;

  std::vector<std::pair<const char*, Slot*>> slots;  // by their names in the header
  isonorm_executor executor{sizeof(isonorm_executor), 1, 0, nullptr, &RunAll};

  Slot& slot(const std::string& name) {
    for (auto& [its_name, slot] : slots) {
      if (name == its_name) return *slot;
    }
    return *slots.at(slots.size()).second;  // throws: no such name
  }

  virtual std::vector<uint8_t> Picture() const {
    std::vector<uint8_t> picture;
    for (const auto& [name, slot] : slots) {
      Append(&picture, &slot->tensor, sizeof(slot->tensor));
      Append(&picture, slot->shape, sizeof(slot->shape));
      Append(&picture, slot->strides, sizeof(slot->strides));
      Append(&picture, slot->bytes.data(), slot->bytes.size());
    }
    return picture;
  }

 protected:
  static void Append(std::vector<uint8_t>* picture, const void* from, size_t size) {
    const auto* first = static_cast<const uint8_t*>(from);
    picture->insert(picture->end(), first, first + size);
  }

 private:
  static void RunAll(void*, int64_t count, void (*task)(void*, int64_t), void* task_context) {
    for (int64_t i = 0; i < count; ++i) task(task_context, i);
  }
};

// x, weight, bias, residual -> y, residual_out, rstd; all f32.
class ForwardScene : public Scene {
 public:
  ForwardScene() {
    slots = {{"x", &x},
             {"weight", &weight},
             {"bias", &bias},
             {"residual", &residual},
             {"gate", &gate},
             {"y", &y},
             {"residual_out", &residual_out},
             {"rstd", &rstd},
             {"mean", &mean}};
    for (Slot* slot : {&x, &residual, &gate}) slot->Set(kInputByte, ISONORM_F32, {kRows, kCols});
    for (Slot* slot : {&weight, &bias}) slot->Set(kInputByte, ISONORM_F32, {kCols});
    for (Slot* slot : {&y, &residual_out}) slot->Set(kOutputByte, ISONORM_F32, {kRows, kCols});
    for (Slot* slot : {&rstd, &mean}) slot->Set(kOutputByte, ISONORM_F32, {kRows});
    args.struct_size = sizeof(args);
    args.x = &x.tensor;
    args.weight = &weight.tensor;
    args.bias = &bias.tensor;
    args.residual = &residual.tensor;
    args.y = &y.tensor;
    args.residual_out = &residual_out.tensor;
    args.rstd = &rstd.tensor;
  }
  // With the gate instead of the residual.
  void UseGate(int32_t place) {
    contract.gate_place = place;
    args.gate = &gate.tensor;
    args.residual = args.residual_out = nullptr;
  }
  void UseLayerNorm() {
    contract.statistic = ISONORM_STATISTIC_LAYER;
    args.mean = &mean.tensor;
  }
  isonorm_status Run() override { return isonorm_forward(contract_pointer, eps, args_pointer); }
  std::vector<uint8_t> Picture() const override {
    std::vector<uint8_t> picture = Scene::Picture();
    Append(&picture, &contract, sizeof(contract));
    Append(&picture, &args, sizeof(args));
    return picture;
  }

  isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  const isonorm_contract* contract_pointer = &contract;
  double eps = 1e-6;
  isonorm_forward_args args{};
  const isonorm_forward_args* args_pointer = &args;
  Slot x, weight, bias, residual, gate, y, residual_out, rstd, mean;
};

// dy, x, weight, bias, residual, rstd, dresidual -> dx, dweight, dbias; all f32.
class BackwardScene : public Scene {
 public:
  BackwardScene() {
    slots = {{"dy", &dy},
             {"x", &x},
             {"weight", &weight},
             {"residual", &residual},
             {"residual_out", &residual_out},
             {"gate", &gate},
             {"bias", &bias},
             {"rstd", &rstd},
             {"mean", &mean},
             {"dresidual", &dresidual},
             {"dx", &dx},
             {"dweight", &dweight},
             {"dbias", &dbias},
             {"dgate", &dgate},
             {"workspace", &workspace}};
    for (Slot* slot : {&dy, &x, &residual, &residual_out, &gate, &dresidual})
      slot->Set(kInputByte, ISONORM_F32, {kRows, kCols});
    for (Slot* slot : {&weight, &bias}) slot->Set(kInputByte, ISONORM_F32, {kCols});
    for (Slot* slot : {&rstd, &mean}) slot->Set(kInputByte, ISONORM_F32, {kRows});
    for (Slot* slot : {&dx, &dgate}) slot->Set(kOutputByte, ISONORM_F32, {kRows, kCols});
    for (Slot* slot : {&dweight, &dbias}) slot->Set(kOutputByte, ISONORM_F32, {kCols});
    args.struct_size = sizeof(args);
    args.dy = &dy.tensor;
    args.x = &x.tensor;
    args.weight = &weight.tensor;
    args.bias = &bias.tensor;
    args.residual = &residual.tensor;
    args.rstd = &rstd.tensor;
    args.dresidual = &dresidual.tensor;
    args.dx = &dx.tensor;
    args.dweight = &dweight.tensor;
    args.dbias = &dbias.tensor;
    Measure();
  }
  void UseGate(int32_t place) {
    contract.gate_place = place;
    args.gate = &gate.tensor;
    args.dgate = &dgate.tensor;
    args.residual = args.dresidual = nullptr;
  }
  void UseLayerNorm() {
    contract.statistic = ISONORM_STATISTIC_LAYER;
    args.mean = &mean.tensor;
  }
  // Gives the call exactly the workspace that it asks for.
  isonorm_status Measure() {
    size_t bytes = 0;
    const isonorm_status status = isonorm_backward_workspace(contract_pointer, eps, args_pointer, &bytes);
    workspace.Set(kOutputByte, ISONORM_F32, {static_cast<int64_t>(bytes / 4)});
    args.workspace = workspace.data();
    args.workspace_size = bytes;
    return status;
  }
  isonorm_status Run() override { return isonorm_backward(contract_pointer, eps, args_pointer); }
  std::vector<uint8_t> Picture() const override {
    std::vector<uint8_t> picture = Scene::Picture();
    Append(&picture, &contract, sizeof(contract));
    Append(&picture, &args, sizeof(args));
    return picture;
  }

  isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  const isonorm_contract* contract_pointer = &contract;
  double eps = 1e-6;
  isonorm_backward_args args{};
  const isonorm_backward_args* args_pointer = &args;
  Slot dy, x, weight, residual, residual_out, gate, bias, rstd, mean, dresidual, dx, dweight, dbias, dgate, workspace;
};

// x -> rms; x, drms -> dx; x -> penalty, dx: by the function that is set.
class RmsScene : public Scene {
 public:
  enum Function { kRms, kBackward, kPenalty };
  RmsScene() {
    slots = {{"x", &x}, {"rms", &rms}, {"drms", &drms}, {"penalty", &penalty}, {"dx", &dx}};
    x.Set(kInputByte, ISONORM_F32, {kRows, kCols});
    drms.Set(kInputByte, ISONORM_F32, {kRows});
    dx.Set(kOutputByte, ISONORM_F32, {kRows, kCols});
    for (Slot* slot : {&rms, &penalty}) slot->Set(kOutputByte, ISONORM_F32, {kRows});
  }
  isonorm_status Run() override {
    if (function == kRms) return Rms(x_pointer, rms_pointer, executor_pointer);
    if (function == kBackward) return RmsBackward(x_pointer, drms_pointer, dx_pointer, executor_pointer);
    return RmsPenalty(x_pointer, lambda, penalty_pointer, dx_pointer, flags, executor_pointer);
  }

  Function function = kRms;
  double lambda = 0.5;
  uint32_t flags = 0;
  Slot x, rms, drms, penalty, dx;
  const isonorm_tensor *x_pointer = &x.tensor, *rms_pointer = &rms.tensor, *drms_pointer = &drms.tensor;
  const isonorm_tensor *penalty_pointer = &penalty.tensor, *dx_pointer = &dx.tensor;
  const isonorm_executor* executor_pointer = nullptr;
};

}  // namespace isonorm_test
