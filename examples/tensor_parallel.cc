// A row that four ranks share: each has a quarter of the columns, and one float per row goes from each rank to all. The result
// has the bits of the norm of whole rows. Four threads stand for four processes, and a barrier for the network.
#include <barrier>
#include <cstdio>
#include <cstring>
#include <isonorm/isonorm.hpp>
#include <thread>
#include <vector>

constexpr std::int64_t kRanks = 4, kRows = 3, kCols = 1024, kOwn = kCols / kRanks;

// What one rank has: its columns of everything, and room for the exchange.
struct Rank {
  std::vector<float> x = std::vector<float>(kRows * kOwn), dy = x, y = x, dx = x, weight = std::vector<float>(kOwn, 1.5f),
                     dweight = weight;
  std::vector<float> partial = std::vector<float>(kRows), gathered = std::vector<float>(kRanks * kRows),
                     statistic = std::vector<float>(kRows * 4);
};

int main() {
  const isonorm::contract contract = isonorm::contracts::llama;
  std::vector<float> x(kRows * kCols), dy(kRows * kCols), weight(kCols, 1.5f);
  std::vector<Rank> ranks(kRanks);
  for (std::int64_t i = 0; i < kRows * kCols; ++i) {
    const std::int64_t row = i / kCols, col = i % kCols;
    x[i] =
        static_cast<float>(i * 2654435761 % 2001 - 1000) * (row == 2 ? 1e35f : 0.01f);  // the squares of the last row overflow
    dy[i] = static_cast<float>(i * 40503 % 17 - 8);
    ranks[col / kOwn].x[row * kOwn + col % kOwn] = x[i];
    ranks[col / kOwn].dy[row * kOwn + col % kOwn] = dy[i];
  }

  std::barrier everybody(kRanks);
  std::vector<int> exchanges(kRanks);
  const auto run = [&](std::int64_t number) {
    Rank& rank = ranks[number];
    const auto all_gather = [&] {  // in a model: an all-gather of partial into gathered
      everybody.arrive_and_wait();
      for (std::int64_t from = 0; from < kRanks; ++from) {
        std::memcpy(&rank.gathered[from * kRows], ranks[from].partial.data(), kRows * sizeof(float));
      }
      everybody.arrive_and_wait();
      ++exchanges[number];
    };
    const isonorm::shard shard = {.ranks = kRanks,
                                  .partial = {rank.partial, kRows, 1},
                                  .gathered = {rank.gathered, {kRanks, kRows, 1}},
                                  .statistic = {rank.statistic, kRows, 4}};
    isonorm::forward(contract, 1e-6, {.x = {rank.x, kRows, kOwn}, .weight = rank.weight, .y = {rank.y, kRows, kOwn}}, shard,
                     all_gather);
    isonorm::backward(contract, 1e-6,
                      {.dy = {rank.dy, kRows, kOwn},
                       .x = {rank.x, kRows, kOwn},
                       .weight = rank.weight,
                       .dx = {rank.dx, kRows, kOwn},
                       .dweight = rank.dweight},
                      shard, all_gather);
  };
  std::vector<std::thread> threads;
  for (std::int64_t number = 0; number < kRanks; ++number) threads.emplace_back(run, number);
  for (std::thread& thread : threads) thread.join();

  std::vector<float> y(kRows * kCols), dx(kRows * kCols), dweight(kCols);
  isonorm::forward(contract, 1e-6, {.x = {x, kRows, kCols}, .weight = weight, .y = {y, kRows, kCols}});
  isonorm::backward(
      contract, 1e-6,
      {.dy = {dy, kRows, kCols}, .x = {x, kRows, kCols}, .weight = weight, .dx = {dx, kRows, kCols}, .dweight = dweight});
  bool same = true;
  for (std::int64_t number = 0; number < kRanks; ++number) {
    const Rank& rank = ranks[number];
    for (std::int64_t row = 0; row < kRows; ++row) {
      const std::size_t bytes = kOwn * sizeof(float), whole = row * kCols + number * kOwn;
      same = same && std::memcmp(&y[whole], &rank.y[row * kOwn], bytes) == 0;
      same = same && std::memcmp(&dx[whole], &rank.dx[row * kOwn], bytes) == 0;
    }
    same = same && std::memcmp(&dweight[number * kOwn], rank.dweight.data(), kOwn * sizeof(float)) == 0;
  }
  std::printf("exchanges of one float per row: %d forward and 1 backward\n", exchanges[0] - 1);
  std::printf("four ranks and one: %s\n", same ? "the same bits" : "different bits");
}
