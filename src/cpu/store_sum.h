// The end of every sum over rows: one rounding to storage.
#pragma once

#include <cstdint>
#include <type_traits>

#include "numbers/memory.h"
#include "numbers/rounding.h"

namespace isonorm {

template <class Storage, class F>
void StoreSumAs(const F* sum, void* out, int64_t first, int64_t count, bool accumulate) {
  for (int64_t i = 0; i < count; ++i) {
    F value = sum == nullptr ? F(0) : sum[i];
    if constexpr (std::is_same_v<Storage, double>) {
      if (accumulate) value = static_cast<F>(LoadAt<double>(out, first + i)) + value;
      StoreAt(CanonicalOrSame(static_cast<double>(value)), out, first + i);
    } else {
      if (accumulate) value = static_cast<F>(Widen(LoadAt<Storage>(out, first + i))) + value;
      StoreAt(Narrow<Storage>(static_cast<float>(value)), out, first + i);
    }
  }
}

// Stores `sum`, or zeros if that is null, in elements first, first + 1, … of out; or adds it to what they hold. The same as
// StoreScalar() for each, but that the type is looked at once.
template <class F>
void StoreSum(const F* sum, void* out, Type type, int64_t first, int64_t count, bool accumulate) {
  switch (type) {
#define ISONORM_CASE(name, kind, storage) \
  case Type::kind: return StoreSumAs<storage>(sum, out, first, count, accumulate);
    ISONORM_NARROW_TYPES(ISONORM_CASE)
#undef ISONORM_CASE
    default: return StoreSumAs<double>(sum, out, first, count, accumulate);
  }
}

}  // namespace isonorm
