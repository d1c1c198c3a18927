// THE row loop of the tuned backward, and its statistic: the reciprocal of each row, and the factor of what dx takes back along the
// row, which comes from the row's dot product.
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
  GradientStatistic(const Call& call, const Run& run) : call_(call), run_(run), range_(call.norm) {}

  // r of rows from `first` on, whose sums the source has, if they are not saved. tame[i]: neither r nor c = x * r is NaN or
  // infinite, as far as is known. Returns whether all of x was seen, so that this is so.
  template <class Source>
  HWY_INLINE bool FindR(int64_t first, int count, const Source& source, bool* tame) {
    const bool saved = run_.data[kRstd] != nullptr;
    bool missing = !saved;
    for (int i = 0; i < count; ++i) {
      tame[i] = true;
      if (!saved) continue;
      r_[i] = LoadAt<float>(At<const char>(run_, kRstd, first + i), 0);
      missing = missing || !call_.norm.Takes(r_[i]);
    }
    if (!missing) return false;
    HWY_ALIGN float sums[kBlockRows] = {};
    HWY_ALIGN float r[kBlockRows];
    sums[count - 1] = SumsOf(call_, run_, first, count, source, sums);
    RstdOfSums(sums, count, call_.norm, r);
    for (int i = 0; i < count; ++i) {
      r_[i] = r[i];
      tame[i] = range_.Holds(sums[i]);
      q_[i] = std::sqrt(Mean(sums[i], call_.norm.count));
    }
    return true;
  }

  // f of row `row`, the i-th that FindR saw: from the sums of all ranks, or from of.Dot(row, r). A finite sum has finite terms, so
  // every dy, weight and x of the row is finite too, or else the row is not tame.
  template <class Rows>
  HWY_INLINE void FindF(int i, int64_t row, bool* tame, const Rows& of) {
    const float dot =
        HWY_UNLIKELY(call_.shard != nullptr) ? call_.shard->Total<float>(run_.first + row, 0) + 0.0f : of.Dot(row, r_[i]);
    tame[i] = tame[i] && std::fabs(dot) <= std::numeric_limits<float>::max();
    f_[i] = call_.norm.Factor(dot, q_[i], r_[i]);
  }

  float r(int i) const { return r_[i]; }
  float f(int i) const { return f_[i]; }

 private:
  const Call& call_;
  const isonorm::Run& run_;
  const TameRange range_;
  float r_[kRows], q_[kRows] = {}, f_[kRows] = {};
};

// What a loop does with rows:  void Find(int64_t first, int count, bool* tame): their statistic, and which of them are tame;
//                              template <int kRows> void Write(int64_t first, int i): the outputs of that many tame rows, of which
//                              the first is the i-th that Find saw;
//                              void General(int64_t row): those of one, by the general path.
// kTogether rows are written together if all are tame.
template <int kTogether, class Rows>
HWY_INLINE void GradientLoop(int64_t rows, Rows& of) {
  for (int64_t first = 0; first < rows; first += kTogether) {
    const auto count = static_cast<int>(std::min<int64_t>(kTogether, rows - first));
    bool tame[kTogether];
    bool all = count == kTogether;
    of.Find(first, count, tame);
    for (int i = 0; i < count; ++i) all = all && tame[i];
    if (all) {
      of.template Write<kTogether>(first, 0);
      continue;
    }
    for (int i = 0; i < count; ++i) {
      if (tame[i]) {
        of.template Write<1>(first + i, i);
      } else {
        of.General(first + i);
      }
    }
  }
}

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_GRADIENT_LOOP_INL_H_
