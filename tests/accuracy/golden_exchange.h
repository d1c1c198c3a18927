// What the ranks of a golden case send to each other, by the protocol of docs/parallel.md.
#pragma once

#include <array>
#include <optional>

#include "accuracy/golden_norm.h"

namespace isonorm_test {

class Exchange {
 public:
  explicit Exchange(const Norm& norm) : norm_(norm) {}
  // Row by row; nothing is done for a case without ranks.
  void AddForward(const Group& group);
  void AddBackward(const GroupGradients& gradients);

  // Of all rounds. `sent` decides whether a row is scaled where its sum is too near to a limit.
  Balls Expected(const Values& sent) const;

 private:
  using Sums = std::vector<std::array<Ball, 2>>;  // of each rank
  struct Row {
    Sums mean, squares;   // empty: the row cannot be scaled
    Ball total, average;  // of all ranks
  };
  Row SumsOf(const Balls& h, Ball mean) const;
  std::optional<bool> Asks(const Row& row) const;

  const Norm& norm_;
  std::vector<Row> forward_, scaled_;
  std::vector<Sums> largest_, backward_;
};

}  // namespace isonorm_test
