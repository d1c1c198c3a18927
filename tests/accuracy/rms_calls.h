// The calls of the vector functions on one x, and what they should give.
#pragma once

#include <string>

#include "accuracy/data.h"
#include "accuracy/oracle.h"
#include "support/rms.h"

namespace isonorm_test {

struct RmsCall {
  explicit RmsCall(Tensor tensor) : x(std::move(tensor)) {
    const Type compute = x.type() == Type::kF64 ? Type::kF64 : Type::kF32;
    std::vector<int64_t> leading = x.shape();
    leading.pop_back();
    rms = penalty = Tensor(compute, leading);
    drms = MakePlain(compute, leading, 3);
    dx = Tensor(x.type(), x.shape());
  }

  std::string Rms() { return Message(isonorm_test::Rms(x.abi(), rms.abi())); }
  std::string Backward() { return Message(isonorm_test::RmsBackward(x.abi(), drms.abi(), dx.abi())); }
  std::string Penalty(double lambda, uint32_t flags) {
    return Message(isonorm_test::RmsPenalty(x.abi(), lambda, penalty.abi(), dx.abi(), flags));
  }

  Values Want() const {  // of every row
    Values all;
    for (int64_t first = 0; first < x.size(); first += x.cols()) {
      Sum squares;
      for (int64_t i = first; i < first + x.cols(); ++i) squares.Add(x[i] * x[i]);
      all.push_back(std::sqrt(squares.value() / static_cast<long double>(x.cols())));
    }
    return all;
  }

  Tensor x, rms, drms, penalty, dx;

 private:
  static std::string Message(isonorm_status status) { return status == ISONORM_OK ? "" : isonorm_last_error(); }
};

}  // namespace isonorm_test
