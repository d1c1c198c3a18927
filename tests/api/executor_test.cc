// Executors that break their promise: a call that they did not run as they should is an error, whatever it is and however they
// fail, and the next call is as if nothing had been.
#include <stdexcept>

#include "api/fault.h"

namespace isonorm_test {
namespace {

constexpr int64_t kManyRows = 2048, kWide = 512;  // enough for eight tasks

struct Broken {
  const char* name;
  const char* says;
  void (*parallel_for)(void* context, int64_t count, void (*task)(void*, int64_t), void* task_context);
};

const Broken kBroken[] = {
    {"runs none", "ran 0 of 8", [](void*, int64_t, void (*)(void*, int64_t), void*) {}},
    {"runs the first", "ran 1 of 8", [](void*, int64_t, void (*task)(void*, int64_t), void* to) { task(to, 0); }},
    {"leaves out the last", "ran 7 of 8",
     [](void*, int64_t count, void (*task)(void*, int64_t), void* to) {
       for (int64_t i = 0; i + 1 < count; ++i) task(to, i);
     }},
    {"runs one twice", "ran 8 of 8",
     [](void*, int64_t count, void (*task)(void*, int64_t), void* to) {
       for (int64_t i = 0; i < count; ++i) task(to, i);
       task(to, 3);
     }},
    {"runs the first instead of the last", "ran 7 of 8",
     [](void*, int64_t count, void (*task)(void*, int64_t), void* to) {
       for (int64_t i = 0; i + 1 < count; ++i) task(to, i);
       task(to, 0);
     }},
    {"runs one too many", "ran 8 of 8",
     [](void*, int64_t count, void (*task)(void*, int64_t), void* to) {
       for (int64_t i = 0; i <= count; ++i) task(to, i);
     }},
    {"runs numbers below 0", "ran 0 of 8",
     [](void*, int64_t count, void (*task)(void*, int64_t), void* to) {
       for (int64_t i = 0; i < count; ++i) task(to, INT64_MIN + i);
     }},
    {"throws", "threw", [](void*, int64_t, void (*)(void*, int64_t), void*) { throw std::runtime_error("no thread"); }},
    {"throws behind the first", "threw",
     [](void*, int64_t, void (*task)(void*, int64_t), void* to) {
       task(to, 0);
       throw 7;
     }},
};

// run(executor): one function, on enough rows.
template <class Run>
void RefusesEach(const char* function, Run run) {
  isonorm_executor good = {sizeof good, 8, 0, nullptr, [](void*, int64_t count, void (*task)(void*, int64_t), void* to) {
                             for (int64_t i = count; i-- > 0;) task(to, i);
                           }};
  ASSERT_EQ(run(&good), ISONORM_OK) << function << ": " << isonorm_last_error();
  for (const Broken& broken : kBroken) {
    isonorm_executor bad = good;
    bad.parallel_for = broken.parallel_for;
    EXPECT_EQ(run(&bad), ISONORM_ERROR_EXECUTOR) << function << " by one that " << broken.name;
    EXPECT_NE(std::string(isonorm_last_error()).find(broken.says), std::string::npos)
        << function << " by one that " << broken.name << ": " << isonorm_last_error();
    EXPECT_EQ(run(&good), ISONORM_OK) << function << " after one that " << broken.name << ": " << isonorm_last_error();
  }
}

TEST(Executor, TasksAreCounted) {
  Slot x, y, weight, dweight, per_row, parts, gradient;
  for (Slot* slot : {&x, &y}) slot->Set(kInputByte, ISONORM_F32, {kManyRows, kWide});
  for (Slot* slot : {&weight, &dweight}) slot->Set(kInputByte, ISONORM_F32, {kWide});
  per_row.Set(kInputByte, ISONORM_F32, {kManyRows});
  parts.Set(kInputByte, ISONORM_F32, {kManyRows, kWide});
  gradient.Set(kOutputByte, ISONORM_F32, {kWide});
  const isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  std::vector<uint8_t> workspace(8 << 20);

  isonorm_forward_args forward = {};
  forward.struct_size = sizeof forward;
  forward.x = &x.tensor;
  forward.y = &y.tensor;
  RefusesEach("forward", [&](const isonorm_executor* executor) {
    forward.executor = executor;
    return isonorm_forward(&contract, 1e-6, &forward);
  });
  isonorm_forward_args also = forward;
  also.executor = nullptr;
  also.y = &parts.tensor;
  RefusesEach("forward of two", [&](const isonorm_executor* executor) {
    forward.also = &also;
    forward.executor = executor;
    return isonorm_forward(&contract, 1e-6, &forward);
  });
  isonorm_backward_args backward = {};
  backward.struct_size = sizeof backward;
  backward.dy = backward.x = &x.tensor;
  backward.weight = &weight.tensor;
  backward.dx = &y.tensor;
  backward.workspace = workspace.data();
  backward.workspace_size = workspace.size();
  for (const bool sums : {false, true}) {
    backward.dweight = sums ? &dweight.tensor : nullptr;
    RefusesEach(sums ? "backward with sums" : "backward", [&](const isonorm_executor* executor) {
      backward.executor = executor;
      return isonorm_backward(&contract, 1e-6, &backward);
    });
  }
  isonorm_double_backward_args twice = {};
  twice.struct_size = sizeof twice;
  twice.dy = twice.x = twice.ddx = &x.tensor;
  twice.ddy = &y.tensor;
  RefusesEach("double backward", [&](const isonorm_executor* executor) {
    twice.executor = executor;
    return isonorm_double_backward(&contract, 1e-6, &twice);
  });
  RefusesEach("penalty",
              [&](const isonorm_executor* executor) { return RmsPenalty(&x.tensor, 1.0, nullptr, &y.tensor, 0, executor); });
  const isonorm_combine_args combine = {sizeof combine, &parts.tensor, &gradient.tensor, 32 * kManyRows, 32, 0, 0,
                                        nullptr,        nullptr};
  RefusesEach("combine", [&](const isonorm_executor* executor) {
    isonorm_combine_args args = combine;
    args.executor = executor;
    return isonorm_combine_gradients(&args);
  });
}

}  // namespace
}  // namespace isonorm_test
