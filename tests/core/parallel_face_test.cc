// Shared rows and parts of gradients through the C++ face: the calls it makes are those of the C ABI.
#include <gtest/gtest.h>

#include <isonorm/parallel.hpp>
#include <vector>

namespace core_test {
namespace {

constexpr int64_t kFaceRows = 3, kFaceCols = 256;

struct Data {
  Data() {
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<float>(i * 37 % 101) - 50.0f;
      dy[i] = static_cast<float>(i * 7 % 13) - 6.0f;
    }
    isonorm::forward(isonorm::contracts::layer_norm, 1e-5,
                     {.x = {x, kFaceRows, kFaceCols}, .weight = weight, .y = {y, kFaceRows, kFaceCols}});
    isonorm::backward(isonorm::contracts::layer_norm, 1e-5,
                      {.dy = {dy, kFaceRows, kFaceCols},
                       .x = {x, kFaceRows, kFaceCols},
                       .weight = weight,
                       .dx = {dx, kFaceRows, kFaceCols},
                       .dweight = dweight});
  }
  std::vector<float> x = std::vector<float>(kFaceRows * kFaceCols), dy = x, y = x, dx = x;
  std::vector<float> weight = std::vector<float>(kFaceCols, 0.75f), dweight = weight;
};

// One rank: the whole protocol in one call each way, with an all-gather of one.
TEST(ParallelFaceTest, OneRankInOneCall) {
  const Data data;
  std::vector<float> partial(kFaceRows * 2), gathered(partial), statistic(kFaceRows * 4), y(data.y.size()), dx(data.dx.size()),
      dweight(kFaceCols);
  const isonorm::shard shard = {.ranks = 1,
                                .partial = {partial, kFaceRows, 2},
                                .gathered = {gathered, {1, kFaceRows, 2}},
                                .statistic = {statistic, kFaceRows, 4}};
  int gathers = 0;
  const auto all_gather = [&] {
    gathered = partial;
    ++gathers;
  };
  isonorm::forward(isonorm::contracts::layer_norm, 1e-5,
                   {.x = {data.x, kFaceRows, kFaceCols}, .weight = data.weight, .y = {y, kFaceRows, kFaceCols}}, shard,
                   all_gather);
  EXPECT_EQ(gathers, 2);
  EXPECT_EQ(y, data.y);
  isonorm::backward(isonorm::contracts::layer_norm, 1e-5,
                    {.dy = {data.dy, kFaceRows, kFaceCols},
                     .x = {data.x, kFaceRows, kFaceCols},
                     .weight = data.weight,
                     .dx = {dx, kFaceRows, kFaceCols},
                     .dweight = dweight},
                    shard, all_gather);
  EXPECT_EQ(gathers, 3);
  EXPECT_EQ(dx, data.dx);
  EXPECT_EQ(dweight, data.dweight);
}

// Two ranks by turns, as slices of whole rows.
TEST(ParallelFaceTest, TwoRanksByTurns) {
  const Data data;
  constexpr int64_t kOwn = kFaceCols / 2;
  ASSERT_EQ(isonorm::max_ranks(kFaceCols), 2);
  std::vector<float> gathered(2 * kFaceRows * 2), statistic(2 * kFaceRows * 4), y(data.y.size());
  const auto args = [&](int64_t rank) {
    const isonorm::dims shape = {kFaceRows, kOwn}, strides = {kFaceCols, 1};
    return isonorm::forward_args{.x = {data.x.data() + rank * kOwn, shape, strides},
                                 .weight = {data.weight.data() + rank * kOwn, {kOwn}},
                                 .y = {y.data() + rank * kOwn, shape, strides}};
  };
  const auto shard = [&](int64_t rank) {  // partial sums go straight to their place
    return isonorm::shard{.ranks = 2,
                          .partial = {gathered.data() + rank * kFaceRows * 2, {kFaceRows, 2}},
                          .gathered = {gathered, {2, kFaceRows, 2}},
                          .statistic = {statistic.data() + rank * kFaceRows * 4, {kFaceRows, 4}}};
  };
  int32_t round = 0, other = 0;
  do {
    for (int64_t rank = 0; rank < 2; ++rank) {
      isonorm::forward_partial(isonorm::contracts::layer_norm, 1e-5, args(rank), shard(rank), round);
    }
    other = isonorm::forward_finish(isonorm::contracts::layer_norm, 1e-5, args(1), shard(1), round);
    round = isonorm::forward_finish(isonorm::contracts::layer_norm, 1e-5, args(0), shard(0), round);
    ASSERT_EQ(round, other);
  } while (round != 0);
  EXPECT_EQ(y, data.y);
}

TEST(ParallelFaceTest, Combine) {
  const std::vector<double> parts = {1, 2, 10, 20, 100, 200};
  std::vector<double> gradient = {0.5, 0.25};
  isonorm::combine_gradients({.parts = {parts, 3, 2}, .gradient = gradient, .rows = 90, .part_rows = 32});
  EXPECT_EQ(gradient, (std::vector<double>{111, 222}));
  isonorm::combine_gradients({.parts = {parts, 3, 2}, .gradient = gradient, .rows = 90, .part_rows = 32, .accumulate = true});
  EXPECT_EQ(gradient, (std::vector<double>{222, 444}));
}

TEST(ParallelFaceTest, Throws) {
  const std::vector<float> parts(4);
  std::vector<float> gradient(2);
  try {
    isonorm::combine_gradients({.parts = {parts, 2, 2}, .gradient = gradient, .rows = 96, .part_rows = 48});
    FAIL() << "runs of 48 rows were combined";
  } catch (const isonorm::error& error) {
    EXPECT_EQ(error.status(), ISONORM_ERROR_SPLIT);
  }
}

}  // namespace
}  // namespace core_test
