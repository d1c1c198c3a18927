// How the files of tuned loops enter the rows of the table. RowOf is not defined here: whoever has loops defines it for the
// parts and types that they take, so that a row without loops is a row that does not compile.
#if defined(ISONORM_CPU_TUNED_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_ROWS_INL_H_
#undef ISONORM_CPU_TUNED_ROWS_INL_H_
#else
#define ISONORM_CPU_TUNED_ROWS_INL_H_
#endif

#include "cpu/target_table.h"
#include "cpu/vector/vector-inl.h"
#include "table/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// A weight of any type, or none; and types of 8 bits, which only `out` has.
struct AnyWeight {};
struct EightBits {};

namespace storage {
using any = AnyWeight;
using i8 = EightBits;
using e4m3 = EightBits;
using e5m2 = EightBits;
}  // namespace storage

// A specialisation has the kernel as `kRun`.
template <Operation, Source, Sink, class Tx, class Tw, class Ty>
struct RowOf;

template <class Tx>
constexpr TunedFile FileOf(Operation operation, Source source, Sink sink) {
  if (source == Source::k_centred) {
    return operation == Operation::k_forward ? TunedFile::kForwardCentred : TunedFile::kBackwardCentred;
  }
  const bool own = sink == Sink::k_cast || sink == Sink::k_rope || sink == Sink::k_sum;
  if (source != Source::k_plain || !own) return TunedFile::kFused;
  const bool forward = operation == Operation::k_forward || operation == Operation::k_forward_partial;
  if (std::is_same_v<Tx, float>) return forward ? TunedFile::kForwardF32 : TunedFile::kBackwardF32;
  if (std::is_same_v<Tx, Bf16>) return forward ? TunedFile::kForwardBf16 : TunedFile::kBackwardBf16;
  if (std::is_same_v<Tx, F16>) return forward ? TunedFile::kForwardF16 : TunedFile::kBackwardF16;
  return TunedFile::kCount;
}

template <TunedFile kFile, Operation kOperation, Source kSource, Sink kSink, class Tx, class Tw, class Ty>
void EnterRow(Kernel& kernel) {
  static_assert(FileOf<Tx>(kOperation, kSource, kSink) != TunedFile::kCount, "no file has loops for x of this type");
  if constexpr (FileOf<Tx>(kOperation, kSource, kSink) == kFile) kernel = RowOf<kOperation, kSource, kSink, Tx, Tw, Ty>::kRun;
}

#endif  // ISONORM_TUNED_LOOPS

// Enters the tuned rows that are this file's.
template <TunedFile kFile>
void EnterRows([[maybe_unused]] Target& target) {
#if ISONORM_TUNED_LOOPS
#define ISONORM_KERNEL(operation, source, sink, x, weight, out)
#define ISONORM_TUNED(operation, source, sink, x, weight, out)                                                              \
  EnterRow<kFile, Operation::k_##operation, Source::k_##source, Sink::k_##sink, storage::x, storage::weight, storage::out>( \
      target.kernels[k_##operation##_##source##_##sink##_##x##_##weight##_##out]);
#include "table/kernels.inc"
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_ROWS_INL_H_
