// One row through the library, compared exactly.
#pragma once

#include <gtest/gtest.h>

#include "accuracy/data.h"
#include "accuracy/oracle.h"

namespace isonorm_test {

// y has x's type.
inline void ExpectForward(const isonorm_contract& contract, double eps, const Tensor& x, const Values& want,
                          const Tensor& weight = Tensor()) {
  Problem problem;
  problem.contract = contract;
  problem.eps = eps;
  problem.x = x;
  problem.weight = weight;
  const Outputs out = RunForward(problem, x.type());
  ASSERT_EQ(out.error, "");
  ASSERT_EQ(static_cast<size_t>(out.y.size()), want.size());
  for (int64_t i = 0; i < out.y.size(); ++i)
    ASSERT_EQ(out.y[i], want[static_cast<size_t>(i)]) << "element " << i << ", x " << x[i];
}

}  // namespace isonorm_test
