#include "cpu/targets.h"

#include "cpu/detect.h"
#include "cpu/target_table.h"

namespace isonorm {
namespace {

#define ISONORM_FILE(name) Add##name##Table,
constexpr const AddKernels* kTables[] = {ISONORM_GENERAL_FILES(ISONORM_FILE) ISONORM_TUNED_FILES(ISONORM_FILE)};
#undef ISONORM_FILE

class Targets {
 public:
  Targets() {
    const int64_t usable = DetectTargets();
    for (int bit = 0; bit < 63; ++bit) {  // Highway gives better targets lower bits
      const int64_t target = int64_t{1} << bit;
      if ((usable & target) == 0) continue;
      hwy::ChosenTarget chosen;
      chosen.Update(target);
      const size_t index = chosen.GetIndex() - 1;  // Highway's own tables start with an entry for initialisation
      for (const AddKernels* table : kTables) table[index](targets_[count_]);
      ++count_;
    }
  }
  size_t count() const { return count_; }
  const Target& operator[](size_t index) const { return targets_[index]; }

 private:
  static_assert(kTargetTableSize <= kMostCpuTargets);
  Target targets_[kTargetTableSize] = {};
  size_t count_ = 0;
};

const Targets& All() {
  static const Targets targets;
  return targets;
}

}  // namespace

size_t CpuTargetCount() { return All().count(); }
const Target& CpuTargetAt(size_t index) { return All()[index]; }

}  // namespace isonorm
