#include "input_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "interrupt.h"
#include "verbs.h"

namespace isonorm_cli {

InputFile::InputFile(const std::string& path) : path_(path), fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  struct stat info = {};
  if (fd_ < 0 || fstat(fd_, &info) != 0) {
    const int why = errno;
    if (fd_ >= 0) close(fd_);
    throw Failure(kBadInput, fmt::format("{}: cannot be read: {}", path, std::strerror(why)));
  }
  if (!S_ISREG(info.st_mode)) {  // O_NONBLOCK above: opening a pipe that nobody writes must not wait
    close(fd_);
    throw Failure(kBadInput, fmt::format("{}: is not a regular file", path));
  }
  size_ = info.st_size;
  posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL);
}

InputFile::~InputFile() { close(fd_); }

void InputFile::Read(std::int64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    StopIfInterrupted();
    const ssize_t n = pread(fd_, out.data(), out.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw FormatError(Defect::kRead, fmt::format("cannot be read: {}", std::strerror(errno)));
    if (n == 0) throw FormatError(Defect::kTruncated, "the file ends too early");
    out = out.subspan(static_cast<std::size_t>(n));
    offset += n;
  }
}

TensorFile LoadHeader(const InputFile& file) {
  try {
    return ReadHeader(file);
  } catch (const FormatError& e) {
    throw Failure(kBadInput, fmt::format("{}: {}", file.path(), e.what()));
  }
}

}  // namespace isonorm_cli
