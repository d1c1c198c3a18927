// eps, weight_offset and lambda are rounded and checked while a call is made, before any kernel runs. What the host has set
// must not show there either: no rounding mode, flushing or exception flag changes a status or a bit, or is different
// afterwards.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "environment.h"
#include "run.h"
#include "support/rms.h"

namespace core_test {
namespace {

struct Scalars {
  double eps, weight_offset, lambda;
  bool f32_takes_them;  // so do forward and backward in f32
  bool f64_takes_them;
};

constexpr double kTiny = std::numeric_limits<double>::denorm_min();
constexpr double kHalfAboveF32 = 0x1.ffffffp127;  // between the largest f32 and infinity; the tie goes to infinity
constexpr double kBelowHalf = 0x1.fffffefffffffp127;
const std::vector<Scalars> kScalars = {
    {1e-6, 0.1, 0.1, true, true},       // rounding up and down give other f32
    {1e-5, -1.1, -0.37, true, true},    //
    {0.1, 1e-40, 1e30, true, true},     //
    {1e-40, 0, 1e-40, true, true},      // subnormal in f32
    {1e-46, 0, 1e-310, true, true},     // 0 in f32, but for rounding up; subnormal in f64
    {kTiny, kTiny, kTiny, true, true},  //
    {-0.0, 1, 0, true, true},
    {kBelowHalf, 0, 1, true, true},  // infinite if rounded up
    {1e-6, kBelowHalf, 1, true, true},
    {kHalfAboveF32, 0, 1, false, true},  // finite if rounded down
    {1e-6, kHalfAboveF32, 1, false, true},
    {1e-6, -kHalfAboveF32, 1, false, true},
    {-kTiny, 0, 1, false, false},  // not negative if subnormals are zero
    {std::numeric_limits<double>::quiet_NaN(), 0, 1, false, false},
    {std::numeric_limits<double>::signaling_NaN(), 0, 1, false, false},
    {1e-6, std::numeric_limits<double>::signaling_NaN(), 1, false, false},
};
// The penalty has a scalar of its own.
const std::vector<double> kRefusedLambdas = {std::numeric_limits<double>::signaling_NaN(), HUGE_VAL, -HUGE_VAL};

template <class F>
constexpr isonorm_dtype kDtype = sizeof(F) == 8 ? ISONORM_F64 : ISONORM_F32;

// Tensors of every function, with rows of zeros and of small numbers, whose statistic is hardly more than eps.
template <class F>
class Calls {
 public:
  explicit Calls(const Environment& environment) : environment_(environment) {
    for (int64_t i = 0; i < kRows * kCols; ++i) {
      constexpr std::array<double, kRows> kScales = {0, 1e-20, 1e-3, 1, 1e-41};
      const auto value = static_cast<double>(i * 37 % 101 - 50) / 16;
      x_[i] = static_cast<F>(value * kScales[static_cast<size_t>(i / kCols)]);
      dy_[i] = static_cast<F>(static_cast<double>(i * 29 % 97 - 40) / 32);
      weight_[i % kCols] = static_cast<F>(static_cast<double>(i % 7) / 8 - 0.3);
    }
  }

  // Statuses and outputs of all functions, one after the other.
  Bytes Run(const Scalars& scalars) {
    for (const int32_t place : {ISONORM_EPS_INSIDE, ISONORM_EPS_OUTSIDE}) {
      isonorm_contract contract = ISONORM_CONTRACT_TORCH;
      contract.eps_place = place;
      contract.weight_offset = scalars.weight_offset;
      RunNorm(contract, scalars.eps);
    }
    Call("isonorm_rms", [&] { return isonorm_test::Rms(&x_tensor_, &rstd_tensor_); });
    Take(rstd_);
    Call("isonorm_rms_backward", [&] { return isonorm_test::RmsBackward(&x_tensor_, &rstd_tensor_, &dx_tensor_); });
    Take(dx_);
    for (const uint32_t flags : {0, +ISONORM_ACCUMULATE}) {
      Call("isonorm_rms_penalty",
           [&] { return isonorm_test::RmsPenalty(&x_tensor_, scalars.lambda, &rstd_tensor_, &dx_tensor_, flags); });
      Take(rstd_);
      Take(dx_);
    }
    return answer_;
  }

  isonorm_status Penalty(double lambda) {
    return Call("isonorm_rms_penalty", [&] { return isonorm_test::RmsPenalty(&x_tensor_, lambda, &rstd_tensor_, nullptr); });
  }

  isonorm_status forward = ISONORM_OK, backward = ISONORM_OK;  // the last ones

 private:
  static constexpr int64_t kRows = 5, kCols = 40;

