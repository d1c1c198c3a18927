// A valid call of double backward, to be spoilt in one place.
#pragma once

#include "api/scene.h"

namespace isonorm_test {

// dy, x, weight, rstd, ddx, ddweight -> dx, dweight, ddy; all f32.
class DoubleScene : public Scene {
 public:
  DoubleScene() {
    slots = {{"dy", &dy},         {"x", &x},
             {"weight", &weight}, {"rstd", &rstd},
             {"ddx", &ddx},       {"ddweight", &ddweight},
             {"dx", &dx},         {"dweight", &dweight},
             {"ddy", &ddy},       {"workspace", &workspace}};
    for (Slot* slot : {&weight, &ddweight}) slot->Set(kInputByte, ISONORM_F32, {kCols});
    dweight.Set(kOutputByte, ISONORM_F32, {kCols});
    SetRows(kRows);
    args.struct_size = sizeof(args);
    args.dy = &dy.tensor;
    args.x = &x.tensor;
    args.weight = &weight.tensor;
    args.rstd = &rstd.tensor;
    args.ddx = &ddx.tensor;
    args.ddweight = &ddweight.tensor;
    args.dx = &dx.tensor;
    args.dweight = &dweight.tensor;
    args.ddy = &ddy.tensor;
    Measure();
  }
  void SetRows(int64_t rows) {
    for (Slot* slot : {&dy, &x, &ddx}) slot->Set(kInputByte, ISONORM_F32, {rows, kCols});
    for (Slot* slot : {&dx, &ddy}) slot->Set(kOutputByte, ISONORM_F32, {rows, kCols});
    rstd.Set(kInputByte, ISONORM_F32, {rows});
  }
  // Gives the call exactly the workspace that it asks for.
  isonorm_status Measure() {
    size_t bytes = 0;
    const isonorm_status status = isonorm_double_backward_workspace(contract_pointer, eps, args_pointer, &bytes);
    workspace.Set(kOutputByte, ISONORM_F32, {static_cast<int64_t>(bytes / 4)});
    args.workspace = workspace.data();
    args.workspace_size = bytes;
    return status;
  }
  isonorm_status Run() override { return isonorm_double_backward(contract_pointer, eps, args_pointer); }
  std::vector<uint8_t> Picture() const override {
    std::vector<uint8_t> picture = Scene::Picture();
    Append(&picture, &contract, sizeof(contract));
    Append(&picture, &args, sizeof(args));
    return picture;
  }

  isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  const isonorm_contract* contract_pointer = &contract;
  double eps = 1e-6;
  isonorm_double_backward_args args{};
  const isonorm_double_backward_args* args_pointer = &args;
  Slot dy, x, weight, rstd, ddx, ddweight, dx, dweight, ddy, workspace;
};

}  // namespace isonorm_test
