// What came of the calls of a golden case in one setup, held against the file.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "golden/tensors.h"

namespace isonorm_cli {

class Check {
 public:
  Check(const GoldenCase& golden, const std::string& target, const Setup& setup, Tally* tally, Produced* produced)
      : golden_(golden), target_(target), setup_(setup), tally_(tally), produced_(produced) {}

  // What is called from now on, and what it must not change.
  void Begin(std::string form, const std::vector<const Buffer*>& inputs);
  // Whether the call succeeded. `computes`: it ran a kernel, which must be one of the target.
  bool Called(isonorm_status status, bool computes = true);

  // Null: the case has no such output.
  void Compare(Output output, const Owned& buffer);
  void CompareBytes(Output output, std::vector<uint8_t> bytes);
  void Report(std::string output, std::string expected, std::string got);

 private:
  const GoldenCase& golden_;
  const std::string& target_;
  const Setup& setup_;
  Tally* tally_;
  Produced* produced_;
  std::string form_;
  std::vector<std::pair<const Buffer*, std::vector<uint8_t>>> before_;
};

// The case as several ranks compute it that share its rows, one after another; and its gradients from runs of rows.
void CheckShards(const GoldenCase& golden, const Inputs& inputs, const Setup& setup, Check* check);
void CheckParts(const GoldenCase& golden, const Inputs& inputs, const Setup& setup, Check* check);

}  // namespace isonorm_cli
