// A library with every fault that check_symbols.py must find; the gate's own test. Never called.
#include <cstdio>
#include <cstdlib>
#include <thread>

extern "C" int isonorm_like_any_other();
extern "C" int isonorm_like_any_other() { return 0; }

int ForeignName(int n);
int ForeignName(int n) {
  if (n == 0) std::abort();
  if (n == 1) throw n;
  std::printf("%d\n", n);
  void* memory = std::malloc(static_cast<std::size_t>(n));
  std::thread([memory] { std::free(memory); }).join();
  return n;
}
