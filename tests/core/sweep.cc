#include "sweep.h"

#include <gtest/gtest.h>

#include <cstdio>

namespace core_test {

void Sweep::Check(const Problem& problem) {
  if (hopeless()) return;
  ++problems_;
  const Expected expected = Reference(problem);
  const Problem forward = ForwardOf(problem);
  bool same = true;
  size_t turn = problem.seed;
  for (const std::string& target : Targets()) {
    const ScopedTarget scope(target);
    // Each target takes another form of backward, so that all forms meet all targets in the course of a sweep.
    const Rstd rstd = turn % 2 == 0 ? Rstd::kSaved : Rstd::kRecomputed;
    const Sum sum = MayUseStoredSum(problem) && turn / 2 % 2 == 0 ? Sum::kFromStored : Sum::kFromPair;
    const Problem backward = BackwardOf(problem, rstd, sum);
    if (target != "reference") same &= Same(forward, expected.forward, Compute(forward, expected.inputs), target, &count_);
    same &= Same(backward, expected.backward, Compute(backward, expected.inputs), target, &count_);
    ++turn;
  }
  failed_ += same ? 0 : 1;
}

Sweep::~Sweep() {
  EXPECT_GT(count_.outputs, 0u) << "nothing was compared";
  std::printf("%zu problems, %zu outputs with %zu elements compared on %zu targets with the reference\n", problems_,
              count_.outputs, count_.elements, OtherTargets().size());
}

}  // namespace core_test
