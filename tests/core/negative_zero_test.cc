// A mean of LayerNorm that rounds to -0: to take it away makes +0 of -0, on every target.
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <isonorm/isonorm.hpp>
#include <string>
#include <vector>

#include "environment.h"
#include "run.h"

namespace core_test {
namespace {

constexpr int64_t kCols = 9;
constexpr float kLeast = -0x1p-149f;

std::vector<uint32_t> Bits(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

class NegativeZeroTest : public testing::TestWithParam<std::string> {};

TEST_P(NegativeZeroTest, MeanOfX) {
  const std::vector<float> x = {kLeast, 0, -0.0f, 0, 0, 0, 0, 0, 0};
  const auto y_on = [&](const std::string& name) {
    const ScopedTarget target(name.c_str());
    std::vector<float> y(kCols, 1);
    isonorm::forward(isonorm::contracts::layer_norm, 1e-6, {.x = {x, 1, kCols}, .y = {y, 1, kCols}});
    return Bits(y);
  };
  EXPECT_EQ(y_on("reference")[2], 0u);
  EXPECT_EQ(y_on(GetParam()), y_on("reference"));
}

TEST_P(NegativeZeroTest, MeanOfTheGradient) {
  const std::vector<float> x = {1, 2, 3, 4, 5, 6, 7, 8, 9}, dy = {kLeast, 0, 0, 0, 0, 0, -0.0f, -0.0f, 0};
  const auto dx_on = [&](const std::string& name) {
    const ScopedTarget target(name.c_str());
    std::vector<float> dx(kCols, 1);
    isonorm::backward(isonorm::contracts::layer_norm, 1e-6, {.dy = {dy, 1, kCols}, .x = {x, 1, kCols}, .dx = {dx, 1, kCols}});
    return Bits(dx);
  };
  EXPECT_EQ(dx_on("reference")[6], 0u);
  EXPECT_EQ(dx_on(GetParam()), dx_on("reference"));
}

INSTANTIATE_TEST_SUITE_P(Target, NegativeZeroTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
