// Calls on a device: their check reads descriptors and never data.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "device.h"
#include "isonorm/parallel.h"

namespace isonorm {
namespace {

constexpr isonorm_contract kTorch = ISONORM_CONTRACT_TORCH, kQwen = ISONORM_CONTRACT_QWEN3_NEXT_GATED;
constexpr double kEps = 1e-6;

template <class Args>
Args Sized() {
  Args args = {};
  args.struct_size = sizeof(args);
  return args;
}

isonorm_status Forward(World& world, const isonorm_forward_args& args, const isonorm_contract& contract = kTorch) {
  world.Close();
  return isonorm_forward(&contract, kEps, &args);
}

// A workspace of what the call says, on its device.
isonorm_status Backward(World& world, isonorm_backward_args& args) {
  world.Close();
  const isonorm_status status = isonorm_backward_workspace(&kTorch, kEps, &args, &args.workspace_size);
  if (status != ISONORM_OK) return status;
  world.Bytes();
  args.workspace = world.Make(ISONORM_I8, {static_cast<int64_t>(args.workspace_size)})->data;
  world.Close();
  return isonorm_backward(&kTorch, kEps, &args);
}

isonorm_forward_args Plain(World& world) {
  auto args = Sized<isonorm_forward_args>();
  args.x = world.Make(ISONORM_BF16, {5, 96});
  args.weight = world.Make(ISONORM_BF16, {96});
  args.y = world.Make(ISONORM_BF16, {5, 96});
  return args;
}

isonorm_quantization Static() {
  auto quantization = Sized<isonorm_quantization>();
  quantization.scale_kind = ISONORM_SCALE_STATIC;
  return quantization;
}

isonorm_rope Rope64(World& world, const std::vector<int64_t>& positions) {
  auto rope = Sized<isonorm_rope>();
  rope.style = ISONORM_ROPE_HALF;
  rope.cos = world.Make(ISONORM_F32, {7, 32});
  rope.sin = world.Make(ISONORM_F32, {7, 32});
  rope.positions = world.With(ISONORM_I64, {static_cast<int64_t>(positions.size())}, positions);
  return rope;
}

struct Case {
  const char* name;
  isonorm_status (*compute)(World& world);
};

// Every entry point, with whatever has data that a host could look at: weights, a static scale, positions.
const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = {
      {"forward", [](World& w) { return Forward(w, Plain(w)); }},
      {"forward with all parts",
       [](World& w) {
         isonorm_forward_args args = Plain(w);
         args.gate = w.Make(ISONORM_BF16, {5, 96});
         args.bias = w.Make(ISONORM_F32, {96});
         args.residual = w.Make(ISONORM_BF16, {5, 96});
         args.residual_out = w.Make(ISONORM_BF16, {5, 96});
         args.rstd = w.Make(ISONORM_F32, {5});
         return Forward(w, args, kQwen);
       }},
      {"static scale",
       [](World& w) {
         isonorm_forward_args args = Plain(w);
         const isonorm_quantization quantization = Static();
         args.y = w.Make(ISONORM_I8, {5, 96});
         args.quantization = &quantization;
         args.scale = w.With<float>(ISONORM_F32, {1}, {0.25f});
         return Forward(w, args);
       }},
      {"positions, of q and k",
       [](World& w) {
         const isonorm_rope rope = Rope64(w, {3, 0, 6});
         auto k = Sized<isonorm_forward_args>(), q = k;
         k.x = w.Make(ISONORM_BF16, {3, 1, 64});
         k.y = w.Make(ISONORM_BF16, {3, 1, 64});
         q.x = w.Make(ISONORM_BF16, {3, 2, 64});
         q.y = w.Make(ISONORM_BF16, {3, 2, 64});
         k.rope = q.rope = &rope;
         q.also = &k;
         isonorm_contract contract = kTorch;
         contract.rotation_rounding = ISONORM_ROUND_TO_X;
         return Forward(w, q, contract);
       }},
      {"backward",
       [](World& w) {
         auto args = Sized<isonorm_backward_args>();
         args.x = w.Make(ISONORM_F32, {70, 33});
         args.dy = w.Make(ISONORM_F32, {70, 33});
         args.weight = w.Make(ISONORM_F32, {33});
         args.dx = w.Make(ISONORM_F32, {70, 33});
         args.dweight = w.Make(ISONORM_F32, {33});
         return Backward(w, args);
       }},
      {"double backward",
       [](World& w) {
         auto args = Sized<isonorm_double_backward_args>();
         args.x = w.Make(ISONORM_F32, {4, 33});
         args.dy = w.Make(ISONORM_F32, {4, 33});
         args.ddx = w.Make(ISONORM_F32, {4, 33});
         args.ddy = w.Make(ISONORM_F32, {4, 33});
         w.Close();
         return isonorm_double_backward(&kTorch, kEps, &args);
       }},
      {"rms",
       [](World& w) {
         auto args = Sized<isonorm_rms_args>();
         args.x = w.Make(ISONORM_F16, {4, 33});
         args.rms = w.Make(ISONORM_F32, {4});
         w.Close();
         return isonorm_rms(&args);
       }},
      {"rms backward",
       [](World& w) {
         auto args = Sized<isonorm_rms_backward_args>();
         args.x = w.Make(ISONORM_F16, {4, 33});
         args.drms = w.Make(ISONORM_F32, {4});
         args.dx = w.Make(ISONORM_F16, {4, 33});
         w.Close();
         return isonorm_rms_backward(&args);
       }},
      {"penalty",
       [](World& w) {
         auto args = Sized<isonorm_rms_penalty_args>();
         args.x = w.Make(ISONORM_F32, {4, 33});
         args.penalty = w.Make(ISONORM_F32, {4});
         args.lambda = 0.5;
         w.Close();
         return isonorm_rms_penalty(&args);
       }},
      {"ranks",
       [](World& w) {
         isonorm_forward_args args = Plain(w);
         const isonorm_quantization quantization = Static();
         args.y = w.Make(ISONORM_E4M3, {5, 96});
         args.quantization = &quantization;
         args.scale = w.With<float>(ISONORM_F32, {1}, {0.25f});
         auto shard = Sized<isonorm_shard>();
         shard.ranks = 1;
         shard.statistic = w.Make(ISONORM_F32, {5, 4});
         shard.partial = w.Make(ISONORM_F32, {5, 1});
         w.Close();
         isonorm_status status = isonorm_forward_partial(&kTorch, kEps, &args, &shard, 0);
         isonorm_tensor gathered = *shard.partial;
         const int64_t shape[] = {1, 5, 1};
         gathered.ndim = 3;
         gathered.shape = const_cast<int64_t*>(shape);
         shard.gathered = &gathered;
         int32_t round = 0;
         if (status == ISONORM_OK) status = isonorm_forward_finish(&kTorch, kEps, &args, &shard, &round);
         EXPECT_EQ(round, 0);
         return status;
       }},
      {"combine",
       [](World& w) {
         auto args = Sized<isonorm_combine_args>();
         args.parts = w.Make(ISONORM_F32, {3, 70});
         args.gradient = w.Make(ISONORM_F32, {70});
         args.rows = 96;
         args.part_rows = 32;
         w.Close();
         return isonorm_combine_gradients(&args);
       }},
  };
  return cases;
}

TEST(DeviceTest, ChecksReadNoData) {
  ASSERT_EQ(isonorm_set_target("reference"), ISONORM_OK);
  for (const Case& each : Cases()) {
    World host(true), device(false);
    ASSERT_EQ(each.compute(host), ISONORM_OK) << each.name << ": " << isonorm_last_error();
    ASSERT_EQ(each.compute(device), ISONORM_OK) << each.name << ": " << isonorm_last_error();
    EXPECT_TRUE(host.Bytes() == device.Bytes()) << each.name;
  }
  EXPECT_TRUE(std::string(isonorm_last_kernel()).ends_with("@fake")) << isonorm_last_kernel();
  EXPECT_EQ(isonorm_set_target(nullptr), ISONORM_OK);
}

// A device has streams, and the backend gets the call's; host memory has none.
TEST(DeviceTest, TheStreamIsTheBackends) {
  World device(false);
  isonorm_forward_args args = Plain(device);
  int stream = 0;
  args.stream = &stream;
  EXPECT_EQ(Forward(device, args), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(Fake().stream, &stream);
  World host(true);
  args = Plain(host);
  args.stream = &stream;
  EXPECT_EQ(Forward(host, args), ISONORM_ERROR_ARGUMENT);
}

// A row whose position the tables do not hold is NaN, and no other row feels it.
TEST(DeviceTest, ABadPositionMakesItsRowNaN) {
  const auto rows = [](World& world, const std::vector<int64_t>& positions) {
    isonorm_contract contract = kTorch;
    contract.rotation_rounding = ISONORM_ROUND_TO_X;
    const isonorm_rope rope = Rope64(world, positions);
    auto args = Sized<isonorm_forward_args>();
    args.x = world.Make(ISONORM_BF16, {4, 64});
    args.y = world.Make(ISONORM_BF16, {4, 64});
    args.rope = &rope;
    EXPECT_EQ(Forward(world, args, contract), ISONORM_OK) << isonorm_last_error();
    world.Bytes();
    std::array<std::array<uint16_t, 64>, 4> y;
    std::memcpy(y.data(), args.y->data, sizeof(y));
    return y;
  };
  for (const int64_t bad : {int64_t{7}, int64_t{-1}, INT64_MAX, INT64_MIN}) {
    World good_world(false);
    const auto good = rows(good_world, {0, 3, 6, 2});
    World bad_world(false);
    const auto with_bad = rows(bad_world, {0, bad, 6, 2});
    for (const size_t row : {0, 2, 3}) EXPECT_EQ(with_bad[row], good[row]) << row;
    for (const uint16_t bits : with_bad[1]) ASSERT_EQ(bits, 0x7FC0) << bad;
  }
}

TEST(DeviceTest, ABadScaleMakesEveryValueNaN) {
  for (const float scale : {0.0f, -1.0f, 0x1p-127f, 0x1p127f, std::nanf(""), HUGE_VALF}) {
    for (const isonorm_dtype dtype : {ISONORM_I8, ISONORM_E4M3, ISONORM_E5M2}) {
      World world(false);
      isonorm_forward_args args = Plain(world);
      const isonorm_quantization quantization = Static();
      args.y = world.Make(dtype, {5, 96});
      args.quantization = &quantization;
      args.scale = world.With<float>(ISONORM_F32, {1}, {scale});
      ASSERT_EQ(Forward(world, args), ISONORM_OK) << isonorm_last_error();
      world.Bytes();
      const std::string nans(5 * 96, TypeOf(dtype) == Type::kI8 ? '\0' : '\x7F');
      EXPECT_EQ(std::string(static_cast<char*>(args.y->data), nans.size()), nans) << scale;
    }
  }
}

// What descriptors tell is told before anything runs.
TEST(DeviceTest, FaultsAreFoundInDescriptors) {
  struct Fault {
    isonorm_status status;
    const char* sentence;
    std::function<void(isonorm_forward_args&)> spoil;
  };
  isonorm_tensor other = {};
  const Fault faults[] = {
      {ISONORM_ERROR_DEVICE, "y.device is {1, 0}, but must be {12, 1} as x.device: the tensors of a call lie on one device.",
       [&](isonorm_forward_args& args) {
         other = *args.y;
         other.device = {ISONORM_DEVICE_CPU, 0};
         args.y = &other;
       }},
      {ISONORM_ERROR_DEVICE,
       "weight.device is {12, 0}, but must be {12, 1} as x.device: the tensors of a call lie on one device.",
       [&](isonorm_forward_args& args) {
         other = *args.weight;
         other.device.device_id = 0;
         args.weight = &other;
       }},
      {ISONORM_ERROR_OVERLAP, "y overlaps weight; the two must not share memory.",
       [&](isonorm_forward_args& args) {
         other = *args.y;
         other.data = args.weight->data;
         args.y = &other;
       }},
      {ISONORM_ERROR_DEVICE, "x.device.device_type is 12, but must be ISONORM_DEVICE_CPU (1).",
       [](isonorm_forward_args&) { SetBackendOf(kDevice.device_type, nullptr); }},
  };
  for (const Fault& fault : faults) {
    World world(false);
    isonorm_forward_args args = Plain(world);
    const std::string before = world.Bytes();
    fault.spoil(args);
    EXPECT_EQ(Forward(world, args), fault.status);
    EXPECT_STREQ(isonorm_last_error(), fault.sentence);
    EXPECT_EQ(world.Bytes(), before);
  }
}

TEST(DeviceTest, DevicesThatNobodyKnowsAreRefused) {
  for (const int32_t type : {0, 2, kDeviceTypes, INT32_MAX, INT32_MIN, -1}) {
    World world(false);
    const isonorm_forward_args args = Plain(world);
    for (const isonorm_tensor* tensor : {args.x, args.y, args.weight})
      const_cast<isonorm_tensor*>(tensor)->device.device_type = type;
    EXPECT_EQ(Forward(world, args), ISONORM_ERROR_DEVICE) << type;
  }
}

}  // namespace
}  // namespace isonorm
