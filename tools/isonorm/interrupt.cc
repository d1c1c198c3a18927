#include "interrupt.h"

#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <csignal>
#include <cstring>

#include "print.h"
#include "verbs.h"

namespace isonorm_cli {
namespace {

// Handlers run on any thread.
std::atomic<bool> g_interrupted = false, g_temporary = false;
static_assert(std::atomic<bool>::is_always_lock_free);
char g_path[PATH_MAX];  // written only while g_temporary is false
const bool* g_json = nullptr;

void RemoveTemporary() {
  if (g_temporary.exchange(false)) unlink(g_path);
}

[[noreturn]] void EndNow() {
  RemoveTemporary();
  WriteRaw(STDERR_FILENO, "isonorm: interrupted\n");
  if (*g_json && !OutputBegan()) WriteRaw(STDOUT_FILENO, "{\n  \"error\": \"interrupted\",\n  \"exit_code\": 130\n}\n");
  _exit(kInterrupted);
}

void OnSignal(int) {
  if (g_interrupted.exchange(true)) EndNow();
  const itimerval deadline = {.it_interval = {}, .it_value = {.tv_sec = 0, .tv_usec = 500'000}};
  setitimer(ITIMER_REAL, &deadline, nullptr);
}

void OnDeadline(int) {
  if (g_interrupted) EndNow();
  OnSignal(0);  // an alarm from outside
}

// A fault, or a signal that dumps core: it takes its course afterwards.
void OnFault(int signal) {
  RemoveTemporary();
  std::signal(signal, SIG_DFL);
  raise(signal);
}

void Catch(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  // Ignored, or a sanitizer's.
  if (sigaction(signal, nullptr, &action) != 0 || action.sa_handler != SIG_DFL) return;
  action.sa_handler = handler;
  action.sa_flags = 0;  // no SA_RESTART: a read or write that waits ends with EINTR, so that the flag is seen at once
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

}  // namespace

void CatchSignals(const bool& json) {
  g_json = &json;
  for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGPROF, SIGXCPU, SIGIO}) {
    Catch(signal, OnSignal);
  }
#if defined(__linux__)
  Catch(SIGPWR, OnSignal);
  Catch(SIGSTKFLT, OnSignal);
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) Catch(signal, OnSignal);
#endif
  Catch(SIGALRM, OnDeadline);
  for (const int signal : {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP}) Catch(signal, OnFault);
  // A write beyond a limit or into a closed pipe then fails with an error code, which we report.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
}

void StopIfInterrupted() {
  if (g_interrupted) throw Failure(kInterrupted, "interrupted");
}

void RemoveIfKilled(const std::string& path) {
  KeepIfKilled();
  if (path.size() >= sizeof g_path) return;
  std::memcpy(g_path, path.c_str(), path.size() + 1);
  g_temporary = true;
}

void KeepIfKilled() { g_temporary = false; }

}  // namespace isonorm_cli
