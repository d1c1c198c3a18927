// A file that appears whole or not at all.
//
// The bytes go to a file without a name in the same folder. Commit() brings them to the disk and gives the file its name in one
// step; without it nothing stays, whatever ended the work: an error, a full disk, Ctrl-C, SIGKILL.
//
// Two cases need a hidden name on the way: a file system without files that have no name, and the moment between naming and
// replacing another file. SIGKILL leaves such a file behind. It was locked by its writer, so that the next run which writes to
// the folder sees that nobody is at work on it, and removes it.
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
  // The next hidden name to try.
  void ChooseTemporary();
  void OpenNamed();
  int LinkTo(const std::string& name) const;  // of a file without a name; an errno
  int Name();                                 // an errno

  std::string path_;
  std::string folder_, name_;
  std::string temporary_;  // "": the file has no name yet
  bool force_;
  int fd_ = -1;
  int attempts_ = 0;
  std::int64_t unsynced_ = 0;
};

}  // namespace isonorm_cli
