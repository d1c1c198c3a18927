// What the tests of docs/theory.md share: single rows through the C++ face, on the calling thread, and exact helpers.
#pragma once

#include <isonorm/isonorm.hpp>

#include <numbers>
#include <vector>

#include "accuracy/bounds.h"
#include "accuracy/data.h"

namespace isonorm_test {

using Row = std::vector<double>;

constexpr long double kUnit = 0x1p-53L;  // half an ulp of 1 in f64: the most that one rounding changes, relatively

template <class T>
std::vector<T> Norm(const isonorm::contract& contract, double eps, const std::vector<T>& x, const std::vector<T>& weight = {},
                    const std::vector<T>& bias = {}) {
  std::vector<T> y(x.size());
  isonorm::forward_args args{.x = x, .y = y};
  if (!weight.empty()) args.weight = weight;
  if (!bias.empty()) args.bias = bias;
  isonorm::forward(contract, eps, args);
  return y;
}

template <class T>
std::vector<T> RmsNorm(const std::vector<T>& x, double eps = 0) {
  return Norm(isonorm::contracts::torch, eps, x);
}

template <class T>
std::vector<T> LayerNorm(const std::vector<T>& x, double eps = 0) {
  return Norm(isonorm::contracts::layer_norm, eps, x);
}

inline Row Gradient(const isonorm::contract& contract, double eps, const Row& x, const Row& dy, const Row& weight = {}) {
  Row dx(x.size());
  isonorm::backward_args args{.dy = dy, .x = x, .dx = dx};
  if (!weight.empty()) args.weight = weight;
  isonorm::backward(contract, eps, args);
  return dx;
}

// With an error below 2^-60 of the size of the terms.
template <class A, class B>
long double Dot(const A& a, const B& b) {
  Sum sum;
  for (size_t i = 0; i < a.size(); ++i) sum.Add(static_cast<long double>(a[i]) * b[i]);
  return sum.value();
}

template <class A>
long double Length(const A& a) {
  return std::sqrt(Dot(a, a));
}

template <class A>
long double Mean(const A& a) {
  Sum sum;
  for (const auto value : a) sum.Add(value);
  return sum.value() / static_cast<long double>(a.size());
}

// Two other sizes that a row of ones gives 1 at every width.
inline double MeanSize(const Row& row) {
  double sum = 0;
  for (const double value : row) sum += std::fabs(value);
  return sum / static_cast<double>(row.size());
}

inline double Largest(const Row& row) {
  double largest = 0;
  for (const double value : row) largest = std::fmax(largest, std::fabs(value));
  return largest;
}

// What texts print in place of dx_i = r (dy_i - c_i mean(dy c)), c = r x: only its diagonal, or the mean divided by n again.
enum class Wrong { kDiagonalOnly, kDividedTwice };

inline Values WrongGradient(Wrong form, double eps, const Row& x, const Row& dy) {
  const auto n = static_cast<long double>(x.size());
  const long double r = 1 / std::sqrt(Dot(x, x) / n + eps), mean = r * Dot(dy, x) / n;
  Values dx;
  for (size_t i = 0; i < x.size(); ++i) {
    const long double c = r * x[i];
    dx.push_back(form == Wrong::kDiagonalOnly ? r * (dy[i] - c * c * dy[i] / n) : r * (dy[i] - c * mean / n));
  }
  return dx;
}

// The difference of two vectors, as a length.
template <class A, class B>
long double Apart(const A& a, const B& b) {
  Values difference;
  for (size_t i = 0; i < a.size(); ++i) difference.push_back(static_cast<long double>(a[i]) - b[i]);
  return Length(difference);
}

template <class A>
Row Scaled(const A& a, double factor) {
  Row scaled(a.begin(), a.end());
  for (double& value : scaled) value *= factor;
  return scaled;
}

// Relative error of the RMS in units of kUnit: the sum of squares, whose terms are all positive, and the division by n, both
// halved by the root, and the root's own rounding.
inline double RmsRoundings(size_t n) { return (SumRoundings(static_cast<int64_t>(n)) + 1) / 2 + 1; }

// Of y with eps 0: 1 / sqrt(mean) is two roundings in f64, the product with x one more.
inline double NormRoundings(size_t n) { return (SumRoundings(static_cast<int64_t>(n)) + 1) / 2 + 2 + 1; }

// Standard normal numbers (Box and Muller), from uniform ones that are the same on every machine.
class Normal {
 public:
  explicit Normal(uint64_t seed) : engine_(seed) {}
  double operator()() {
    const double radius = std::sqrt(-2 * std::log(Uniform() + 0x1p-53)), angle = 2 * std::numbers::pi * Uniform();
    return radius * std::cos(angle);
  }

 private:
  double Uniform() { return std::ldexp(static_cast<double>(engine_() >> 11), -53); }  // in [0, 1)
  std::mt19937_64 engine_;
};

inline Row NormalRow(size_t n, uint64_t seed) {
  Normal normal(seed);
  Row row(n);
  for (double& value : row) value = normal();
  return row;
}

// v - 2 a (a.v) / (a.a), which is orthogonal for any a. In long double some 30 roundings of at most 2^-64 change length and
// direction by less than 32 LDBL_EPSILON, so two of them by less than kUnit / 8.
inline Values Reflected(Values v, const Row& a) {
  static_assert(std::numeric_limits<long double>::digits >= 64);
  const long double factor = 2 * Dot(a, v) / Dot(a, a);
  for (size_t i = 0; i < v.size(); ++i) v[i] -= factor * a[i];
  return v;
}

// A rotation that takes the first axis to the diagonal, and then somewhere.
inline Values Rotated(const Row& x, uint64_t seed) {
  Row to_diagonal(x.size(), 1);
  to_diagonal[0] -= std::sqrt(static_cast<double>(x.size()));
  return Reflected(Reflected(Values(x.begin(), x.end()), to_diagonal), NormalRow(x.size(), seed));
}

inline Row Stored(const Values& values) { return Row(values.begin(), values.end()); }

}  // namespace isonorm_test
