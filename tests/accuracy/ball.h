// Running error analysis: a value as mathematics gives it, and how far from it a computation may be that rounds where
// docs/numerics.md says. Bounds come out of the formulas themselves; nobody types them.
#pragma once

#include <cmath>
#include <limits>

#include "support/storage.h"

namespace isonorm_test {

// Everything within `error` of `value`. A value that is infinite or NaN has error 0: it must be just that. An infinite error
// means that the computation may pass the largest number on its way, and be anything then.
struct Ball {
  long double value = 0, error = 0;

  long double low() const { return value - error; }
  long double high() const { return value + error; }
  long double size() const { return std::fabs(value) + error; }
  bool anything() const { return std::isinf(error); }
};

inline Ball Anything() { return {0, std::numeric_limits<long double>::infinity()}; }

// What special values make of an error.
inline Ball Settled(long double value, long double error, bool known) {
  if (std::isnan(value) && known) return {value, 0};
  if (!known || std::isnan(error)) return Anything();
  return std::isinf(value) ? Ball{value, 0} : Ball{value, error};
}

// Exact operations.
inline Ball operator-(Ball a) { return {-a.value, a.error}; }
inline Ball operator+(Ball a, Ball b) { return Settled(a.value + b.value, a.error + b.error, !a.anything() && !b.anything()); }
inline Ball operator-(Ball a, Ball b) { return a + -b; }
inline Ball operator*(Ball a, Ball b) {
  // An infinity times what may be 0, or of either sign.
  const auto unclear = [](Ball infinite, Ball other) {
    return std::isinf(infinite.value) && other.error > 0 && other.error >= std::fabs(other.value);
  };
  const bool known = !a.anything() && !b.anything() && !unclear(a, b) && !unclear(b, a);
  const long double value = a.value * b.value;
  const long double error =
      std::isfinite(value) ? std::fabs(a.value) * b.error + std::fabs(b.value) * a.error + a.error * b.error : 0;
  return Settled(value, error, known);
}
inline Ball operator/(Ball a, Ball b) {
  if (std::isnan(a.value) || std::isnan(b.value)) return {a.value / b.value, 0};
  if (a.anything() || b.anything() || (b.error > 0 && b.error >= std::fabs(b.value))) return Anything();
  const long double value = a.value / b.value;
  return Settled(value, (a.error + std::fabs(value) * b.error) / (std::fabs(b.value) - b.error), true);
}

// A value as it is stored: rounding is monotone, so that of the ends bounds that of all between.
inline Ball Stored(Type type, Ball a) {
  if (a.anything() || !std::isfinite(a.value)) return a;
  const long double low = RoundTo(type, a.low()), high = RoundTo(type, a.high());
  if (low == high) return {low, 0};
  if (!std::isfinite(low) || !std::isfinite(high)) return Anything();
  const long double value = RoundTo(type, a.value);
  return {value, std::fmax(high - value, value - low)};
}

// Whether `got` is what may be stored of it. NaN is within nothing but NaN.
inline bool Within(Type type, long double got, Ball a) {
  if (a.anything()) return true;
  if (std::isnan(a.value)) return std::isnan(got);
  if (std::isinf(a.value)) return got == a.value;
  return RoundTo(type, a.low()) <= got && got <= RoundTo(type, a.high());
}

// The compute type. 1 % is for the long double in which errors are found, and for terms of higher order.
class Compute {
 public:
  explicit Compute(Type type)
      : type_(type),
        unit_(type == Type::kF64 ? 0x1p-53L : 0x1p-24L),
        least_(Ulp(type, 0)),
        largest_(static_cast<long double>(type == Type::kF64 ? std::numeric_limits<double>::max()
                                                             : std::numeric_limits<float>::max())) {}
  Type type() const { return type_; }
  long double unit() const { return unit_; }
  long double least() const { return least_; }  // the smallest positive number
  long double largest() const { return largest_; }

  // So many roundings of one value in a row.
  Ball Rounded(Ball a, int roundings = 1) const {
    if (a.anything() || !std::isfinite(a.value) || a.size() == 0) return a;
    const long double error = a.error + 1.01L * static_cast<long double>(roundings) * (unit_ * a.size() + least_ / 2);
    if (std::fabs(a.value) - error > largest_) return {std::copysign(HUGE_VALL, a.value), 0};
    return std::fabs(a.value) + error > largest_ ? Anything() : Ball{a.value, error};
  }

 private:
  Type type_;
  long double unit_, least_, largest_;
};

}  // namespace isonorm_test
