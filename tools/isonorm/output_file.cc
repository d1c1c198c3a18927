#include "output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "interrupt.h"
#include "verbs.h"

namespace isonorm_cli {
namespace {

constexpr std::string_view kMark = ".isonorm-";  // then the process and a count: .out.npy.isonorm-1234-1

bool IsTemporary(std::string_view name) {
  const std::size_t mark = name.rfind(kMark);
  if (!name.starts_with('.') || mark == std::string_view::npos) return false;
  const std::string_view rest = name.substr(mark + kMark.size());
  return !rest.empty() && rest.find_first_not_of("0123456789-") == std::string_view::npos;
}

// False: somebody else has the lock. A file system without locks is no error; then nothing can be known to be dead either.
bool Lock(int fd) { return flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK; }

// What a run left behind that could not clean up: nobody holds its lock.
void RemoveDead(const std::string& folder) {
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string path = entry->path();
    if (!IsTemporary(entry->path().filename().string())) continue;
    const int fd = open(path.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) continue;
    struct stat info = {};
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0) unlink(path.c_str());
    close(fd);
  }
}

std::string ProcPath(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

// -1: this system or file system has none, or could not name it later.
int OpenUnnamed(const std::string& folder) {
#if defined(O_TMPFILE)
  const int fd = open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
  if (fd < 0 || access(ProcPath(fd).c_str(), F_OK) == 0) return fd;
  close(fd);
#endif
  return -1;
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
  name_ = slash == std::string::npos ? path : path.substr(slash + 1);
  struct stat old = {};
  const bool replaces = lstat(path.c_str(), &old) == 0;
  if (replaces) {
    if (!force) throw Failure(kCannotWrite, fmt::format("{}: exists already; --force replaces it", path));
    // Replacing a device, a folder or a link would do more than the user asked for.
    if (!S_ISREG(old.st_mode)) throw Failure(kCannotWrite, fmt::format("{}: is not a regular file and is not replaced", path));
  }
  RemoveDead(folder_);
  fd_ = OpenUnnamed(folder_);
  if (fd_ >= 0) {
    Lock(fd_);  // before the file has a name
  } else {
    OpenNamed();
  }
  if (replaces && fchmod(fd_, old.st_mode & 07777) != 0) {
    const int code = errno;
    if (!temporary_.empty()) unlink(temporary_.c_str());
    close(fd_);
    Fail("cannot be created", code);
  }
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  if (!temporary_.empty()) unlink(temporary_.c_str());
  KeepIfKilled();
  close(fd_);
}

void OutputFile::Fail(const std::string& what, int code) const {
  throw Failure(kCannotWrite, fmt::format("{}: {}: {}", path_, what, std::strerror(code)));
}

void OutputFile::ChooseTemporary() {
  temporary_ = fmt::format("{}/.{}{}{}-{}", folder_, name_.substr(0, 200), kMark, getpid(), ++attempts_);  // 255 are allowed
}

void OutputFile::OpenNamed() {
  for (;;) {
    ChooseTemporary();
    // A signal in between would leave the file behind.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    fd_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    const int code = errno;
    if (fd_ >= 0) RemoveIfKilled(temporary_);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (fd_ < 0 && code == EEXIST) continue;  // it is another's
    if (fd_ < 0) Fail("cannot be created", code);
    // Before it is locked, another run may take it for a dead one and remove it.
    struct stat info = {};
    if (Lock(fd_) && fstat(fd_, &info) == 0 && info.st_nlink > 0) return;
    unlink(temporary_.c_str());
    close(fd_);
  }
}

void OutputFile::Write(std::int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    StopIfInterrupted();
    const ssize_t n = pwrite(fd_, bytes.data(), bytes.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) Fail("cannot be written in full", n < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += n;
    unsynced_ += n;
  }
#if defined(SYNC_FILE_RANGE_WRITE)
  // Started early, so that little is left for the fsync at the end: no signal ends that.
  constexpr std::int64_t kEvery = 32 << 20;
  if (unsynced_ < kEvery) return;
  unsynced_ = 0;
  sync_file_range(fd_, 0, 0, SYNC_FILE_RANGE_WRITE);
#endif
}

int OutputFile::LinkTo(const std::string& name) const {
  return linkat(AT_FDCWD, ProcPath(fd_).c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
}

int OutputFile::Name() {
  if (temporary_.empty()) {
    int code = LinkTo(path_);
    if (code != EEXIST || !force_) return code;
    do {
      ChooseTemporary();
      code = LinkTo(temporary_);
    } while (code == EEXIST);
    if (code != 0) {
      temporary_.clear();
      return code;
    }
    RemoveIfKilled(temporary_);
  }
  if (!force_) return RenameToNew(temporary_.c_str(), path_.c_str());
  return std::rename(temporary_.c_str(), path_.c_str()) == 0 ? 0 : errno;
}

void OutputFile::Commit() {
  int synced = 0;
  do {
    StopIfInterrupted();
    synced = fsync(fd_);
  } while (synced != 0 && errno == EINTR);
  if (synced != 0) Fail("cannot be written in full", errno);
  StopIfInterrupted();
  const int code = Name();
  if (code == EEXIST) throw Failure(kCannotWrite, fmt::format("{}: appeared meanwhile; --force replaces it", path_));
  if (code != 0) Fail("cannot be named", code);
  KeepIfKilled();
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
