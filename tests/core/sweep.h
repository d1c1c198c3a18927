// Compares every target of the machine with the reference, problem by problem.
#pragma once

#include <string>

#include "run.h"

namespace core_test {

class Sweep {
 public:
  // Forward and backward of the problem on every target but the reference, and the other forms of backward.
  void Check(const Problem& problem);

  // Too much has failed for more to tell anything.
  bool hopeless() const { return failed_ >= 5; }

  // Says how much was compared, and fails if that is nothing.
  ~Sweep();

 private:
  size_t problems_ = 0, failed_ = 0;
  Count count_;
};

}  // namespace core_test
