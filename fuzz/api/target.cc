// libFuzzer's entry point for the C ABI: the bytes choose one call and what is wrong with it. Whatever they choose, the call
// must touch nothing but its arguments, write nothing but its outputs, nothing at all if it fails, and give on the best target
// what it gives on the reference.
#include <cstdlib>

#include "calls.h"
#include "tally.h"

namespace isonorm_fuzz {
namespace {

// As often as their sixteenths.
struct Maker {
  int weight;
  Prepared (*make)(Bytes& bytes, Scene& scene);
};
const Maker kMakers[] = {
    {4, MakeForward}, {4, MakeBackward},       {2, MakeDoubleBackward}, {1, MakeRms},
    {1, MakeShards},  {2, MakeBackwardShards}, {1, MakeCombine},        {1, MakeNames},
};

const Maker& Choose(Bytes& bytes) {
  std::int64_t left = bytes.Below(16);
  const Maker* maker = kMakers;
  while (left >= maker->weight) left -= maker++->weight;
  return *maker;
}

// The best target, or one of the others, the last of which is the reference itself.
const char* Target(Bytes& bytes) {
  if (!bytes.OneIn(5)) return "";
  return isonorm_target_name(static_cast<std::size_t>(bytes.Below(static_cast<std::int64_t>(isonorm_target_count()))));
}

void Run(Bytes bytes) {
  Tally& tally = Tally::Get();
  ++tally.inputs;
  const Maker& maker = Choose(bytes);
  if (isonorm_set_target(Target(bytes)) != ISONORM_OK) Complain("no target");
  Scene scene(bytes);
  const Prepared prepared = maker.make(bytes, scene);
  if (!prepared) {
    ++tally.unmade;
    return;
  }
  const Picture before = scene.memory.Take();
  const isonorm_status status = prepared();
  if (status == ISONORM_OK) tally.kernels.insert(isonorm_last_kernel());
  Picture best = scene.memory.Take();
  scene.memory.Restore(before);
  if (isonorm_set_target("reference") != ISONORM_OK) Complain("no reference");
  const isonorm_status expected = prepared();
  if (!scene.good_executor) return;
  if (expected != status) Complain("another status on the reference");
  if (status != ISONORM_OK || !scene.comparable) return;
  for (const auto& [at, size] : scene.scratch) scene.memory.Forgive(at, size, best);
  scene.ComplainOfChanges(best, "other bits than the reference");
}

}  // namespace
}  // namespace isonorm_fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  setenv("ISONORM_TASK_BYTES", "1", 0);        // small calls have several tasks too
  setenv("ISONORM_STREAM_BYTES", "20000", 0);  // and those that are not so small pass the caches by
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  isonorm_fuzz::Run(isonorm_fuzz::Bytes(data, size));
  return 0;
}
