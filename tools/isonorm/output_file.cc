#include "output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "verbs.h"

namespace isonorm_cli {
namespace {

// What open() would have given the file: mkostemp() asks for 0600 whatever the umask.
mode_t DefaultMode() {
  const mode_t mask = umask(0);
  umask(mask);
  return 0666 & ~mask;
}

// Names the file without ever replacing another that appeared meanwhile.
int RenameToNew(const char* from, const char* to) {
#if defined(RENAME_NOREPLACE)
  if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;  // a file system without it has hard links
#endif
  if (link(from, to) != 0) return errno;
  unlink(from);
  return 0;
}

}  // namespace

OutputFile::OutputFile(const std::string& path, bool force) : path_(path), force_(force) {
  const std::size_t slash = path.rfind('/');
  folder_ = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  mode_t mode = DefaultMode();
  struct stat old = {};
  if (lstat(path.c_str(), &old) == 0) {
    if (!force) throw Failure(kCannotWrite, fmt::format("{}: exists already; --force replaces it", path));
    // Replacing a device, a folder or a link would do more than the user asked for.
    if (!S_ISREG(old.st_mode)) throw Failure(kCannotWrite, fmt::format("{}: is not a regular file and is not replaced", path));
    mode = old.st_mode & 07777;
  }
  temporary_ = fmt::format("{}/.{}.XXXXXX", folder_, name.substr(0, 200));  // a name may have 255 bytes
  fd_ = mkostemp(temporary_.data(), O_CLOEXEC);
  if (fd_ < 0) Fail("cannot be created", errno);
  if (fchmod(fd_, mode) != 0) {
    const int code = errno;
    unlink(temporary_.c_str());
    close(fd_);
    Fail("cannot be created", code);
  }
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  unlink(temporary_.c_str());
  close(fd_);
}

void OutputFile::Fail(const std::string& what, int code) const {
  throw Failure(kCannotWrite, fmt::format("{}: {}: {}", path_, what, std::strerror(code)));
}

void OutputFile::Write(std::int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (Interrupted()) throw Failure(kInterrupted, "interrupted");
    const ssize_t n = pwrite(fd_, bytes.data(), bytes.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) Fail("cannot be written in full", n < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += n;
  }
}

void OutputFile::Commit() {
  int synced = 0;
  do {
    if (Interrupted()) throw Failure(kInterrupted, "interrupted");
    synced = fsync(fd_);
  } while (synced != 0 && errno == EINTR);
  if (synced != 0) Fail("cannot be written in full", errno);
  if (Interrupted()) throw Failure(kInterrupted, "interrupted");
  const int code = !force_                                               ? RenameToNew(temporary_.c_str(), path_.c_str())
                   : std::rename(temporary_.c_str(), path_.c_str()) != 0 ? errno
                                                                         : 0;
  if (code == EEXIST) throw Failure(kCannotWrite, fmt::format("{}: appeared meanwhile; --force replaces it", path_));
  if (code != 0) Fail("cannot be named", code);
  close(fd_);
  fd_ = -1;
  // The name reaches the disk with the folder. The file is complete already: a system that cannot do this is no error.
  const int folder = open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    fsync(folder);
    close(folder);
  }
}

}  // namespace isonorm_cli
