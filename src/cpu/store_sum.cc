#include "cpu/store_sum.h"

#include <type_traits>

#include "numbers/memory.h"

namespace isonorm {
namespace {

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

}  // namespace

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

template void StoreSum(const float*, void*, Type, int64_t, int64_t, bool);
template void StoreSum(const double*, void*, Type, int64_t, int64_t, bool);

}  // namespace isonorm
