// Runs the program as a user does.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "files.h"

namespace isonorm_test {

struct Outcome {
  int exit_code = -1;  // -1: a signal ended it
  int signal = 0;
  std::string out, err;
  std::int64_t max_resident = 0;  // bytes
};

struct RunOptions {
  std::int64_t file_size_limit = -1;                  // bytes that a file may grow to: a full disk that needs no disk
  std::string stdout_path = {};                       // "": collected in Outcome
  std::string stderr_path = {};                       // likewise
  std::vector<int> closed = {};                       // descriptors that the program starts without
  bool broken_stdout = false;                         // a pipe that nobody reads
  std::vector<std::pair<int, int>> descriptors = {};  // of ours, and the numbers that the program gets them under
  std::vector<std::string> environment = {};          // "NAME=value", added
};

// A running program; the destructor kills what still runs.
class Program {
 public:
  explicit Program(const std::vector<std::string>& argv, const RunOptions& options = {});
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  void Signal(int signal) const;
  bool Running();
  bool Opened(const std::string& part) const;  // whether one of its files has this in its name
  Outcome Wait();

 private:
  Folder streams_;
  pid_t pid_ = -1;
};

Outcome RunCli(const std::vector<std::string>& args, const RunOptions& options = {});
std::vector<std::string> CliCommand(const std::vector<std::string>& args);

}  // namespace isonorm_test