  void RunNorm(const isonorm_contract& contract, double eps) {
    isonorm_forward_args f = {};
    f.struct_size = sizeof(f);
    f.x = &x_tensor_;
    f.weight = &weight_tensor_;
    f.y = &dx_tensor_;
    f.rstd = &rstd_tensor_;
    forward = Call("isonorm_forward", [&] { return isonorm_forward(&contract, eps, &f); });
    Take(dx_);
    Take(rstd_);
    f.rstd = nullptr;  // nothing but x, weight and y: calls of that form are made on a shorter path
    EXPECT_EQ(Call("isonorm_forward", [&] { return isonorm_forward(&contract, eps, &f); }), forward);
    Take(dx_);
    isonorm_backward_args b = {};
    b.struct_size = sizeof(b);
    b.dy = &dy_tensor_;
    b.x = &x_tensor_;
    b.weight = &weight_tensor_;
    b.dx = &dx_tensor_;
    b.dweight = &dweight_tensor_;
    b.workspace = workspace_.data();
    b.workspace_size = workspace_.size();
    size_t needed = 0;
    Call("isonorm_backward_workspace", [&] { return isonorm_backward_workspace(&contract, eps, &b, &needed); });
    EXPECT_LE(needed, workspace_.size());
    backward = Call("isonorm_backward", [&] { return isonorm_backward(&contract, eps, &b); });
    Take(dx_);
    Take(dweight_);
  }

  template <class Function>
  isonorm_status Call(const char* name, Function function) {
    SetEnvironment(environment_.bits);
    const uint64_t before = EnvironmentNow();
    const isonorm_status status = function();
    const uint64_t after = EnvironmentNow();
    SetEnvironment(kDefaultEnvironment);
    EXPECT_EQ(before, after) << name << " left another environment: " << environment_.name;
    answer_.push_back(static_cast<uint8_t>(status));
    return status;
  }

  template <size_t kCount>
  void Take(const std::array<F, kCount>& output) {
    const auto* first = reinterpret_cast<const uint8_t*>(output.data());
    answer_.insert(answer_.end(), first, first + sizeof(output));
  }

  isonorm_tensor Tensor(F* data, int32_t ndim, int64_t* shape) {
    return {data, {ISONORM_DEVICE_CPU, 0}, ndim, kDtype<F>, shape, nullptr, 0};
  }

  const Environment& environment_;
  Bytes answer_;
  std::array<F, kRows*kCols> x_ = {}, dy_ = {}, dx_ = {};
  std::array<F, kCols> weight_ = {}, dweight_ = {};
  std::array<F, kRows> rstd_ = {};
  std::array<std::byte, 4096> workspace_ = {};
  std::array<int64_t, 2> shape_ = {kRows, kCols};
  isonorm_tensor x_tensor_ = Tensor(x_.data(), 2, shape_.data()), dy_tensor_ = Tensor(dy_.data(), 2, shape_.data()),
                 dx_tensor_ = Tensor(dx_.data(), 2, shape_.data()), weight_tensor_ = Tensor(weight_.data(), 1, &shape_[1]),
                 dweight_tensor_ = Tensor(dweight_.data(), 1, &shape_[1]),
                 rstd_tensor_ = Tensor(rstd_.data(), 1, shape_.data());
};

const Environment kDefault = {"default", kDefaultEnvironment};

template <class F>
void TryAll(const std::string& target_name) {
  for (const Scalars& scalars : kScalars) {
    Bytes expected;
    {
      const ScopedTarget reference("reference");
      Calls<F> calls(kDefault);
      expected = calls.Run(scalars);
      const bool taken = sizeof(F) == 8 ? scalars.f64_takes_them : scalars.f32_takes_them;
      EXPECT_EQ(calls.forward == ISONORM_OK, taken) << scalars.eps << ", " << scalars.weight_offset;
      EXPECT_EQ(calls.backward, calls.forward);
    }
    const ScopedTarget target(target_name);
    for (const Environment& environment : EveryEnvironment()) {
      const bool same = Calls<F>(environment).Run(scalars) == expected;
      EXPECT_TRUE(same) << "eps " << scalars.eps << ", weight_offset " << scalars.weight_offset << ", lambda " << scalars.lambda
                        << ", f" << 8 * sizeof(F) << ": " << environment.name;
    }
  }
}

class ScalarsTest : public testing::TestWithParam<std::string> {};

TEST_P(ScalarsTest, DoNotKnowTheHostsEnvironment) {
  TryAll<float>(GetParam());
  TryAll<double>(GetParam());
}

TEST_P(ScalarsTest, RefusedLambdasLeaveTheEnvironment) {
  const ScopedTarget target(GetParam());
  for (const Environment& environment : EveryEnvironment()) {
    Calls<float> calls(environment);
    for (const double lambda : kRefusedLambdas) EXPECT_EQ(calls.Penalty(lambda), ISONORM_ERROR_ARGUMENT) << environment.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Target, ScalarsTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

// The numbers above are such that the environments would show: for each of them there is one that f32 rounds to another value.
TEST(ScalarsGate, TheEnvironmentsRoundThemDifferently) {
  for (const Environment& environment : EveryEnvironment()) {
    if ((environment.bits & ~kFlags) == (kDefaultEnvironment & ~kFlags)) continue;
    int differ = 0;
    for (const Scalars& scalars : kScalars) {
      const volatile double value = scalars.eps;
      const volatile float nearest = static_cast<float>(value);
      SetEnvironment(environment.bits);
      const volatile float here = static_cast<float>(value);
      const volatile bool negative = value < 0;
      SetEnvironment(kDefaultEnvironment);
      differ += here != nearest || negative != (value < 0) ? 1 : 0;
    }
    EXPECT_GT(differ, 0) << environment.name;
  }
}

}  // namespace
}  // namespace core_test
