// The numbers of a call that are given as f64.
#pragma once

namespace isonorm {

// g++ 12 at -O2 takes the two conversions for none where it makes a vector of two neighbouring members. A value that has been
// in an assembly statement is one that it knows nothing about.
inline double RoundedToF32(double value) {
#if defined(__x86_64__)
  float narrow = static_cast<float>(value);
  __asm__("" : "+x"(narrow));
#else
  const volatile float narrow = static_cast<float>(value);
#endif
  return static_cast<double>(narrow);
}

}  // namespace isonorm
