// When a row is done again, scaled (docs/numerics.md §3).
#pragma once

#include <cmath>

namespace isonorm {

// Whether these sums ask for it; it is done if, besides, every value is finite and the largest is above 0. `mean` is that of
// LayerNorm, and 0 otherwise.
template <class F>
inline bool AskForScaling(F squares, F mean, F eps, bool eps_outside) {
  constexpr bool kSingle = sizeof(F) == 4;
  if (!(std::isfinite(squares) && std::isfinite(mean))) return true;
  const bool tiny_eps = kSingle ? eps < (eps_outside ? F(0x1p-48) : F(0x1p-120)) : eps == 0;
  return tiny_eps && squares < (kSingle ? F(0x1p-96) : F(0x1p-900));
}

}  // namespace isonorm
