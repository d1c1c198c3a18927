// Loaded into the program by LD_PRELOAD: stands in for what a program asks of the system, and lets one call fail. It takes the
// place of main() too and runs the real one in a new process for each fault, so that a program is loaded once for thousands.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>

#include "control.h"

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}

namespace {

using isonorm_test::FaultControl;
using isonorm_test::FaultKind;
using isonorm_test::FaultMode;
using Main = int (*)(int, char**, char**);

FaultControl* control = nullptr;
bool active = false;  // within the real main()
Main real_main = nullptr;

// Whether this call is the one. mode: the mildest way in which such a call can fail.
bool Hit(FaultKind kind, const char* function, int descriptor = -1, FaultMode mode = FaultMode::kFail) {
  if (!active || control->kind != kind || control->mode > mode) return false;
  const std::int64_t call = control->count.fetch_add(1) + 1;
  if (kind == FaultKind::kLarge ? control->at == 0 || call < control->at : call != control->at) return false;
  std::strncpy(control->hit, function, sizeof(control->hit) - 1);
  control->descriptor = descriptor;
  return true;
}

bool NoMemory(size_t bytes) {
  const bool hit = Hit(FaultKind::kMemory, "memory") || (bytes >= size_t{16} << 10 && Hit(FaultKind::kLarge, "memory"));
  if (hit) errno = ENOMEM;
  return hit;
}

// A call that failed with that code, or that was interrupted.
int Failed(int code) {
  errno = control->mode == FaultMode::kInterrupt ? EINTR : code;
  return -1;
}

template <class Function>
Function* Next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}
#define ISONORM_NEXT(name) static const auto next = Next<decltype(::name)>(#name)

// `call(n)` transfers n bytes.
template <class Call>
ssize_t Transfer(const char* function, int descriptor, size_t bytes, int code, bool writes, Call call) {
  if (!Hit(FaultKind::kSystem, function, descriptor, writes ? FaultMode::kLie : FaultMode::kShort)) return call(bytes);
  if (control->mode == FaultMode::kShort) return call(bytes > 1 ? bytes / 2 : bytes);
  if (control->mode == FaultMode::kLie) return static_cast<ssize_t>(bytes);
  return Failed(code);
}

// Runs the program once for each byte that the test sends.
int Serve(int argc, char** argv, char** environment) {
  const int file = open(getenv(isonorm_test::kControlVariable), O_RDWR | O_CLOEXEC);
  void* const page = mmap(nullptr, sizeof(FaultControl), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (file < 0 || page == MAP_FAILED) return 99;
  close(file);
  control = static_cast<FaultControl*>(page);
  char byte = 0;
  while (read(isonorm_test::kStartDescriptor, &byte, 1) == 1) {
    const pid_t child = fork();
    if (child == 0) {
      close(isonorm_test::kStartDescriptor);
      close(isonorm_test::kStatusDescriptor);
      const rlimit none = {0, 0};
      setrlimit(RLIMIT_CORE, &none);
      alarm(20);  // a program that does not end has failed
      active = true;
      const int code = real_main(argc, argv, environment);
      active = false;
      exit(code);
    }
    int status = -1;
    waitpid(child, &status, 0);
    if (write(isonorm_test::kStatusDescriptor, &status, sizeof status) != sizeof status) return 99;
  }
  return 0;
}

}  // namespace

extern "C" {

int __libc_start_main(Main main, int argc, char** argv, void (*init)(), void (*fini)(), void (*loader)(), void* stack) {
  real_main = main;
  using Start = int(Main, int, char**, void (*)(), void (*)(), void (*)(), void*);
  return Next<Start>("__libc_start_main")(Serve, argc, argv, init, fini, loader, stack);
}

void* malloc(size_t bytes) { return NoMemory(bytes) ? nullptr : __libc_malloc(bytes); }
void* calloc(size_t count, size_t bytes) { return NoMemory(count * bytes) ? nullptr : __libc_calloc(count, bytes); }
void* realloc(void* old, size_t bytes) { return NoMemory(bytes) ? nullptr : __libc_realloc(old, bytes); }
void* aligned_alloc(size_t alignment, size_t bytes) { return NoMemory(bytes) ? nullptr : __libc_memalign(alignment, bytes); }
void* memalign(size_t alignment, size_t bytes) { return aligned_alloc(alignment, bytes); }
int posix_memalign(void** out, size_t alignment, size_t bytes) {
  void* const memory = aligned_alloc(alignment, bytes);
  if (memory == nullptr) return ENOMEM;
  *out = memory;
  return 0;
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*), void* argument) {
  ISONORM_NEXT(pthread_create);
  return Hit(FaultKind::kThread, "pthread_create") ? EAGAIN : next(thread, attributes, start, argument);
}

