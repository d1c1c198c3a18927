#if defined(ISONORM_CPU_TUNED_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_BACKWARD_INL_H_
#undef ISONORM_CPU_TUNED_BACKWARD_INL_H_
#else
#define ISONORM_CPU_TUNED_BACKWARD_INL_H_
#endif
#include "cpu/general-inl.h"
HWY_BEFORE_NAMESPACE();
namespace isonorm { namespace HWY_NAMESPACE {
template <class Tx> void AddTunedBackward(Backend&) {}
} }
HWY_AFTER_NAMESPACE();
#endif
