// The library asks the CPU itself which targets it has, because it does not link libhwy. Here Highway is asked too: both must
// name the same targets in the same order.
#include <hwy/highway.h>
#include <hwy/targets.h>
#include <isonorm/isonorm.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

int main() {
  std::vector<std::string> highway, ours;
  const std::int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;
  for (int bit = 0; bit < 63; ++bit) {  // better targets have lower bits
    const std::int64_t target = std::int64_t{1} << bit;
    if ((usable & target) != 0) highway.emplace_back(hwy::TargetName(target));
  }
  for (std::size_t i = 0; i < isonorm_target_count(); ++i) ours.emplace_back(isonorm_target_name(i));
  highway.emplace_back("reference");
  for (const auto& name : highway) std::printf("Highway: %s\n", name.c_str());
  for (const auto& name : ours) std::printf("isonorm: %s\n", name.c_str());
  return highway.size() > 1 && highway == ours ? 0 : 1;
}