// What opens for reading is an input; the program makes its outputs by the other ways.
int open(const char* path, int flags, ...) {
  ISONORM_NEXT(open);
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = static_cast<mode_t>(va_arg(arguments, int));
  va_end(arguments);
  const bool reads = (flags & O_ACCMODE) == O_RDONLY;
  if (Hit(FaultKind::kSystem, (flags & O_DIRECTORY) != 0 && reads ? "open folder" : reads ? "open" : "create"))
    return Failed(EMFILE);
  return next(path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = static_cast<mode_t>(va_arg(arguments, int));
  va_end(arguments);
  return open(path, flags, mode);
}
int mkostemp(char* name, int flags) {
  ISONORM_NEXT(mkostemp);
  return Hit(FaultKind::kSystem, "create") ? Failed(EMFILE) : next(name, flags);
}
int mkostemp64(char* name, int flags) { return mkostemp(name, flags); }
int fstat(int descriptor, struct stat* info) {
  ISONORM_NEXT(fstat);
  return Hit(FaultKind::kSystem, "fstat", descriptor) ? Failed(EIO) : next(descriptor, info);
}
int fstat64(int descriptor, struct stat64* info) { return fstat(descriptor, reinterpret_cast<struct stat*>(info)); }
int fchmod(int descriptor, mode_t mode) {
  ISONORM_NEXT(fchmod);
  return Hit(FaultKind::kSystem, "fchmod", descriptor) ? Failed(EPERM) : next(descriptor, mode);
}
// The disk is never asked: nothing here reads it after a loss of power, and thousands of runs would wait for it.
int fsync(int descriptor) { return Hit(FaultKind::kSystem, "fsync", descriptor, FaultMode::kInterrupt) ? Failed(EIO) : 0; }
int rename(const char* from, const char* to) {
  ISONORM_NEXT(rename);
  return Hit(FaultKind::kSystem, "rename") ? Failed(EIO) : next(from, to);
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  ISONORM_NEXT(renameat2);
  return Hit(FaultKind::kSystem, "renameat2") ? Failed(EIO) : next(from_folder, from, to_folder, to, flags);
}
int link(const char* from, const char* to) {
  ISONORM_NEXT(link);
  return Hit(FaultKind::kSystem, "link") ? Failed(EIO) : next(from, to);
}
int linkat(int from_folder, const char* from, int to_folder, const char* to, int flags) {
  ISONORM_NEXT(linkat);
  return Hit(FaultKind::kSystem, "linkat") ? Failed(EIO) : next(from_folder, from, to_folder, to, flags);
}

ssize_t read(int descriptor, void* out, size_t bytes) {
  ISONORM_NEXT(read);
  return Transfer("read", descriptor, bytes, EIO, false, [&](size_t n) { return next(descriptor, out, n); });
}
ssize_t pread(int descriptor, void* out, size_t bytes, off_t offset) {
  ISONORM_NEXT(pread);
  return Transfer("read", descriptor, bytes, EIO, false, [&](size_t n) { return next(descriptor, out, n, offset); });
}
ssize_t pread64(int descriptor, void* out, size_t bytes, off64_t offset) { return pread(descriptor, out, bytes, offset); }
ssize_t write(int descriptor, const void* data, size_t bytes) {
  ISONORM_NEXT(write);
  return Transfer("write", descriptor, bytes, ENOSPC, true, [&](size_t n) { return next(descriptor, data, n); });
}
ssize_t pwrite(int descriptor, const void* data, size_t bytes, off_t offset) {
  ISONORM_NEXT(pwrite);
  return Transfer("write", descriptor, bytes, ENOSPC, true, [&](size_t n) { return next(descriptor, data, n, offset); });
}
ssize_t pwrite64(int descriptor, const void* data, size_t bytes, off64_t offset) {
  return pwrite(descriptor, data, bytes, offset);
}

}  // extern "C"
