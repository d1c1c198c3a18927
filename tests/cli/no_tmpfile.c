// Loaded before libc into the program: a file system that has no files without a name.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/types.h>

static int Open(const char* path, int flags, mode_t mode) {
  if ((flags & O_TMPFILE) != O_TMPFILE) return openat(AT_FDCWD, path, flags, mode);
  errno = EOPNOTSUPP;
  return -1;
}

int open(const char* path, int flags, ...);
int open(const char* path, int flags, ...) {
  __builtin_va_list list;
  __builtin_va_start(list, flags);
  const mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? __builtin_va_arg(list, mode_t) : 0;
  __builtin_va_end(list);
  return Open(path, flags, mode);
}
