// A file that appears whole or not at all.
//
// The bytes go to a temporary file in the same folder. Commit() brings them to the disk and gives the file its name in one
// step; without it nothing stays, whatever ended the work: an error, a full disk, Ctrl-C.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace isonorm_cli {

class OutputFile {
 public:
  // force: an existing regular file may be replaced. Every failure here and below is thrown as Failure(kCannotWrite).
  OutputFile(const std::string& path, bool force);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // Writes at an offset, in any order; the caller leaves no holes. Throws Failure(kInterrupted) after Ctrl-C.
  void Write(std::int64_t offset, std::span<const std::byte> bytes);
  void Commit();

 private:
  [[noreturn]] void Fail(const std::string& what, int code) const;

  std::string path_;
  std::string folder_;
  std::string temporary_;
  bool force_;
  int fd_ = -1;
};

}  // namespace isonorm_cli
