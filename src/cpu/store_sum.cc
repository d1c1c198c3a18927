#include "cpu/store_sum.h"

#include <type_traits>

#include "numbers/memory.h"

namespace isonorm {
namespace {

template <class Storage>
void StoreAs(const float* sum, void* out, int64_t first, int64_t count) {
  for (int64_t i = 0; i < count; ++i) StoreAt(Narrow<Storage>(sum[i]), out, first + i);
}

}  // namespace

template <class F>
void StoreSum(const F* sum, void* out, Type type, int64_t first, int64_t count, bool accumulate) {
  // To look at the type for every value would take longer than the backward of a row.
  if constexpr (std::is_same_v<F, float>) {
    if (sum != nullptr && !accumulate) {
      switch (type) {
#define ISONORM_CASE(name, kind, storage) \
  case Type::kind: return StoreAs<storage>(sum, out, first, count);
        ISONORM_NARROW_TYPES(ISONORM_CASE)
#undef ISONORM_CASE
        default: break;
      }
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    F value = sum == nullptr ? F(0) : sum[i];
    if (accumulate) value = LoadScalar<F>(out, type, first + i) + value;
    StoreScalar(value, out, type, first + i);
  }
}

template void StoreSum(const float*, void*, Type, int64_t, int64_t, bool);
template void StoreSum(const double*, void*, Type, int64_t, int64_t, bool);

}  // namespace isonorm
