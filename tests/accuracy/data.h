// Test data: the same on every machine, since std::mt19937_64 is exact where the distributions of <random> are not.
#pragma once

#include <cmath>
#include <functional>
#include <random>
#include <string>

#include "accuracy/problem.h"

namespace isonorm_test {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  // Four uniform numbers added: bell-shaped, in (-4, 4), standard deviation 1.15.
  double Plain() {
    const uint64_t bits = engine_();
    double sum = -131070;
    for (int shift = 0; shift < 64; shift += 16) sum += static_cast<double>((bits >> shift) & 0xffff);
    return std::ldexp(sum, -15);
  }
  // One in `n`.
  bool Rarely(uint64_t n) { return engine_() % n == 0; }
  int Between(int low, int high) { return low + static_cast<int>(engine_() % static_cast<uint64_t>(high - low + 1)); }

 private:
  std::mt19937_64 engine_;
};

// Kinds of x. "outliers" are what transformers' activations have: one value in 128 is 100 times as large. "wide" spreads
// exponents over 2^-30 to 2^30, "sparse" is seven eighths zeros, "rows of all scales" gives each row another power of two.
inline const char* const kKinds[] = {"plain", "outliers", "wide", "mean 64", "sparse", "rows of all scales"};

inline Tensor MakeX(const std::string& kind, Type type, int64_t rows, int64_t cols, uint64_t seed) {
  Random random(seed);
  return Tensor(type, {rows, cols}).Fill([&](int64_t i) -> long double {
    const double plain = random.Plain();
    if (kind == "outliers") return random.Rarely(128) ? 100 * plain : plain;
    if (kind == "wide") return std::ldexp(plain, random.Between(-30, 30));
    if (kind == "mean 64") return plain + 64;
    if (kind == "sparse") return random.Rarely(8) ? plain : 0;
    if (kind == "rows of all scales") return std::ldexp(plain, static_cast<int>(i / cols % 41) - 20);
    return plain;
  });
}

inline Tensor MakePlain(Type type, std::vector<int64_t> shape, uint64_t seed) {
  Random random(seed);
  return Tensor(type, std::move(shape)).Fill([&](int64_t) { return random.Plain(); });
}

// A problem over the types that a test names; `dy` only where gradients are wanted.
inline Problem MakeProblem(const isonorm_contract& contract, const std::string& kind, Type x, Type weight, int64_t rows,
                           int64_t cols) {
  Problem problem;
  problem.contract = contract;
  const auto seed = static_cast<uint64_t>(rows * 1000003 + cols * 10);
  problem.x = MakeX(kind, x, rows, cols, seed);
  problem.weight = MakePlain(weight, {cols}, seed + 1);
  return problem;
}

}  // namespace isonorm_test
