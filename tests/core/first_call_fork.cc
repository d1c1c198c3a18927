// A thread forks while another makes the program's first call: the child has what the library prepares, and never waits for the
// thread that is not there. Run many times over in children that have not called yet.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <thread>

#include "isonorm/isonorm.h"

namespace {

bool Call() {
  float x[4] = {1, 2, 3, 4}, y[4] = {};
  int64_t shape[2] = {1, 4};
  const isonorm_tensor tx = {x, {ISONORM_DEVICE_CPU, 0}, 2, ISONORM_F32, shape, nullptr, 0};
  const isonorm_tensor ty = {y, {ISONORM_DEVICE_CPU, 0}, 2, ISONORM_F32, shape, nullptr, 0};
  const isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  isonorm_forward_args args = {};
  args.struct_size = sizeof(args);
  args.x = &tx;
  args.y = &ty;
  return isonorm_forward(&contract, 1e-6, &args) == ISONORM_OK && y[3] != 0;
}

bool Ends(pid_t child) {
  int status = -1;
  return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// In a process of its own, whose first call this is. wait: how long the fork waits for the call to be under way.
bool ForkDuringTheFirstCall(int wait) {
  std::atomic<bool> go = false;
  bool called = false;
  std::thread caller([&] {
    while (!go.load()) {
    }
    called = Call();
  });
  go = true;
  for (std::atomic<int> turn = 0; turn < wait; ++turn) {
  }
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // one that hangs is ended
    _exit(Call() ? 0 : 1);
  }
  const bool good = Ends(child);
  caller.join();
  return good && called;
}

}  // namespace

int main() {
  int bad = 0;
  constexpr int kTimes = 2000;
  for (int time = 0; time < kTimes && bad < 3; ++time) {
    const pid_t child = fork();
    if (child == 0) _exit(ForkDuringTheFirstCall(time * 10) ? 0 : 1);
    bad += Ends(child) ? 0 : 1;
  }
  std::printf("%d forks during the first call, %d of them bad\n", kTimes, bad);
  return bad == 0 ? 0 : 1;
}
