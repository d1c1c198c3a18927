// A finite weight whose sum with the contract's offset is not: 0 times it is a NaN that no look at the weight announces.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "isonorm/isonorm.h"

namespace {

TEST(OffsetTest, AnOverflowingWeightStoresCanonicalNaNs) {
  constexpr int64_t kRows = 16, kCols = 64;
  std::vector<float> x(kRows * kCols, 1.0f), weight(kCols, std::numeric_limits<float>::max());
  for (size_t i = 0; i < x.size(); i += 2) x[i] = 0;
  std::vector<float> y(x.size());
  int64_t shape[2] = {kRows, kCols}, width[1] = {kCols};
  const isonorm_tensor tx = {x.data(), {ISONORM_DEVICE_CPU, 0}, 2, ISONORM_F32, shape, nullptr, 0};
  const isonorm_tensor ty = {y.data(), {ISONORM_DEVICE_CPU, 0}, 2, ISONORM_F32, shape, nullptr, 0};
  const isonorm_tensor tw = {weight.data(), {ISONORM_DEVICE_CPU, 0}, 1, ISONORM_F32, width, nullptr, 0};
  isonorm_contract contract = ISONORM_CONTRACT_GEMMA;
  contract.weight_offset = 0x1p127;
  isonorm_forward_args args = {};
  args.struct_size = sizeof(args);
  args.x = &tx;
  args.weight = &tw;
  args.y = &ty;
  for (size_t t = 0; t < isonorm_target_count(); ++t) {
    ASSERT_EQ(isonorm_set_target(isonorm_target_name(t)), ISONORM_OK);
    ASSERT_EQ(isonorm_forward(&contract, 1e-6, &args), ISONORM_OK) << isonorm_last_error();
    const auto* bits = reinterpret_cast<const uint32_t*>(y.data());
    for (size_t i = 0; i < y.size(); ++i) {
      ASSERT_EQ(bits[i], i % 2 == 0 ? 0x7FC00000u : 0x7F800000u) << isonorm_last_kernel() << " at " << i;
    }
  }
  ASSERT_EQ(isonorm_set_target(nullptr), ISONORM_OK);
}

}  // namespace
