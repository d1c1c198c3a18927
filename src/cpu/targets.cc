#include "cpu/targets.h"

#include "cpu/detect.h"
#include "cpu/target_table.h"

namespace isonorm {
namespace {

// Every file of kernels. One more storage type is one more line.
constexpr const AddKernels* kTables[] = {
    AddGeneralF32Table, AddGeneralF64Table,  AddForwardF32Table,   AddForwardBf16Table,
    AddForwardF16Table, AddFusedTable,       AddBackwardF32Table, AddBackwardBf16Table, AddBackwardF16Table,
};

class Backends {
 public:
  Backends() {
    const int64_t usable = DetectTargets();
    for (int bit = 0; bit < 63; ++bit) {  // Highway gives better targets lower bits
      const int64_t target = int64_t{1} << bit;
      if ((usable & target) == 0) continue;
      hwy::ChosenTarget chosen;
      chosen.Update(target);
      const size_t index = chosen.GetIndex() - 1;  // Highway's own tables start with an entry for initialisation
      for (const AddKernels* table : kTables) table[index](backends_[count_]);
      ++count_;
    }
  }
  size_t count() const { return count_; }
  const Backend& operator[](size_t index) const { return backends_[index]; }

 private:
  Backend backends_[kTargetTableSize] = {};
  size_t count_ = 0;
};

const Backends& All() {
  static const Backends backends;
  return backends;
}

}  // namespace

size_t CpuBackendCount() { return All().count(); }
const Backend& CpuBackendAt(size_t index) { return All()[index]; }

}  // namespace isonorm
