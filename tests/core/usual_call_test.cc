// The short cut that usual forward calls take through their checks: it must make the very call that the long way makes, take no
// call that the long way refuses, and be taken by the calls it is there for.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "call/builder.h"
#include "call/call.h"
#include "call/usual.h"

namespace isonorm {
namespace {

void NoTasks(void*, int64_t, void (*)(void*, int64_t), void*) {}

// One forward call with everything it points to.
struct Scene {
  explicit Scene(int ndim = 2) {
    args.struct_size = sizeof args;
    args.x = &x;
    args.y = &y;
    args.weight = &weight;
    shape.assign(static_cast<size_t>(ndim), 3);
    shape.back() = 24;
    y_shape = shape;
    weight_shape = shape.back();
    statistic_shape = shape;
    statistic_shape.back() = 1;
    for (isonorm_tensor* tensor : {&x, &y, &weight, &bias, &mean, &rstd}) {
      *tensor = {memory.data() + 64, {ISONORM_DEVICE_CPU, 0}, ndim, ISONORM_F32, shape.data(), nullptr, 0};
    }
    y.shape = y_shape.data();
    y.data = memory.data() + (1 << 20);
    weight.data = memory.data() + (2 << 20);
    bias.data = memory.data() + (2 << 20) + 512;
    mean.data = memory.data() + (2 << 20) + 1024;
    rstd.data = memory.data() + (2 << 20) + 8192;
    mean.shape = rstd.shape = statistic_shape.data();
    weight.ndim = bias.ndim = 1;
    weight.shape = bias.shape = &weight_shape;
  }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;

  isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  double eps = 1e-6;
  isonorm_executor executor = {sizeof(isonorm_executor), 2, 0, nullptr, NoTasks};
  std::vector<int64_t> shape, y_shape, x_strides, y_strides, statistic_shape, statistic_strides;
  int64_t weight_shape = 0, weight_stride = 1;
  isonorm_tensor x = {}, y = {}, weight = {}, bias = {}, mean = {}, rstd = {}, other = {};
  isonorm_forward_args args = {};
  isonorm_rope rope = {};
  static inline std::vector<char> memory = std::vector<char>(3 << 20);
};

std::vector<int64_t> CompactStrides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

void ExpectSame(const Call& a, const Call& b) {
  EXPECT_EQ(a.backward, b.backward);
  EXPECT_EQ(a.norm.statistic, b.norm.statistic);
  EXPECT_EQ(a.norm.eps_outside, b.norm.eps_outside);
  EXPECT_EQ(std::memcmp(&a.norm.eps, &b.norm.eps, sizeof a.norm.eps), 0) << a.norm.eps << " and " << b.norm.eps;
  EXPECT_EQ(a.norm.count, b.norm.count);
  EXPECT_EQ(a.wide, b.wide);
  EXPECT_EQ(a.accumulate, b.accumulate);
  EXPECT_EQ(a.accumulates_rows, b.accumulates_rows);
  EXPECT_EQ(a.gate, b.gate);
  EXPECT_EQ(a.rope.on, b.rope.on);
  EXPECT_EQ(a.scaled_type, b.scaled_type);
  EXPECT_EQ(a.gated_type, b.gated_type);
  EXPECT_EQ(a.sum_type, b.sum_type);
  EXPECT_EQ(std::memcmp(&a.weight_offset, &b.weight_offset, sizeof a.weight_offset), 0);
  EXPECT_EQ(a.lambda, b.lambda);
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.cols, b.cols);
  EXPECT_EQ(a.groups, b.groups);
  EXPECT_EQ(a.group_cols, b.group_cols);
  EXPECT_EQ(a.window, b.window);
  ASSERT_EQ(a.leading, b.leading);
  for (int i = 0; i < a.leading; ++i) EXPECT_EQ(a.shape[i], b.shape[i]);
  for (int t = 0; t < kRowTensors; ++t) {
    EXPECT_EQ(static_cast<void*>(a.data[t]), static_cast<void*>(b.data[t])) << "tensor " << t;
    EXPECT_EQ(a.type[t], b.type[t]) << "tensor " << t;
  }
  EXPECT_EQ(a.weight, b.weight);
  EXPECT_EQ(a.bias, b.bias);
  EXPECT_EQ(a.dweight, b.dweight);
  EXPECT_EQ(a.dbias, b.dbias);
  EXPECT_EQ(a.weight_finite, b.weight_finite);
  EXPECT_EQ(a.quantizer.on, b.quantizer.on);
  EXPECT_EQ(a.repeated, b.repeated);
  EXPECT_EQ(a.ranks, b.ranks);
  EXPECT_EQ(a.shard, b.shard);
  EXPECT_EQ(a.stream, b.stream);
  EXPECT_EQ(a.device.device_type, b.device.device_type);
  EXPECT_EQ(a.weight_type, b.weight_type);
  EXPECT_EQ(a.bias_type, b.bias_type);
  EXPECT_EQ(a.dbias_type, b.dbias_type);
  EXPECT_EQ(a.workspace, b.workspace);
  ASSERT_EQ(a.executor.parallel_for, b.executor.parallel_for);
  if (a.executor.parallel_for == nullptr) return;
  EXPECT_EQ(a.executor.struct_size, b.executor.struct_size);
  EXPECT_EQ(a.executor.concurrency, b.executor.concurrency);
}

void ExpectSameStrides(const Call& a, const Call& b) {
  for (int i = 0; i < std::max(a.leading, 1); ++i) {
    for (int t = 0; t < kRowTensors; ++t) EXPECT_EQ(a.stride[i][t], b.stride[i][t]) << "dimension " << i << ", tensor " << t;
  }
}

// Whether the short cut took the call; if it did, the long way must agree.
bool Takes(const Scene& scene) {
  CallRoom room;
  const Call& usual = room.call;
  Call by_steps;
  CallBuilder builder(&by_steps);
  const bool taken = MakeUsualForward(&scene.contract, scene.eps, &scene.args, &room);
  const isonorm_status status = MakeForward(&scene.contract, scene.eps, &scene.args, builder);
  if (taken) {
    EXPECT_EQ(status, ISONORM_OK) << isonorm_last_error();
    if (status == ISONORM_OK) {
      ExpectSame(usual, by_steps);
      ExpectSameStrides(usual, by_steps);
    }
    EXPECT_TRUE(usual.usual);
  }
  return taken;
}

TEST(UsualCallTest, TakesUsualCalls) {
  for (int ndim = 1; ndim <= 7; ++ndim) EXPECT_TRUE(Takes(Scene(ndim))) << ndim;
  {
    Scene scene;
    scene.args.weight = nullptr;
    EXPECT_TRUE(Takes(scene));
  }
  {
    Scene scene;
    scene.y.data = scene.x.data;  // in place
    EXPECT_TRUE(Takes(scene));
  }
  {
    Scene scene(3);
    scene.x_strides = scene.y_strides = CompactStrides(scene.shape);
    scene.x.strides = scene.x_strides.data();
    scene.y.strides = scene.y_strides.data();
    scene.weight.strides = &scene.weight_stride;
    EXPECT_TRUE(Takes(scene));
  }
  {
    Scene scene;
    scene.args.executor = &scene.executor;
    scene.args.groups = 1;
    scene.x.byte_offset = 4;
    EXPECT_TRUE(Takes(scene));
  }
  for (size_t i = 0; i < isonorm_contract_count(); ++i) {
    Scene scene;
    ASSERT_EQ(isonorm_contract_by_name(isonorm_contract_name(i), &scene.contract, sizeof(scene.contract)), ISONORM_OK);
    scene.x.dtype = scene.y.dtype = scene.weight.dtype = ISONORM_BF16;
    const bool usual = scene.contract.gate_place == ISONORM_GATE_NONE;
    EXPECT_EQ(Takes(scene), usual) << isonorm_contract_name(i);
    scene.args.rstd = &scene.rstd;
    EXPECT_EQ(Takes(scene), usual) << isonorm_contract_name(i);
    const bool layer = usual && scene.contract.statistic == ISONORM_STATISTIC_LAYER;  // alone has the rest
    scene.rstd.dtype = ISONORM_BF16;
    --scene.rstd.ndim;
    EXPECT_EQ(Takes(scene), layer) << isonorm_contract_name(i);
    scene.rstd = {};
    scene.args.rstd = nullptr;
    scene.args.mean = &scene.mean;
    EXPECT_EQ(Takes(scene), layer) << isonorm_contract_name(i);
    scene.args.mean = nullptr;
    scene.args.bias = &scene.bias;
    EXPECT_EQ(Takes(scene), layer) << isonorm_contract_name(i);
  }
}

// Calls with one, two or three things changed in them, right and wrong: whatever the short cut takes, the long way makes alike.
TEST(UsualCallTest, AgreesWithTheLongWay) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr int64_t kHuge = int64_t{1} << 30;
  std::mt19937 random(7);
  const auto pick = [&random](auto... values) {
    const std::common_type_t<decltype(values)...> all[] = {values...};
    return all[random() % sizeof...(values)];
  };
  int taken = 0, refused = 0;
  for (int round = 0; round < 200000; ++round) {
    Scene scene(static_cast<int>(random() % 7) + 1);
    if (random() % 2 != 0) scene.contract = ISONORM_CONTRACT_LAYER_NORM;
    if (random() % 2 != 0) scene.args.bias = &scene.bias;
    if (random() % 2 != 0) scene.args.rstd = &scene.rstd;
    if (random() % 3 == 0) scene.args.mean = &scene.mean;
    isonorm_tensor* tensor = pick(&scene.x, &scene.y, &scene.weight, &scene.bias, &scene.rstd, &scene.mean);
    const size_t dimension = random() % scene.shape.size();
    for (unsigned changes = random() % 4; changes > 0; --changes) {
      switch (random() % 29) {
        case 0: scene.eps = pick(0.0, -0.0, 1e-5, 0.1, 1e-60, -1e-60, -1.0, 1e39, kInfinity, std::nan("")); break;
        case 1: scene.contract.weight_offset = pick(1.0, -0.0, 0.1, 1e39, -kInfinity, std::nan("")); break;
        case 2: scene.contract.eps_place = pick(0, 1, 2, 3); break;
        case 3: scene.contract.scaled_rounding = pick(0, 1, 2, 3, 4); break;
        case 4: scene.contract.sum_rounding = pick(0, 1, 2, 3); break;
        case 5: scene.contract.gate_place = pick(0, 1, 2, 3, 4); break;
        case 6: scene.contract.statistic = pick(0, 1, 2, 3); break;
        case 7: scene.contract.gate_function = pick(0, 1, 2, 3); break;
        case 8: scene.contract.struct_size = pick(size_t{0}, sizeof scene.contract, sizeof scene.contract + 8); break;
        case 9: scene.args.struct_size = pick(size_t{8}, sizeof scene.args, sizeof scene.args + 8); break;
        case 10: tensor->dtype = pick(ISONORM_F32, ISONORM_BF16, ISONORM_F16, ISONORM_F64, isonorm_dtype{1, 32, 1}); break;
        case 11: tensor->device.device_type = pick(0, 1, 2); break;
        case 12: tensor->ndim = pick(-1, 0, 1, 2, 8); break;
        case 13:
          tensor->data = pick(static_cast<void*>(nullptr), scene.x.data, scene.y.data, scene.weight.data, scene.rstd.data);
          break;
        case 14: tensor->byte_offset = pick(uint64_t{0}, uint64_t{2}, uint64_t{4}, uint64_t{1} << 20, ~uint64_t{0} << 2); break;
        case 15: tensor->data = reinterpret_cast<void*>(pick(intptr_t{64}, INTPTR_MAX - 63, intptr_t{-64})); break;
        case 16:
          scene.shape[dimension] = scene.y_shape[dimension] = pick(0, 1, 2, 5, -1);
          if (dimension + 1 < scene.shape.size()) scene.statistic_shape[dimension] = scene.shape[dimension];
          break;
        case 17:
          scene.shape[dimension] = scene.y_shape[dimension] = pick(kHuge, kHuge + 1, 4 * kHuge, INT64_MAX / 2, INT64_MIN);
          if (dimension + 1 < scene.shape.size()) scene.statistic_shape[dimension] = scene.shape[dimension];
          break;
        case 18: scene.y_shape[dimension] = pick(1, 2, 3); break;
        case 19: scene.weight_shape = pick(1, 23, 24, 25); break;
        case 20:
          scene.x_strides = scene.y_strides = CompactStrides(scene.shape);
          (random() % 2 != 0 ? scene.x_strides : scene.y_strides)[dimension] += pick(0, 0, 1, 8, -8);
          scene.x.strides = scene.x_strides.data();
          scene.y.strides = scene.y_strides.data();
          break;
        case 21:
          scene.weight_stride = pick(0, 1, 2);
          scene.weight.strides = scene.bias.strides = &scene.weight_stride;
          break;
        case 22:
          scene.args.executor = &scene.executor;
          scene.executor.concurrency = pick(-1, 0, 1, 2);
          scene.executor.struct_size = pick(size_t{0}, sizeof scene.executor);
          scene.executor.reserved = pick(0, 0, 1);
          if (random() % 4 == 0) scene.executor.parallel_for = nullptr;
          break;
        case 23: scene.contract.rotation_rounding = pick(-1, 0, 1, 2, 3); break;
        case 26: {  // or without the last dimension, or wrong
          isonorm_tensor& statistic = *pick(&scene.rstd, &scene.mean);
          statistic.ndim -= pick(0, 1, 1, 2);
          break;
        }
        case 27: scene.statistic_shape[random() % scene.statistic_shape.size()] = pick(1, 2, 3); break;
        case 28:
          scene.statistic_strides = CompactStrides(scene.statistic_shape);
          scene.statistic_strides[random() % scene.statistic_shape.size()] += pick(0, 0, 1, 8, -8);
          scene.rstd.strides = scene.mean.strides = scene.statistic_strides.data();
          break;
        case 24:
          scene.contract.reserved = pick(0, 1);
          scene.args.rope = pick(static_cast<isonorm_rope*>(nullptr), &scene.rope);
          break;
        default:
          scene.other = scene.x;
          *pick(&scene.args.residual, &scene.args.gate, &scene.args.bias, &scene.args.residual_out, &scene.args.rstd,
                &scene.args.mean, &scene.args.weight) = pick(&scene.other, static_cast<isonorm_tensor*>(nullptr));
          *pick(&scene.args.workspace, &scene.args.stream) = pick(static_cast<void*>(&scene), static_cast<void*>(nullptr));
          scene.args.groups = pick(0, 1, 2, -1);
          scene.args.window = pick(0, 0, 8);
      }
    }
    if (Takes(scene)) {
      ++taken;
    } else {
      ++refused;
    }
    ASSERT_FALSE(HasFailure()) << "in round " << round;
  }
  EXPECT_GT(taken, 40000);
  EXPECT_GT(refused, 40000);
}

}  // namespace
}  // namespace isonorm
