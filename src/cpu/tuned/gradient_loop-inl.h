// THE row loop of the tuned backward, and its statistic: the reciprocal of each row, and the factor of what dx takes back along
// the row, which comes from the row's dot product.
#if defined(ISONORM_CPU_TUNED_GRADIENT_LOOP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_GRADIENT_LOOP_INL_H_
#undef ISONORM_CPU_TUNED_GRADIENT_LOOP_INL_H_
#else
#define ISONORM_CPU_TUNED_GRADIENT_LOOP_INL_H_
#endif

#include <algorithm>

#include "cpu/tuned/gradient_dot-inl.h"
#include "cpu/tuned/row_loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// Of up to kRows rows at a time.
template <int kRows>
class GradientStatistic {
 public:
  GradientStatistic(const Call& call, const Run& run)
      : call_(call), run_(run), norm_(call.norm), range_(norm_), saved_(run.data[kRstd] != nullptr && norm_.TakesRstd()) {}

  // r of rows from `first` on, whose sums the source has, if they are not saved. tame[i]: neither r nor c = x * r is NaN or
  // infinite, as far as is known. True if every value of x was read, so that tame[] is exact.
  template <class Source>
  HWY_INLINE bool FindR(int64_t first, int count, const Source& source, bool* tame) {
    if (saved_) {
      bool all = true;
      const char* rstd = At<const char>(run_, kRstd, first);
      for (int i = 0; i < count; ++i, rstd += run_.stride[kRstd]) {
        tame[i] = true;
        r_[i] = LoadAt<float>(rstd, 0);
        all &= Norm::Takes(r_[i]);
      }
      if (HWY_LIKELY(all)) return false;
    }
    HWY_ALIGN float sums[kRows == 1 ? 1 : kBlockRows] = {};
    HWY_ALIGN float r[kRows == 1 ? 1 : kBlockRows];
    if constexpr (kRows == 1) {
      sums[0] = SumOf(call_, run_, first, source);
    } else {
      SumsOf(call_, run_, first, count, source, sums);
    }
    RstdOfSums(sums, kRows == 1 ? 1 : count, norm_, r);
    for (int i = 0; i < count; ++i) {
      if (!saved_ || !Norm::Takes(r_[i])) r_[i] = r[i];  // each row by itself: another's rstd must not change its bits
      tame[i] = range_.Holds(sums[i]);
      q_[i] = std::sqrt(Mean(sums[i], norm_.count));
    }
    return true;
  }

  // f of the rows that FindR saw: from the sums of all ranks, or from of.Dot(row, r), of several from of.Dots(first, count, r,
  // dots). A finite sum has finite terms, so every dy, weight and x of the row is finite too, or else the row is not tame.
  template <class Rows>
  HWY_INLINE void FindF(int64_t first, int count, bool* tame, const Rows& of) {
    float dot[kRows] = {};
    if (HWY_LIKELY(call_.shard == nullptr)) {
      if constexpr (kRows == 1) {
        dot[0] = of.Dot(first, r_[0]);
      } else {
        of.Dots(first, count, r_, dot);
      }
    } else if (call_.shard->gathered != nullptr) {  // it may be null where neither dx nor dgate is wanted
      for (int i = 0; i < count; ++i) dot[i] = call_.shard->Total<float>(run_.first + first + i, 0) + 0.0f;
    }
    for (int i = 0; i < count; ++i) {
      tame[i] = tame[i] && std::fabs(dot[i]) <= std::numeric_limits<float>::max();
      f_[i] = norm_.Factor(dot[i], q_[i], r_[i]);
    }
  }

  float r(int i) const { return r_[i]; }
  float f(int i) const { return f_[i]; }

 private:
  const Call& call_;
  const isonorm::Run& run_;
  const Norm norm_;  // a copy, because the compiler would read that of the call again after each store
  const TameRange range_;
  const bool saved_;
  float r_[kRows], q_[kRows] = {}, f_[kRows] = {};
};

// What a loop does with rows:  void Find(int64_t first, int count, bool* tame): their statistic, and which of them are tame;
// template <int kRows> void Write(int64_t first, int i): the outputs of that many tame rows, of which the first is the i-th
// that Find saw; void General(int64_t row): those of one, by the general path. kFound rows have their sums taken before the
// first of them is written, so that the sums of one need not wait for another's; kTogether tame ones are written together.
template <int kFound, int kTogether, class Rows>
HWY_INLINE void GradientLoop(int64_t rows, Rows& of) {
  for (int64_t first = 0; first < rows; first += kFound) {
    const auto count = static_cast<int>(std::min<int64_t>(kFound, rows - first));
    bool tame[kFound + kTogether] = {};
    of.Find(first, count, tame);
    for (int i = 0; i < count;) {
      if (HWY_LIKELY(std::all_of(tame + i, tame + i + kTogether, [](bool is) { return is; }))) {
        of.template Write<kTogether>(first + i, i);
        i += kTogether;
        continue;
      }
      if (kTogether > 1 && tame[i]) {
        of.template Write<1>(first + i, i);
      } else {
        of.General(first + i);
      }
      ++i;
    }
  }
}

// Of rows up to this many bytes that many have their sums taken together: they stay in the first-level cache.
constexpr int64_t kShortGradient = 1 << 10;
constexpr int kShortGradients = 8;

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_GRADIENT_LOOP_INL_H_
