// Loaded before libc into the program: a file system that has no files without a name. With ISONORM_SLOW_FILES it takes its time
// to make one with a name, so that a signal can come before the program knows that there is a file.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static int Open(const char* path, int flags, mode_t mode) {
  if ((flags & O_TMPFILE) != O_TMPFILE) {
    const int fd = openat(AT_FDCWD, path, flags, mode);
    if (fd >= 0 && (flags & O_CREAT) != 0 && getenv("ISONORM_SLOW_FILES") != NULL) usleep(10000);
    return fd;
  }
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
