// What every test of the pool asks of an executor.
#pragma once

#include <isonorm/isonorm.hpp>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace isonorm_test {

inline bool EachOnce(const isonorm_executor* executor, std::size_t count) {
  std::vector<int> counts(count);
  const auto count_one = [](void* context, std::int64_t index) {
    ++(*static_cast<std::vector<int>*>(context))[static_cast<std::size_t>(index)];
  };
  executor->parallel_for(executor->context, static_cast<std::int64_t>(count), count_one, &counts);
  return counts == std::vector<int>(count, 1);
}

// Several tasks can be at work at the same time: that many which wait for each other end.
inline bool AtTheSameTime(const isonorm_executor* executor, int count) {
  struct Meeting {
    int expected;
    std::atomic<int> arrived = 0;
  } meeting{count};
  const auto meet = [](void* context, std::int64_t) {
    Meeting& all = *static_cast<Meeting*>(context);
    ++all.arrived;
    while (all.arrived < all.expected) std::this_thread::yield();
  };
  executor->parallel_for(executor->context, count, meet, &meeting);
  return meeting.arrived == count;
}

}  // namespace isonorm_test
